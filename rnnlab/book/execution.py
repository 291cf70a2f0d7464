"""How the book's pages are executed, by whomever: the environment of their kernels, what their results depend on, when.

The book's Sphinx extension and the rebuild share these. Standard library only.
"""

import ast
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "matplotlib", "sympy", "xarray")
# What pages import or read, and the endings of its files.
SOURCES = {
    "rnnlab": (".py", ".cpp", ".mplstyle"),
    "book/results": (".json", ".summary"),
    "book/claims.yml": (".yml",),
}
ABSENT = "absent"
STAMP = "rnnlab"  # the key of a notebook's metadata that holds its stamp

# Variables that would change what a page computes, draws or says, but for those that only say where something is.
FORGOTTEN = re.compile(
    r"(ATEN|DNNL|GOMP|JUPYTER|KMP|LC|MKL|NPY|NVIDIA_TF32|OMP|ONEDNN|OPENBLAS|RNNLAB|TORCH_ALLOW)_.*"
    r"|(IPYTHON|PYTHON).*|LANG|LANGUAGE|MPLBACKEND|TRITON_INTERPRET|TZ"
)
KEPT = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE"),
    *("RNNLAB_BAR", "RNNLAB_CACHE", "RNNLAB_DATA", "RNNLAB_STORE", "JUPYTER_RUNTIME_DIR"),
)


def known(environment: Mapping[str, str], *, threads: int = 1) -> dict[str, str]:
    """Return an environment in which a page gives the same, whatever its reader's `environment` is.

    Args:
        environment: the reader's, of which the rest stays: where files, programs and devices are.
        threads: of a process. A sum split over threads depends, in its last digits, on how many there are.
    """
    kept = {name: value for name, value in environment.items() if name in KEPT or not FORGOTTEN.fullmatch(name)}
    many = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    matplotlib = find_spec("matplotlib")  # its own file of settings stands in for the reader's
    plain = str(Path(str(matplotlib and matplotlib.origin)).with_name("mpl-data") / "matplotlibrc")
    said = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONUTF8": "1", "PYTHONHASHSEED": "0", "MATPLOTLIBRC": plain}
    return kept | many | said | {"JUPYTER_PREFER_ENV_PATH": "1"}


def prepare_kernels(root: Path) -> None:
    """Have this process start its kernels in a known environment, with the package of the checkout `root`.

    They import that one whether it is installed or not, and read no profile of their reader's. A published page shows
    no progress bar.
    """
    path = [str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    wanted = known(os.environ) | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path)), "RNNLAB_BAR": "off"}
    profile = root / "_build" / "ipython"
    profile.mkdir(parents=True, exist_ok=True)
    wanted["IPYTHONDIR"] = str(profile)
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


def start_again(script: str, *, threads: int) -> None:
    """Start this process again in a known environment, with assertions, unless it has been or runs more than `script`.

    Args:
        script: its file.
        threads: that it may use.
    """
    alone = getattr(sys.modules["__main__"], "__file__", None) == script and "IPython" not in sys.modules
    if alone and os.name == "posix" and os.environ.get("RNNLAB_STARTED") != str(os.getpid()):
        options = [word for word in sys.orig_argv[1:] if not re.fullmatch("-O+", word)]
        wanted = known(os.environ, threads=threads) | {"RNNLAB_STARTED": str(os.getpid())}
        os.execve(sys.executable, [sys.executable, *options], wanted)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on; "absent" for one that is not installed."""
    return {library: _version(library) for library in LIBRARIES}


def fingerprint(root: Path) -> str:
    """Return what the results of every page depend on, beside the page.

    That is the libraries, the package, stored results, claims, and of the machine: Python, processor, graphics cards,
    compiler. Files count by what they say to a page: comments, docstrings and the ends of lines are nothing to it.

    Args:
        root: of the checkout.
    """
    machine = [platform.python_version(), platform.machine(), _processor(), *_graphics()]
    chosen = [os.environ.get(name) for name in ("CXX", "CUDA_VISIBLE_DEVICES")]
    compilers = [shutil.which(name) for name in ("c++", "g++", "clang++")]
    seen = hashlib.sha256(repr([*versions().items(), machine, chosen, compilers]).encode())
    for source, endings in SOURCES.items():
        for path in sorted({root / source, *(root / source).rglob("*")}):
            place = path.relative_to(root)
            if path.suffix in endings and not is_litter(place) and path.is_file():
                content = hashlib.sha256(_meaning(path)).hexdigest()
                seen.update(f"{place.as_posix()} {content}\n".encode())
    return seen.hexdigest()[:16]


def is_litter(path: Path) -> bool:
    """Return whether a file is one of an editor's or a system's own, by its path or that of a folder above it."""
    return any(part.startswith((".", "#", "__pycache__")) or part.endswith(("~", "#")) for part in path.parts)


def _meaning(path: Path) -> bytes:
    """What a file says to a page."""
    content = path.read_bytes()
    if path.suffix == ".py":
        try:
            return ast.dump(_Undocumented().visit(ast.parse(content))).encode()
        except (SyntaxError, ValueError):  # it is being written
            return content
    return content if path.suffix == ".summary" else content.replace(b"\r\n", b"\n")


class _Undocumented(ast.NodeTransformer):
    """Takes the text that stands for itself, docstrings among it, out of a program."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | ast.Pass:
        return ast.Pass() if isinstance(node.value, ast.Constant) else node


def stamp(root: Path) -> dict[str, Any]:
    """Return when, with what and on what something has just been executed, for a notebook's metadata.

    Args:
        root: of the checkout.
    """
    found = {"rnnlab": _version("rnnlab"), "Python": platform.python_version(), **versions()}
    return {
        "executed": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(root),
        "versions": {library: number for library, number in found.items() if number != ABSENT},
        "machine": _machine(),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ABSENT


def _commit(root: Path) -> str:
    """The commit of a checkout, and whether its files differ from it; empty where there is no git."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--dirty= with changes"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip()


def _machine() -> str:
    """Processor, cores, graphics cards and system, without the name of the machine."""
    parts = [f"{_processor()} ({cores()} cores)", *_graphics(), f"{platform.system()} {platform.machine()}"]
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _graphics() -> list[str]:
    told = "\n".join(path.read_text() for path in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = re.findall(r"^Model:\s*(.*\S)", told, re.MULTILINE)
    return [f"{models.count(model)} x {model}" for model in sorted(set(models))]

"""How the book's pages are executed, by whomever: the environment of their kernels, what their results depend on, when.

The book's Sphinx extension and the rebuild share these. Standard library only.
"""

import hashlib
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "matplotlib", "sympy", "xarray")
SOURCES = ("rnnlab", "book/results", "book/claims.yml")
ABSENT = "absent"
STAMP = "rnnlab"  # the key of a notebook's metadata that holds its stamp


def prepare_kernels(root: Path) -> None:
    """Have the kernels that this process starts import the package of the checkout `root`, installed or not."""
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(root) not in path:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), *path]))
    # One core a page; and a sum split over threads would depend, in its last digits, on how many there are.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["RNNLAB_BAR"] = "off"  # a published page shows no progress bar


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on; "absent" for one that is not installed."""
    return {library: _version(library) for library in LIBRARIES}


def fingerprint(root: Path) -> str:
    """Return what the results of every page depend on, beside the page: libraries, the package, stored results, claims.

    Args:
        root: of the checkout.
    """
    seen = hashlib.sha256()
    for library, found in versions().items():
        seen.update(f"{library} {found}\n".encode())
    sources = [root / source for source in SOURCES]
    for path in sorted({*sources, *(path for source in sources for path in source.rglob("*"))}):
        if path.is_file() and "__pycache__" not in path.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            seen.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return seen.hexdigest()[:16]


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

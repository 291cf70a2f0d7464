"""How the book's pages are executed: in which environment, and where what they put out is kept, until what changes.

The site, the rebuild, which is the site with other parameters, and the scripts share this. A script has no more than
the standard library to run it with.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import rnnlab
from rnnlab.book import notebooks
from rnnlab.machine import cores, processor

if TYPE_CHECKING:
    from nbformat import NotebookNode

LIBRARIES = ("torch", "numpy", "matplotlib", "sympy", "xarray")
# What pages import or read, and the endings of its files; and what those read that call it by name, an f-string too.
SOURCES = {"rnnlab": (".py", ".cpp", ".mplstyle"), "book/claims.yml": (".yml",), "book/[1-9]_*": (".py",)}
STORED = {"book/results": (".json", ".summary", ".yml")}
STAMP = "rnnlab"  # the key of a notebook's metadata that holds its stamp
KEPT_WITH = ("language_info", "widgets", STAMP)  # keys that executing sets
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"

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
    os.environ.clear()
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


def versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on."""
    return {library: version(library) for library in LIBRARIES}


def fingerprint(root: Path) -> str:
    """Return what the results of every page depend on, beside the page.

    That is the libraries, the package, claims, and of the machine: Python, processor, graphics cards, compiler. Files
    count by what they say to a page: comments, docstrings and the ends of lines are nothing to it.

    Args:
        root: of the checkout.
    """
    machine = [platform.python_version(), platform.machine(), _processor(), *_graphics()]
    chosen = [os.environ.get(name) for name in ("CXX", "CUDA_VISIBLE_DEVICES")]
    compilers = [shutil.which(name) for name in ("c++", "g++", "clang++")]
    seen = hashlib.sha256(repr([*versions().items(), machine, chosen, compilers]).encode())
    for place, content in _contents(root, SOURCES).items():
        seen.update(f"{place.as_posix()} {content}\n".encode())
    return seen.hexdigest()[:16]


def stored(root: Path) -> dict[str, str]:
    """Return hashes of the files of each stored result, by the name that pages call it by.

    Args:
        root: of the checkout.
    """
    found: dict[str, str] = {}
    for place, content in _contents(root, STORED).items():
        found[place.stem] = found.get(place.stem, "") + place.suffix + content
    return found


def _contents(root: Path, sources: Mapping[str, tuple[str, ...]]) -> dict[Path, str]:
    """A hash of each file in these places that has one of their endings and is nobody's litter."""
    places = [place for source in sources for place in root.glob(source)]
    paths = sorted({path for place in places for path in (place, *place.rglob("*"))})
    endings = {ending for some in sources.values() for ending in some}
    chosen = [path for path in paths if path.suffix in endings and not notebooks.litter(path.relative_to(root))]
    files = [path for path in chosen if path.is_file()]
    return {path.relative_to(root): hashlib.sha256(notebooks.meaning(path)).hexdigest() for path in files}


def stamp(root: Path) -> dict[str, Any]:
    """Return when, with what and on what something has just been executed, for a notebook's metadata.

    Args:
        root: of the checkout.
    """
    system = f"{platform.system()} {platform.machine()}"  # without the name of the machine
    return {
        "executed": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(root),
        "versions": {"rnnlab": rnnlab.__version__, "Python": platform.python_version(), **versions()},
        "machine": ", ".join([f"{_processor()} ({cores()} cores)", *_graphics(), system]),
    }


@dataclass
class Page:
    """A page of the book: its name there, its code, later with outputs, and the command that executes it by hand.

    Once it has been executed, also the seconds of a core that this took, and where and why it failed, if it did.
    """

    name: str
    notebook: "NotebookNode" = field(repr=False)
    command: str
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class Executed:
    """The pages of a checkout that have been executed, each in a file that is there whole or not at all.

    The name of a file holds a hash of all that its page's results depend on: its code, its parameters among it, and
    `state`, the fingerprint of the checkout, and of stored results those that it names. So what an edit makes stale is
    executed again, and what it leaves, or a second edit brings back, is not.
    """

    root: Path
    folder: Path
    state: str
    stored: Mapping[str, str]

    def file(self, page: Page) -> Path:
        """Return where the executed notebook of a page is, or will be."""
        cells = [(cell.source, notebooks.tags(cell)) for cell in notebooks.code_cells(page.notebook)]
        content = json.dumps([page.notebook.metadata.kernelspec, cells, self.state, self.reads(page)], sort_keys=True)
        return self.folder / f"{page.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.ipynb"

    def reads(self, page: Page) -> dict[str, str]:
        """Return the stored results that a page names, and their manifest if it names any."""
        code = "\n".join(cell.source for cell in notebooks.code_cells(page.notebook))
        found = re.findall(r"[\"']((?:\w|\{[^}]*\})+)[\"']", code)
        words = [re.sub(r"\{[^}]*\}", r"\\w+", word) for word in found if len(re.sub(r"\{[^}]*\}", "", word)) > 2]
        named = {name: self.stored[name] for name in self.stored if any(re.fullmatch(word, name) for word in words)}
        return named | {"manifest": self.stored.get("manifest", "")} if named else {}

    def read(self, page: Page) -> bool:
        """Give a page its outputs; return whether it has any: not if it has changed since, or its file is damaged."""
        import nbformat

        try:
            done = nbformat.read(self.file(page), as_version=4)
            pairs = list(zip(notebooks.code_cells(page.notebook), notebooks.code_cells(done), strict=True))
        except Exception:  # of whatever kind: what is damaged is no notebook
            return False
        page.notebook.metadata |= {name: done.metadata[name] for name in KEPT_WITH if name in done.metadata}
        for cell, ran in pairs:
            cell.update(outputs=ran.outputs, execution_count=ran.execution_count)
        return True

    def execute(
        self, pages: Iterable[Page], *, jobs: int, on_start: Callable[[Page], None], **settings: Any
    ) -> Iterator[Page]:
        """Execute pages, and yield each as it ends; one that did not fail has been kept by then.

        Args:
            pages: in the order in which they start.
            jobs: pages to execute at a time.
            on_start: called when a page starts, from another thread.
            settings: of nbclient, such as the seconds that a cell may take, `timeout`.
        """
        pool = ThreadPoolExecutor(jobs)
        try:
            for done in as_completed([pool.submit(self._run, page, on_start, settings) for page in pages]):
                self._keep(done.result())
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, page: Page, on_start: Callable[[Page], None], settings: dict[str, Any]) -> Page:
        import psutil
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError

        def look(**_: Any) -> None:
            kernel = psutil.Process(client.km.provisioner.pid)
            page.seconds = sum(kernel.cpu_times()[:4])  # its own, and those of processes that it has waited for

        on_start(page)
        place = {"metadata": {"path": str((self.root / "book" / page.name).parent)}}
        client: Any = NotebookClient(page.notebook, resources=place, on_cell_complete=look, **settings)
        try:
            client.execute()
        except CellExecutionError as error:
            cells = enumerate(notebooks.code_cells(page.notebook), start=1)
            number, cell = [(number, cell) for number, cell in cells if cell.execution_count][-1]
            first = next(line for line in cell.source.splitlines() if line.strip())
            where = f"book/{page.name}.md, cell {number}, which begins `{first}`"
            trace = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback)
            page.failure = f"{where}: {error.ename}: {error.evalue}\n{trace}"
        except Exception as error:  # a kernel that died: the other pages go on
            page.failure = f"book/{page.name}.md: {error or type(error).__name__}"
        else:
            shown = [output for cell in notebooks.code_cells(page.notebook) for output in cell.outputs]
            for failed in (
                output for output in shown if output.output_type == "error"
            ):  # a figure, say, as it is drawn
                page.failure = f"book/{page.name}.md: could not be shown: {failed.ename}: {failed.evalue}"
        return page

    def _keep(self, page: Page) -> None:
        """Write down what did not fail; in the main thread, as Python 3.11 reads programs in one thread alone."""
        import nbformat

        if page.failure:
            return
        file = self.file(page)
        whole = file.with_suffix(f".{os.getpid()}")  # another build may execute the same
        try:
            if fingerprint(self.root) != self.state:
                raise RuntimeError("what it depends on (the package) was edited while it ran")
            told = {"command": page.command, "seconds": round(page.seconds, 1)}
            page.notebook.metadata[STAMP] = stamp(self.root) | told
            file.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(page.notebook, whole)
            os.replace(whole, file)
        except (OSError, RuntimeError) as error:  # a full disk
            page.failure = f"book/{page.name}.md: {error}"


def rebuild(root: Path, folder: Path, *, jobs: int = 0) -> NoReturn:
    """Become the process that builds the site with other parameters, beside the default one, in _build/rebuild.

    Args:
        root: top folder of a checkout.
        folder: of parameters, as `notebooks.profile` takes it.
        jobs: pages to execute at a time; as many as there are cores, unless told.

    Raises:
        ValueError: the book cannot take the parameters, or another process builds the same.
    """
    given = notebooks.profile(root, folder)  # the first to say what lacks
    import fcntl

    import yaml

    place = root / "_build" / "rebuild" / folder.resolve().name
    place.mkdir(parents=True, exist_ok=True)
    lock = os.open(place / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(f"another rebuild works on {place}; wait for it, or stop it") from None
    os.set_inheritable(lock, True)  # the hold ends with the build, however that ends
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    sphinx = config["sphinx"]
    sphinx["local_extensions"] = {name: str(root / path) for name, path in sphinx["local_extensions"].items()}
    sphinx["config"].update(rnnbook_given=given, rnnbook_jobs=jobs)
    config["title"] = f"{config['title']} ({place.name})"
    written = place / "_config.yml"
    written.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf8")
    options = ["--config", str(written), "--path-output", str(place), "-W", "--keep-going", "-n"]
    os.chdir(root)
    os.execv(sys.executable, [sys.executable, "-c", JUPYTER_BOOK, "build", "book/", *options])


def _commit(root: Path) -> str:
    """The commit of a checkout, and whether its files differ from it; empty where there is no git."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty= with changes"]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _processor() -> str:
    return processor().get("model name") or platform.processor() or platform.machine()


def _graphics() -> list[str]:
    told = "\n".join(path.read_text() for path in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = re.findall(r"^Model:\s*(.*\S)", told, re.MULTILINE)
    return [f"{models.count(model)} x {model}" for model in sorted(set(models))]

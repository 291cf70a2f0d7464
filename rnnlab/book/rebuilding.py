"""Executes every page of the book with the parameters of a profile, and builds the site from the results.

A finished page is its executed notebook, under `_build/rebuild/PROFILE/pages`, with a key in its metadata: a hash of
the page's code, its parameters, and everything else that its results depend on. It is put there whole, by a rename, so
what an interruption leaves behind is either a finished page or nothing. A page whose key still holds is not executed
again.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlab.book import myst, notebooks
from rnnlab.book.execution import STAMP, fingerprint, is_litter, prepare_kernels, stamp

if TYPE_CHECKING:
    from nbformat import NotebookNode

JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


@dataclass(frozen=True)
class Page:
    """A page that is to be executed: its name in the book, and the parameters that differ from its own.

    `command` executes it by hand, from the top folder of the checkout; `key` is a hash of what its results depend on.
    """

    name: str
    parameters: Mapping[str, Any]
    command: str
    key: str
    notebook: "NotebookNode" = field(repr=False, compare=False)


@dataclass(frozen=True)
class Profile:
    """A book with the parameters of each of its pages; what comes of it is put in `folder`.

    `state` is the fingerprint of all that pages depend on beside themselves.
    """

    root: Path
    name: str
    pages: tuple[Page, ...]
    state: str

    @property
    def folder(self) -> Path:
        """Where the results are: `pages/` and `html/`."""
        return self.root / "_build" / "rebuild" / self.name

    def executed(self, page: Page) -> Path:
        """Where the executed notebook of a page is, or will be."""
        return self.folder / "pages" / f"{page.name}.ipynb"

    def finished(self, page: Page) -> bool:
        """Whether a page has been executed as it stands now."""
        return _metadata(self.executed(page)).get(STAMP, {}).get("key") == page.key


@dataclass(frozen=True)
class Outcome:
    """What became of a page: the seconds it took, and why and where it failed, if it did."""

    page: Page
    seconds: float
    failure: str = ""


def profile(root: Path, folder: Path) -> Profile:
    """Return what a folder of parameters asks of a book.

    Args:
        root: top folder of a checkout.
        folder: of YAML files, each named after a page; pages without a file keep their own parameters.

    Raises:
        ValueError: there is no book or no such folder; a file belongs to no page, holds a parameter that its page does
            not have, or a value of another kind than the page's own. All that is wrong is named at once.
    """
    book = root / "book"
    if not (book / "_toc.yml").is_file():
        raise ValueError(f"{root} holds no book (there is no book/_toc.yml); run this in the top folder of a checkout")
    if not folder.is_dir():
        raise ValueError(f"the profile must be a folder of parameters, such as params/quick, got {folder}")
    listed = notebooks.names(book)
    code = [name for name in listed if myst.open_page(book / f"{name}.md")]
    refused = []
    files: dict[str, Path] = {}
    for file in sorted(
        path for path in folder.rglob("*") if path.is_file() and not is_litter(path.relative_to(folder))
    ):
        its = [name for name in code if file.suffix in (".yaml", ".yml") and Path(name).name == file.stem]
        if len(its) == 1 and its[0] not in files and file.parent == folder:
            files[its[0]] = file
        else:
            stems = ", ".join(f"{Path(name).name}.yaml" for name in code)
            refused.append(f"{file}: belongs to no page, or not to one alone; a profile may hold {stems}")
    state, pages = fingerprint(root), []
    for name in code:
        try:
            pages.append(_page(book, name, files.get(name), state))
        except ValueError as refusal:
            refused += str(refusal).splitlines()
    if refused:
        raise ValueError("\n".join(refused))
    return Profile(root, folder.resolve().name, tuple(pages), state)


def execute(profile: Profile, *, jobs: int, on_start: Callable[[Page], None] = lambda page: None) -> Iterator[Outcome]:
    """Execute the pages that are not finished, and yield what became of each as it ends.

    Args:
        profile: from `profile`.
        jobs: pages to execute at a time.
        on_start: called when a page starts, from another thread.
    """
    prepare_kernels(profile.root)
    # The longest first, so that it does not run alone at the end; what has never run may be the longest.
    waiting = sorted((p for p in profile.pages if not profile.finished(p)), key=lambda p: _seconds(profile, p))[::-1]
    with _alone(profile.folder):
        running = profile.folder / "running"
        shutil.rmtree(running, ignore_errors=True)
        pool = ThreadPoolExecutor(jobs)
        try:
            for done in as_completed([pool.submit(_execute, profile, page, on_start) for page in waiting]):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if not any(running.rglob("*.ipynb")):  # those of pages that failed stay
            shutil.rmtree(running, ignore_errors=True)


def build(profile: Profile) -> Path:
    """Build the site from the executed pages, strictly, beside the default one; return its folder.

    Raises:
        ValueError: a page has not been executed, or Sphinx found fault with the book; it said with what.
    """
    if missing := [page.name for page in profile.pages if not profile.finished(page)]:
        raise ValueError(f"no site is built before every page has been executed; missing: {', '.join(missing)}")
    made, site = profile.folder / "new", profile.folder / "html"
    shutil.rmtree(made, ignore_errors=True)
    config = _write_config(profile)
    places = ["--config", str(config), "--path-output", str(made)]
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", "book/", *places, "-W", "--keep-going", "-n"]
    if subprocess.run(command, cwd=profile.root, check=False).returncode:
        raise ValueError(f"the site was not built, for the reasons above; what there is of it is in {made}")
    shutil.rmtree(site, ignore_errors=True)
    os.replace(made / "_build" / "html", site)
    shutil.rmtree(made)
    return site


def _page(book: Path, name: str, file: Path | None, state: str) -> Page:
    notebook = myst.page(book / f"{name}.md")
    known = notebooks.defaults(notebook)
    given = notebooks.values(file) if file else {}
    if refused := notebooks.refusals(given, known):
        raise ValueError("\n".join(f"{file}: {sentence}" for sentence in refused))
    parameters = {key: value for key, value in given.items() if value != known[key]}
    cells = [(cell.source, notebooks.tags(cell)) for cell in notebooks.code_cells(notebook)]
    content = json.dumps([name, cells, parameters, state], sort_keys=True)
    source = ["-f", os.path.relpath(file, book.parent)] if file else []
    command = shlex.join(["papermill", f"book/{name}.md", f"{Path(name).name}.ipynb", *source])
    return Page(name, parameters, command, hashlib.sha256(content.encode()).hexdigest(), notebook)


def _execute(profile: Profile, page: Page, on_start: Callable[[Page], None]) -> Outcome:
    """Execute one page, out of the way; put it where finished pages are once it is one."""
    import nbformat
    import papermill

    on_start(page)
    begun = time.monotonic()
    running = profile.folder / "running" / f"{page.name}.ipynb"
    running.parent.mkdir(parents=True, exist_ok=True)
    plain = str(running).replace("{", "{{").replace("}", "}}")  # papermill fills in what stands in braces
    try:
        done = papermill.execute_notebook(
            deepcopy(page.notebook), plain, parameters=dict(page.parameters), progress_bar=False
        )
        done.metadata[STAMP] = {"key": page.key, "command": page.command, **stamp(profile.root)}
        nbformat.write(done, running)
        if fingerprint(profile.root) != profile.state:
            raise RuntimeError("what it depends on (the package, book/results) was edited while it ran")
        profile.executed(page).parent.mkdir(parents=True, exist_ok=True)
        os.replace(running, profile.executed(page))
    except papermill.PapermillExecutionError as error:
        first = next((line for line in error.source.splitlines() if line.strip()), "")
        number = error.exec_count - bool(page.parameters)  # papermill puts in one cell of its own
        where = f"book/{page.name}.md, cell {number}, which begins `{first}`"
        return Outcome(page, time.monotonic() - begun, f"{where}: {error.ename}: {error.evalue}")
    except Exception as error:  # a kernel that died, a full disk: the other pages go on
        return Outcome(page, time.monotonic() - begun, f"book/{page.name}.md: {error or type(error).__name__}")
    return Outcome(page, time.monotonic() - begun)


def _seconds(profile: Profile, page: Page) -> tuple[float, str]:
    """How long a page took when it was last executed, under whatever key."""
    took = _metadata(profile.executed(page)).get("papermill", {}).get("duration")
    return (took if isinstance(took, int | float) else float("inf"), page.name)


def _metadata(notebook: Path) -> dict[str, Any]:
    """The metadata of a notebook; none if it is not there, or damaged."""
    try:
        return json.loads(notebook.read_text(encoding="utf8"))["metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder against a second rebuild; the hold ends with the process, however that ends."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"another rebuild works on {folder}; wait for it, or stop it") from None
        yield


def _write_config(profile: Profile) -> Path:
    """The book's configuration, but for its title, and that pages are shown as they were executed here."""
    import yaml

    config = yaml.safe_load((profile.root / "_config.yml").read_text(encoding="utf8"))
    config["title"] = f"{config['title']} ({profile.name})"
    config.setdefault("execute", {})["execute_notebooks"] = "off"
    sphinx = config.setdefault("sphinx", {})
    extensions = sphinx.get("local_extensions", {})
    sphinx["local_extensions"] = {name: str(profile.root / path) for name, path in extensions.items()}
    sphinx.setdefault("config", {})["rnnbook_pages"] = str(profile.folder / "pages")
    written = profile.folder / "_config.yml"
    written.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf8")
    return written

"""Reads a page in MyST Markdown as a notebook: for papermill, the rebuild, the scripts and the site alike.

What is a code cell is decided by myst-nb's own reader. papermill chooses a reader by the beginning of an address:
`pyproject.toml` registers this one for `book/` and `./book/` (a checkout's pages, from its top folder) and for
`myst://` (any MyST notebook, from anywhere). papermill imports this module whenever it starts, hence the imports inside
functions.
"""

import json
import re
import sys
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

SCHEME = "myst://"
# The syntax of the book, as in _config.yml: what belongs to a block decides where a cell may stand.
EXTENSIONS = ("amsmath", "colon_fence", "deflist", "dollarmath", "substitution")
TAGS_AS_TEXT = re.compile(r"^([ \t]*(?::tags:|tags:(?=.*\S)))[ \t]*((?:[\w-]+[ \t,]+)*[\w-]*)$", re.MULTILINE)
WORD = re.compile(r"[\w-]+")

# papermill warns about every input that is not called .ipynb, also when a reader for it is registered.
warnings.filterwarnings("ignore", message=r"The specified file \(.*\.md\) does not end in", category=UserWarning)


def open_page(path: Path) -> "NotebookNode | None":
    """Return the page in a file as a notebook without outputs; None if it has no code cell, and so is prose.

    Its header is completed, and its tags are lists. The language is the header's, else that of the kernel that the
    header names, else Python.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: it cannot be read; the reason says where.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no page '{path}' in {Path.cwd()}{_others(path)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error}") from None
    read = _read(text, path) if "{code-cell}" in text else None
    return read if read and any(cell.cell_type == "code" for cell in read.cells) else None


def page(path: Path) -> "NotebookNode":
    """Return the page in a file, which has to have code, as `open_page` does.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: it cannot be read, or has no code.
    """
    if (found := open_page(path)) is None:
        raise ValueError(f"{path} has no code cell, so there is nothing to run")
    return found


class MystHandler:
    """What papermill asks of a reader, for pages in MyST Markdown; everything else goes to papermill's own."""

    @staticmethod
    def read(path: str) -> str:
        """Return the page at `path` as the JSON text of a notebook.

        Raises:
            FileNotFoundError: there is no such page.
            ValueError: it has no code cell, so that there is nothing to run, or cannot be read.
        """
        place = path.removeprefix(SCHEME)
        if not place.endswith(".md"):
            return _local().read(place)

        import nbformat

        read = page(Path(place))
        del read.metadata["source_map"]
        return nbformat.writes(read)

    @staticmethod
    def write(buf: str, path: str) -> None:
        """Write a notebook's JSON text to `path`.

        Raises:
            ValueError: `path` ends in .md, where the JSON would replace a page.
        """
        place = path.removeprefix(SCHEME)
        if place.endswith(".md"):
            raise ValueError(f"papermill's output is a notebook: its name must end in .ipynb, got {place!r}")
        _local().write(buf, place)

    @staticmethod
    def listdir(path: str) -> list[str]:
        """Return what lies in the folder `path`."""
        return _local().listdir(path.removeprefix(SCHEME))

    @staticmethod
    def pretty_path(path: str) -> str:
        """Return `path` as papermill shows it."""
        return path


def _read(text: str, path: Path) -> "NotebookNode":
    import nbformat
    from myst_nb.core.read import read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    settings: dict[str, Any] = {"config": MdParserConfig(enable_extensions=set(EXTENSIONS)), "add_source_map": True}
    try:
        try:
            read = read_myst_markdown_notebook(text, path=path, **settings)
        except nbformat.ValidationError:  # nbformat's word on a cell whose tags are no list
            text = TAGS_AS_TEXT.sub(lambda found: f"{found[1]} [{', '.join(WORD.findall(found[2]))}]", text)
            read = read_myst_markdown_notebook(text, path=path, **settings)
    except Exception as error:  # of whatever kind: the reader trusts that a header holds what it looks for
        reason = " ".join(str(getattr(error, "message", error)).split())
        raise ValueError(f"{path} cannot be read as a MyST notebook: {reason}") from None
    header = json.loads(json.dumps(read.metadata, default=str))
    read.metadata = nbformat.from_dict(header | _kernel(header))
    return read


def _kernel(header: dict[str, Any]) -> dict[str, Any]:
    """What a header says about its kernel, completed."""
    said = header.get("kernelspec")
    spec = {"name": "python3"} | (said if isinstance(said, dict) else {})
    language = str(spec.get("language") or _language(str(spec["name"])))
    spec = {"display_name": spec["name"]} | spec
    return {"kernelspec": spec, "language_info": {"name": "python" if "python" in language else language}}


def _language(kernel: str) -> str:
    from jupyter_client.kernelspec import NoSuchKernel, get_kernel_spec

    try:
        return get_kernel_spec(kernel).language
    except NoSuchKernel:
        return "python"


def _local() -> Any:
    from papermill.iorw import papermill_io

    return papermill_io.get_handler("local")


def _others(page: Path) -> str:
    """The pages that may have been meant."""
    from difflib import get_close_matches

    book = Path("book") if page.parts[0] == "book" or page.parent == Path() else page.parent
    pages = {path.as_posix(): path.stem for path in sorted(book.rglob("*.md"))} if book.is_dir() else {}
    close = get_close_matches(page.stem, pages.values(), n=3)
    near = [path for path, stem in pages.items() if stem in close] or list(pages)[:10]
    return f"; there is {', '.join(near)}" if near else f"; from elsewhere than a checkout, write {SCHEME}PATH"


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End papermill's command in what went wrong, without the way there through papermill."""
    import yaml
    from nbformat.reader import NotJSONError
    from papermill.exceptions import PapermillException, PapermillExecutionError

    place = traceback.extract_tb(trace)[-1].filename
    traceback.clear_frames(trace)  # else papermill's bar would write after us
    if isinstance(error, PapermillExecutionError):
        said = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
        names = [name for name in re.findall(r"(?m)^(.*?) = ", error.source) if not name.isidentifier()]
        if names and error.ename == "SyntaxError" and error.source.startswith("# Parameters\n"):
            said = f"papermill: {', '.join(names)} is no parameter of this page: names hold letters, digits and _"
    elif isinstance(error, yaml.YAMLError):
        said = f"papermill: the parameters (-f, -y) are not YAML: {' '.join(str(error).split())}"
    elif isinstance(error, NotJSONError):
        page = next(word for word in sys.argv if word.endswith(".md"))
        said = f"papermill: a page whose path does not begin with book/ is opened as {SCHEME}{page}"
    elif isinstance(error, TypeError | ValueError) and Path(place).parts[-2:] == ("papermill", "cli.py"):
        said = "papermill: parameters (-f, -y, -b) must be lines such as `seeds: 5`"
    elif isinstance(error, PapermillException | OSError | ValueError):
        said = f"papermill: {error}"
    else:
        sys.__excepthook__(kind, error, trace)
        return
    print(said, file=sys.stderr)


# Only for `papermill PAGE.md ...`, whose parameters papermill itself reads before it asks for the page.
if any(word.endswith(".md") for word in sys.argv) and "papermill" in {Path(word).stem for word in sys.orig_argv}:
    sys.excepthook = _end

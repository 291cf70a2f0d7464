"""Lets papermill open the book's pages as they stand: `papermill book/5_experiments/temporal_order.md out.ipynb`.

papermill chooses a reader by the beginning of an address. `pyproject.toml` registers this one for `book/` and
`./book/` (a checkout's pages, from its top folder) and for `myst://` (any MyST notebook, from anywhere). papermill
imports this module whenever it starts, hence the imports inside functions.
"""

import warnings
from pathlib import Path
from typing import Any

SCHEME = "myst://"

# papermill warns about every input that is not called .ipynb, also when a reader for it is registered.
warnings.filterwarnings("ignore", message=r"The specified file \(.*\.md\) does not end in", category=UserWarning)


class MystHandler:
    """What papermill asks of a reader, for pages in MyST Markdown; everything else goes to papermill's own."""

    @staticmethod
    def read(path: str) -> str:
        """Return the page at `path` as the JSON text of a notebook.

        Raises:
            FileNotFoundError: there is no such page.
            ValueError: the page has no code, so there is nothing to run.
        """
        place = _place(path)
        if not place.endswith(".md"):
            return _local().read(place)
        if not Path(place).is_file():
            raise FileNotFoundError(f"no page {place!r} in {Path.cwd()}{_others(Path(place))}")

        import jupytext
        import nbformat

        notebook = jupytext.reads(Path(place).read_text(encoding="utf8"), fmt="md:myst")
        if not any(cell.cell_type == "code" for cell in notebook.cells):
            raise ValueError(f"{place} has no code cell, so there is nothing for papermill to run")
        notebook.metadata.setdefault("language_info", {"name": "python"})
        return nbformat.writes(notebook)

    @staticmethod
    def write(buf: str, path: str) -> None:
        """Write a notebook's JSON text to `path`.

        Raises:
            ValueError: `path` ends in .md, where the JSON would replace a page.
        """
        place = _place(path)
        if place.endswith(".md"):
            raise ValueError(f"papermill's output is a notebook: its name must end in .ipynb, got {place!r}")
        _local().write(buf, place)

    @staticmethod
    def listdir(path: str) -> list[str]:
        """Return what lies in the folder `path`."""
        return _local().listdir(_place(path))

    @staticmethod
    def pretty_path(path: str) -> str:
        """Return `path` as papermill shows it."""
        return path


def _place(path: str) -> str:
    return path.removeprefix(SCHEME)


def _local() -> Any:
    from papermill.iorw import papermill_io

    return papermill_io.get_handler("local")


def _others(page: Path) -> str:
    """The pages that may have been meant."""
    from difflib import get_close_matches

    book = Path(page.parts[0]) if page.parts[0] == "book" else page.parent
    pages = [p.as_posix() for p in sorted(book.rglob("*.md"))] if book.is_dir() else []
    near = get_close_matches(page.as_posix(), pages, n=3) or pages[:10]
    return f"; there is {', '.join(near)}" if near else f"; from elsewhere than a checkout, write {SCHEME}PATH"

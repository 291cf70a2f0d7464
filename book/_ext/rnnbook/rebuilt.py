"""Has the site read pages as papermill does, and shows a rebuild: the pages with what they put out under papermill.

The pages stay where they are, so that their links and their prose are those of the default site.
"""

from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from myst_nb import sphinx_
from myst_nb.core.read import NbReader, create_nb_reader
from nbformat import NotebookNode

from rnnlab.book.myst import notebook


def setup(app):
    # Folder of the executed notebooks; empty in the default build.
    app.add_config_value("rnnbook_pages", "", "env", str)
    app.connect("builder-inited", read_pages)


def read_pages(app) -> None:
    """Have myst-nb read each page by our function; in a rebuild's site with its outputs, and nothing is executed."""

    def reader(path: str, settings: Any, *more: Any) -> NbReader | None:
        if not path.endswith(".md"):
            return create_nb_reader(path, settings, *more)
        if notebook(more[-1], path) is None:
            return None
        done = executed(app.config, app.env.path2doc(path) or "") if app.config.rnnbook_pages else None
        return NbReader(partial(_read, path=path, done=done), settings, {"type": "plugin", "name": "myst_nb_md"})

    sphinx_.create_nb_reader = reader


def executed(config, docname: str) -> NotebookNode | None:
    """Return a page as papermill executed it; None for prose."""
    path = Path(config.rnnbook_pages) / f"{docname}.ipynb"
    return nbformat.read(path, as_version=4) if path.is_file() else None


def _read(text: str, *, path: str, done: NotebookNode | None) -> NotebookNode | None:
    page = notebook(text, path)
    return fill(page, done) if page and done else page


def fill(page: NotebookNode, done: NotebookNode) -> NotebookNode:
    """Return a page with the outputs of its code, and with the cell of parameters that papermill put in.

    The prose may have been edited since; the code is the same, or the page would have been executed again.
    """
    cells, lines, ran = [], [], [cell for cell in done.cells if cell.cell_type == "code"]
    for cell, line in zip(page.cells, page.metadata["source_map"], strict=True):
        if cell.cell_type == "code":
            if "injected-parameters" in ran[0].metadata.get("tags", []):
                cells.append(ran.pop(0))
                lines.append(line)
            result = ran.pop(0)
            if result.source.strip() != cell.source.strip():
                raise ValueError(f"code was edited since papermill executed it; rebuild again: {cell.source[:60]!r}")
            cell.outputs, cell.execution_count = result.outputs, result.execution_count
        cells.append(cell)
        lines.append(line)
    page.cells, page.metadata["source_map"] = cells, lines
    page.metadata["language_info"] = done.metadata["language_info"]
    return page

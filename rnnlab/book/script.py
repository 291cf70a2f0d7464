"""A page as plain Python, its parameters put in, for batch queues and machines without Jupyter.

`script` writes it; what it writes imports the rest of this module to read its command line, and to keep what the page
gives to its prose.
"""

import argparse
import ast
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rnnlab
from rnnlab.book import claims, myst, notebooks, pages, running

JUPYTER = ("IPython", "ipykernel", "ipywidgets", "jupyter", "matplotlib_inline", "myst_nb", "nbformat")

HEAD = '''\
"""{title}.

The page {page} as a script, written by `rnnlab script` of rnnlab {version}. It computes on one thread,
which gives the book's numbers to the last digit; --threads gives it more.
"""

from rnnlab.book.script import begin as _begin, end as _end

_given = _begin(__doc__, __file__)
'''


def script(page: Path, given: Mapping[str, Any]) -> str:
    """Return the source of a script that computes what a page does.

    Args:
        page: in MyST Markdown.
        given: values of its parameters by name; the others keep the page's own.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: it has no code, or not in Python; a parameter is not among its own or of another kind; a cell is no
            plain Python.
    """
    notebook = myst.page(page)
    if (language := notebook.metadata["language_info"]["name"]) != "python":
        raise ValueError(f"{page} is written in {language}, by its header; a script can be made of Python alone")
    if refused := notebooks.refusals(dict(given), notebooks.defaults(notebook)):
        raise ValueError("\n".join(f"{page}: {sentence}" for sentence in refused))
    for number, cell in enumerate(notebooks.code_cells(notebook), start=1):
        try:
            _refuse_jupyter(cell.source)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{page}, cell {number}, is no plain Python: {error}") from None
    heading = re.compile(r"^#.*", re.MULTILINE)
    parts = [
        cell.source.strip() if cell.cell_type == "code" else "\n".join(heading.findall(cell.source))
        for cell in notebooks.put_in(notebook, dict(given)).cells
    ]
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type != "code")
    title = (re.findall(r"^# (.*)", prose, re.MULTILINE) or [page.stem])[0].strip()
    title, place = (text.replace("\\", "\\\\").replace('"', '\\"') for text in (title, page.as_posix()))
    head = HEAD.format(title=title, page=place, version=rnnlab.__version__)
    source = "\n\n".join([head, *filter(None, parts), "_end(_given)\n"])
    try:
        compile(source, page.as_posix(), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = source.splitlines()[(error.lineno or 1) - 1].strip()
        raise ValueError(f"{page} is no plain Python as a whole: {error.msg}, at `{line}`") from None
    return source


def _refuse_jupyter(source: str) -> None:
    """Refuse a cell that imports what only a notebook has."""
    for node in ast.walk(ast.parse(source)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if found := [module for module in modules if module.partition(".")[0] in JUPYTER]:
            raise ValueError(f"it imports {found[0]}, which only a notebook has; rnnlab.book.pages has what pages need")


def begin(description: str | None, file: str) -> argparse.Namespace:
    """Read a script's command line, put it into a known environment, and have its figures drawn into files, or nowhere.

    Args:
        description: of the script.
        file: of the script.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glued", type=Path, metavar="FILE", help="write the numbers in the prose here, as JSON")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="keep the figures here, as SVG")
    parser.add_argument("--tables", type=Path, metavar="FOLDER", help="keep the tables that it makes here")
    parser.add_argument("--threads", type=int, default=1, help="to compute with; 1, as the book's pages, unless told")
    given = parser.parse_args()
    if given.threads < 1:
        parser.error(f"--threads must be at least 1, got {given.threads}")
    if not Path(file).is_file():  # a pipe that is read once cannot be started again
        parser.error(f"a script must be a file, got {file}: rnnlab script PAGE > page.py && python page.py")
    running.start_again(file, threads=given.threads)
    pages.tables = given.tables

    import matplotlib.pyplot as plt

    numbers = itertools.count(1)

    def show(*args: Any, **kwargs: Any) -> None:
        """Keep the open figures and close them, as a notebook does at the end of a cell."""
        for figure in map(plt.figure, plt.get_fignums()):
            _save(figure, given.figures, f"{next(numbers)}")
        plt.close("all")

    plt.switch_backend("agg")
    plt.show = show
    return given


def end(given: argparse.Namespace) -> None:
    """Say what the page claims, and write down what it glued: figures as files, numbers and text as JSON."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    plt.show()
    for finding in pages.claimed.values():
        print(claims.outputs(finding)["text/plain"])
    for name, value in pages.glued.items():
        if isinstance(value, Figure):
            _save(value, given.figures, name)
    if given.glued is not None:
        kept = {name: value for name, value in pages.glued.items() if not isinstance(value, Figure)}
        given.glued.write_text(json.dumps(kept, indent=1, default=str) + "\n", encoding="utf8")


def _save(figure: Any, folder: Path | None, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})

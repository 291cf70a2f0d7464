"""A page as plain Python, its parameters put in, for batch queues and machines without Jupyter."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import rnnlab
from rnnlab.book import myst, notebooks

DISPLAY = "IPython.display"
STAND_INS = ("Markdown", "Math", "Latex", "HTML", "display")
JUPYTER = ("IPython", "ipykernel", "ipywidgets", "jupyter", "matplotlib_inline", "myst_nb", "nbformat")
SILENT = ("print", "display", "glue", "claim", "show", "close", "style")  # calls that have no value worth printing

HEAD = '''\
"""{title}.

The page {page} as a script, written by `rnnlab script` of rnnlab {version}. It computes on one thread,
which gives the book's numbers to the last digit; --threads gives it more.
"""

from rnnlab.book import showing

_given = showing.begin(__doc__, __file__)
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
    parts, number = [], 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            parts += [f"# {heading}\n" for heading in _headings(cell.source)]
            continue
        number += 1
        source = _with_values(cell.source, given) if "parameters" in notebooks.tags(cell) else cell.source
        try:
            parts.append(_plain(source, quiet=_hidden(notebooks.tags(cell))))
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{page}, cell {number}, is no plain Python: {error}") from None
    title = next((part.lstrip("# ").strip() for part in parts if part.startswith("# ")), page.stem)
    head = HEAD.format(title=_quoted(title), page=_quoted(page.as_posix()), version=rnnlab.__version__)
    source = "\n".join([head, *parts, "showing.end(_given)\n"])
    try:
        compile(source, page.as_posix(), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ValueError(f"{page} is no plain Python as a whole: {error.msg}, at `{line}`") from None
    return source


def _quoted(text: str) -> str:
    """Text as it has to be written between three quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _headings(prose: str) -> list[str]:
    return [line.lstrip("#").strip() for line in prose.splitlines() if line.startswith("#")]


def _hidden(tags: Iterable[str]) -> bool:
    return not {"remove-cell", "remove-output", "parameters"}.isdisjoint(tags)


def _with_values(source: str, given: Mapping[str, Any]) -> str:
    """A cell of parameters with the values that are given, its comments kept."""
    found = [(node, repr(given[name])) for name, node in notebooks.literals(source) if name in given]
    return _replace(source, found)


def _plain(source: str, *, quiet: bool) -> str:
    """A cell's source without what only a notebook has: IPython's imports, the value of its last line."""
    tree = ast.parse(source)
    edits: list[tuple[ast.AST, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _refuse_jupyter(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module == DISPLAY:
            if strange := [alias.name for alias in node.names if alias.name not in STAND_INS]:
                raise ValueError(f"{strange[0]} of {DISPLAY} has no stand-in; there are {', '.join(STAND_INS)}")
            edits.append((node, ast.unparse(ast.ImportFrom("rnnlab.book.showing", node.names, 0))))
        elif isinstance(node, ast.ImportFrom):
            _refuse_jupyter(node.module or "")
    last = tree.body[-1] if tree.body else None
    shown = isinstance(last, ast.Expr) and not quiet and not source.rstrip().endswith(";")
    if isinstance(last, ast.Expr) and shown and not _silent(last.value):
        text = ast.get_source_segment(source, last.value) or ""
        whole = f"({text})" if isinstance(last.value, ast.Tuple) else text  # it may stand there without brackets
        edits.append((last.value, f"showing.last({whole})"))
    return _replace(source, edits).rstrip() + "\n"


def _silent(value: ast.expr) -> bool:
    called = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
    return called in SILENT or called.startswith("assert_") or isinstance(value, ast.Constant)


def _refuse_jupyter(module: str) -> None:
    if module.partition(".")[0] in JUPYTER:
        raise ValueError(f"it imports {module}, which only a notebook has; rnnlab.book.pages has what pages need")


def _replace(source: str, edits: Iterable[tuple[ast.AST, str]]) -> str:
    """The source with the text of some of its nodes, none inside another, replaced."""
    lines = source.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    text = source.encode()
    for node, new in sorted(edits, key=lambda edit: (edit[0].lineno, edit[0].col_offset), reverse=True):  # type: ignore[attr-defined]
        begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        stop = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        text = text[:begin] + new.encode() + text[stop:]
    return text.decode()

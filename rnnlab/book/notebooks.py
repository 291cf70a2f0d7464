"""The book's pages as notebooks: which there are, what parameters they have, and whether values for these will do."""

import ast
import contextlib
import os
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlab.book import checks, myst

if TYPE_CHECKING:
    from nbformat import NotebookNode

CHECKS: dict[type, checks.Check] = {bool: checks.flag, int: checks.integer, float: checks.number}


def code_cells(notebook: "NotebookNode") -> list["NotebookNode"]:
    """Return a notebook's cells of code, in their order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: "NotebookNode") -> list[str]:
    """Return the tags of a cell."""
    return cell.metadata.get("tags", [])


def defaults(notebook: "NotebookNode") -> dict[str, Any]:
    """Return a page's parameters by name, with the values they have on the page.

    Raises:
        ValueError: a parameter is something else than a literal of Python.
    """
    found: dict[str, Any] = {}
    for cell in code_cells(notebook):
        if "parameters" in tags(cell):
            try:
                found |= {name: ast.literal_eval(node) for name, node in literals(cell.source)}
            except (SyntaxError, ValueError) as error:
                raise ValueError(f"parameters must be literals of Python, got {cell.source!r}: {error}") from None
    return found


def literals(source: str) -> list[tuple[str, ast.expr]]:
    """Return what a cell of parameters assigns: names, and the expressions that are their values."""
    found = []
    for statement in ast.parse(source).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(target, ast.Name) and (value := getattr(statement, "value", None)) is not None:
            found.append((target.id, value))
    return found


def put_in(notebook: "NotebookNode", given: dict[str, Any]) -> "NotebookNode":
    """Return a page with the values that are given where its parameters have their own; the comments there stay."""
    notebook = deepcopy(notebook)
    for cell in code_cells(notebook) if given else []:
        if "parameters" in tags(cell):
            lines = cell.source.encode().splitlines(keepends=True)
            for name, node in reversed(literals(cell.source)):
                if name in given:
                    first, last = lines[node.lineno - 1], lines[(node.end_lineno or 0) - 1]
                    text = first[: node.col_offset] + repr(given[name]).encode() + last[node.end_col_offset :]
                    lines[node.lineno - 1 : node.end_lineno] = [text]
            cell.source = b"".join(lines).decode()
    return notebook


def profile(root: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a folder of parameters gives to the pages of a book: by page, the `file` and the `values` in it.

    Only values that differ from the page's own are there.

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
    from sphinx_external_toc.parsing import parse_toc_yaml

    if not folder.is_dir():
        raise ValueError(f"the profile must be a folder of parameters, such as params/quick, got {folder}")
    contents = parse_toc_yaml(book / "_toc.yml")
    pages = {name: page for name in contents if (page := myst.open_page(book / f"{name}.md"))}
    given: dict[str, dict[str, Any]] = {}
    refused = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not litter(path.relative_to(folder))):
        its = [name for name in pages if file.suffix in (".yaml", ".yml") and Path(name).name == file.stem]
        if len(its) != 1 or its[0] in given or file.parent != folder:
            stems = ", ".join(f"{Path(name).name}.yaml" for name in pages)
            refused.append(f"{file}: belongs to no page, or not to one alone; a profile may hold {stems}")
            continue
        try:
            own, found = defaults(pages[its[0]]), values(file)
            refused += [f"{file}: {sentence}" for sentence in refusals(found, own)]
            differing = {name: value for name, value in found.items() if value != own.get(name)}
            given[its[0]] = {"file": os.path.relpath(file, root), "values": differing}
        except ValueError as refusal:
            refused.append(str(refusal))
    if refused:
        raise ValueError("\n".join(refused))
    return given


def litter(path: Path) -> bool:
    """Return whether a file is one of an editor's or a system's own, by its path or that of a folder above it."""
    return any(part.startswith((".", "#", "__pycache__")) or part.endswith(("~", "#")) for part in path.parts)


def meaning(path: Path) -> bytes:
    """Return what a file says to a page: comments, docstrings and the ends of lines are nothing to it."""
    content = path.read_bytes()
    if path.suffix == ".py":
        with contextlib.suppress(SyntaxError, ValueError):  # it is being written
            return ast.dump(_Undocumented().visit(ast.parse(content))).encode()
    return content if path.suffix == ".summary" else content.replace(b"\r\n", b"\n")


class _Undocumented(ast.NodeTransformer):
    """Takes the text that stands for itself, docstrings among it, out of a program."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | ast.Pass:
        return ast.Pass() if isinstance(node.value, ast.Constant) else node


def values(file: Path) -> dict[str, Any]:
    """Return the parameters in a YAML file, as papermill reads them.

    Raises:
        ValueError: it is not YAML, or no list of names and values.
    """
    return _mapping(file.read_text(encoding="utf8"), file)


def value(text: str) -> Any:
    """Return a parameter as typed after -p: a number, True, False, None, a list in brackets, else text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return next(iter(_mapping(f"value: {text}", f"-p ... {text}").values()))


def refusals(given: dict[str, Any], known: dict[str, Any]) -> list[str]:
    """Return why a page cannot take the parameters `given`, a sentence for each that it cannot; none if it can.

    Args:
        given: values by name.
        known: the page's own, from `defaults`; what comes has to be of the same kind.
    """
    said = []
    for name, value in given.items():
        try:
            if name not in known:
                raise ValueError(checks.unknown(name, repr(value), known))
            _check(name, value, known[name])
        except ValueError as refusal:
            said.append(str(refusal))
    return said


def _check(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default's; a whole number will do where the default is a float."""
    kinds = {type(item) for item in default} if isinstance(default, list | tuple) else set()
    if type(default) in CHECKS:
        CHECKS[type(default)](name, value)
    elif kinds and kinds <= {int, float}:
        (checks.integers if kinds == {int} else checks.numbers)(name, value)
    elif default is not None and not isinstance(value, list | tuple if kinds else type(default)):
        raise ValueError(
            f"{name} must be {'text' if isinstance(default, str) else f'a {type(default).__name__}'}, got {value!r}"
        )
    elif len(kinds) == 1:
        for i, item in enumerate(value):
            _check(f"{name}[{i}]", item, default[0])


def _mapping(text: str, source: Path | str) -> dict[str, Any]:
    import yaml
    from papermill.iorw import NoDatesSafeLoader

    try:
        read = yaml.load(text, Loader=NoDatesSafeLoader) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML: {error}") from None
    if not isinstance(read, dict) or not all(isinstance(name, str) for name in read):
        raise ValueError(f"{source} must hold lines such as `seeds: 5`, got {text[:60]!r}")
    return read

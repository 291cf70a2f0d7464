"""The book's pages as notebooks: which there are, what parameters they have, and whether values for these will do."""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlab.book import pages

if TYPE_CHECKING:
    from nbformat import NotebookNode


def names(book: Path) -> list[str]:
    """Return the documents that a book's contents list, prose among them, without their endings.

    Args:
        book: folder that holds `_toc.yml`.
    """
    from sphinx_external_toc.parsing import parse_toc_yaml

    return list(parse_toc_yaml(book / "_toc.yml"))


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
        if name not in known:
            said.append(pages.unknown(name, repr(value), known))
            continue
        try:
            _check(name, value, known[name])
        except ValueError as refusal:
            said.append(str(refusal))
    return said


def _check(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default's; a whole number will do where the default is a float."""
    kinds = {type(item) for item in default} if isinstance(default, list | tuple) else set()
    if isinstance(default, bool):
        _expect(name, value, "True or False", isinstance(value, bool))
    elif isinstance(default, int):
        pages.integer(name, value)
    elif isinstance(default, float):
        pages.number(name, value)
    elif kinds == {int}:
        pages.integers(name, value)
    elif kinds and kinds <= {int, float}:
        pages.numbers(name, value)
    elif isinstance(default, list | tuple):
        _expect(name, value, "a list", isinstance(value, list | tuple))
        for i, item in enumerate(value if len(kinds) == 1 else ()):
            _check(f"{name}[{i}]", item, default[0])
    elif default is not None:
        kind = "text" if isinstance(default, str) else f"a {type(default).__name__}"
        _expect(name, value, kind, isinstance(value, type(default)))


def _expect(name: str, value: Any, wanted: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


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

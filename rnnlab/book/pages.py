"""What the book's pages import beside the science: checks of parameters, numbers put into the prose, claims.

A page's parameters may come from papermill, which checks neither names nor types. So a page hands them to `given`,
each with one of the checks below, before it computes anything.
"""

import ast
import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import xarray

from rnnlab.book import claims

if TYPE_CHECKING:
    from rnnlab.training.progress import Progress

F = TypeVar("F", bound=Callable)
T = TypeVar("T")
Check = Callable[[str, Any], Any]  # name and value in, the value as the page is to have it out

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"

checked: dict[str, None] = {}  # names of parameters, in their order
glued: dict[str, Any] = {}
claimed: dict[str, claims.Finding] = {}


class Refused(ValueError):
    """A value that a page cannot take: a notebook shows the one line that says why."""

    def _render_traceback_(self) -> list[str]:
        return [f"ValueError: {self}"]


def _check(check: F) -> F:
    """Have a check that is called with bounds alone return what checks a name and a value within these."""

    @functools.wraps(check)
    def call(*name_and_value: Any, **bounds: Any) -> Any:
        called = name_and_value or "name" in bounds
        return check(*name_and_value, **bounds) if called else functools.partial(check, **bounds)

    return call  # type: ignore[return-value]


@_check
def integer(name: str, value: Any, *, at_least: int | None = None, at_most: int | None = None) -> int:
    """Return `value` as an integer within its bounds; 1e6, a whole number written as a float, is one.

    Raises:
        ValueError: `value` is no whole number (True and False are none), or lies outside the bounds.
    """
    _note(name)
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not _within(value, at_least=at_least, at_most=at_most):
        raise _refusal(name, value, "an integer" + _bounds(at_least=at_least, at_most=at_most))
    return int(value)


@_check
def integers(name: str, values: Any, *, at_least: int | None = None, at_most: int | None = None) -> list[int]:
    """Return a list of integers, each as `integer` would have it.

    Raises:
        ValueError: `values` is no list, is empty, holds a value twice, or one that `integer` refuses.
    """
    return _each(name, values, "integers", lambda item, value: integer(item, value, at_least=at_least, at_most=at_most))


@_check
def number(name: str, value: Any, *, above: float | None = None, at_least: float | None = None) -> float:
    """Return `value` as a finite number within its bounds.

    Raises:
        ValueError: `value` is no number (True and False are none), is infinite or NaN, or lies outside the bounds.
    """
    _note(name)
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not real or not _within(value, above=above, at_least=at_least):
        raise _refusal(name, value, "a number" + _bounds(above=above, at_least=at_least), remedy=_yaml_number(value))
    return float(value)


@_check
def numbers(name: str, values: Any, *, above: float | None = None, at_least: float | None = None) -> list[float]:
    """Return a list of numbers, each as `number` would have it.

    Raises:
        ValueError: `values` is no list, is empty, holds a value twice, or one that `number` refuses.
    """
    return _each(name, values, "numbers", lambda item, value: number(item, value, above=above, at_least=at_least))


@_check
def choice(name: str, value: Any, among: Iterable[str]) -> str:
    """Return `value`, one of the names in `among`.

    Raises:
        ValueError: it is none of them.
    """
    _note(name)
    names = list(among)
    if not isinstance(value, str) or value not in names:
        raise _refusal(name, value, "one of " + ", ".join(names))
    return value


@_check
def choices(name: str, values: Any, among: Iterable[str]) -> list[str]:
    """Return a list of names, each one of those in `among`.

    Raises:
        ValueError: `values` is no list, is empty, holds a name twice, or one that is not in `among`.
    """
    names = list(among)
    return _each(name, values, "names among " + ", ".join(names), lambda item, value: choice(item, value, names))


def flag(name: str, value: Any) -> bool:
    """Return `value`, true or false.

    Raises:
        ValueError: it is neither.
    """
    _note(name)
    if not isinstance(value, bool):
        written = str(value).lower() in ("true", "false")
        raise _refusal(
            name, value, "true or false", remedy=f"; papermill takes it as -y '{name}: {str(value).lower()}'" * written
        )
    return value


def device(name: str, value: Any) -> str:
    """Return where a page is to train: "auto", "cpu", "cuda", or one GPU by its number, such as "cuda:1".

    Raises:
        ValueError: `value` is none of these.
    """
    _note(name)
    numbered = isinstance(value, str) and value.startswith("cuda:") and value.removeprefix("cuda:").isdecimal()
    return value if numbered else choice(name, value, ["auto", "cpu", "cuda", "cuda:0"])


def given(namespace: dict[str, Any], **checks: Check) -> None:
    """Check every parameter of a page: `given(globals(), seeds=integer(at_least=2), device=device)`.

    Each name then stands for what its check returned, which is given to the prose, too.

    Args:
        namespace: of the page, `globals()`.
        checks: by the parameters' names; called without name and value, the functions above make one.

    Raises:
        ValueError: one does not pass, papermill put in something else beside them, or Python leaves out the assertions
            that pages check their results by.
    """
    for name, check in checks.items():
        namespace[name] = check(name, namespace[name])
        glue(name, namespace[name])
    ready()


def ready() -> None:
    """Say that every parameter of the page has passed its check, so that it can compute.

    Raises:
        ValueError: papermill put in something else beside them, or Python leaves out the assertions that pages check
            their results by.
    """
    if not __debug__:
        raise Refused("a page needs its assertions: start Python without -O, and without PYTHONOPTIMIZE")
    if said := [unknown(name, value, checked) for name, value in _put_in().items() if name not in checked]:
        raise Refused("\n".join(said))


def unknown(name: str, value: str, known: Iterable[str]) -> str:
    """Return the sentence that refuses a parameter.

    Args:
        name: which the page does not have.
        value: as it was written.
        known: the names of those that it has.
    """
    names = list(known)
    near = "".join(f"; did you mean {other}?" for other in get_close_matches(name, names, n=1))
    return f"{name} is no parameter of this page, which has {', '.join(names) or 'none'}; got {value}{near}"


def glue(name: str, value: Any) -> None:
    """Give `value` to the page's prose as `name`: {glue:text}`name:.2f` shows it.

    A number of torch or numpy becomes Python's own. In a script, where there is no prose, `glued` keeps the values.
    """
    value = value.item() if hasattr(value, "item") else value
    glued[name] = value
    if _in_notebook():
        from myst_nb import glue as give

        give(name, value, display=False)


def show(*values: Any) -> None:
    """Show values: text as Markdown in a notebook, as it is written in a script; anything else as it shows itself."""
    if not _in_notebook():
        print(*values, sep="\n")
        return
    from IPython.display import Markdown, display

    display(*(Markdown(value) if isinstance(value, str) else value for value in values))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, align: str = "") -> str:
    """Return a table in Markdown.

    Args:
        head: names of the columns.
        rows: entries, in the order of `head`.
        align: a letter for each column, l, c or r; words on the left and numbers on the right unless told: the first
            column left, all others right.
    """
    rules = {"l": ":--", "c": ":-:", "r": "--:"}
    line = [rules[letter] for letter in align or "l" + "r" * (len(head) - 1)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, line, *rows))


@contextmanager
def figure(name: str, *rows_and_columns: int, **how: Any) -> Iterator[tuple[Any, Any]]:
    """Give a figure to the prose as `name`: `with figure("figure_fan", 1, 2, figsize=(7, 3)) as (fig, axes): ...`.

    Args:
        name: for {glue:figure}.
        rows_and_columns: of its axes, as for `matplotlib.pyplot.subplots`.
        how: likewise.

    Yields:
        The figure and its axes.
    """
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(*rows_and_columns, **how)
    yield drawn, axes
    glue(name, drawn)
    pyplot.close(drawn)


def stored(name: str) -> xarray.Dataset:
    """The book's summary of a long run; how it came about is in its attributes.

    Args:
        name: of the file in book/results, without its ending.

    Raises:
        FileNotFoundError: there is none, as beside an installed package.
        rnnlab.training.store.DamagedError: it is not as it was written.
    """
    from rnnlab.sweeps.summaries import read_summary  # imports torch

    return read_summary(_result(f"{name}.summary"))


def measured(name: str) -> Any:
    """The book's record of a measurement of speed.

    Args:
        name: of the JSON file in book/results, without its ending.

    Raises:
        FileNotFoundError: there is none, as beside an installed package.
    """
    return json.loads(_result(f"{name}.json").read_text(encoding="utf8"))


def bar(label: str) -> "Callable[[Progress], None]":
    """Return a callback that shows on a progress bar where long work stands, for `rnnlab.train` and sweeps.

    It goes to the standard error; the pages of a book that is being built show none.
    """
    from tqdm import tqdm

    off = os.environ.get("RNNLAB_BAR") == "off"
    shown = tqdm(desc=label, file=sys.stderr, mininterval=1.0, unit_scale=True, disable=off)

    def move(now: "Progress") -> None:
        shown.total = now.total
        shown.set_postfix_str(now.note, refresh=False)
        shown.update(now.done - shown.n)
        if now.over:
            shown.close()

    return move


def claim(
    id: str,
    *,
    ours: Any,
    interval: Any = None,
    runs: Any = None,
    verdict: str,
    note: str = "",
) -> None:
    """Set a claim of the papers beside what the page found: a box on the page, and a row of the book's ledger.

    Texts are one line of Markdown, which may hold `$mathematics$` and references by label. A claim is made once in the
    book. In a script, where there is no page, `claimed` keeps it.

    Args:
        id: the row in book/claims.yml, such as "P24".
        ours: our value, a number (of torch and numpy too) or words.
        interval: both ends of the 95 % interval of our value, if it has one.
        runs: how many networks, or runs, our value comes from, if from any.
        verdict: "reproduced", "reproduced with a difference", "not reproduced" (only when run at the paper's own
            budget, or refuted by proof) or "open".
        note: which difference; why open, and at which budget; needed with every verdict but "reproduced".

    Raises:
        ValueError: an unknown id or verdict, a verdict without its note, or a value of another kind.
    """
    found = claims.finding(id, ours=ours, interval=interval, runs=runs, verdict=verdict, note=note)
    claimed[id] = found
    if _in_notebook():
        from IPython.display import display

        display(claims.outputs(found), raw=True)


def _result(file: str) -> Path:
    if not RESULTS.is_dir():
        raise FileNotFoundError(
            f"no {file}: stored results belong to the book, and the installed package has none; "
            "install that of a checkout: pip install -e '.[book]' in its top folder"
        )
    return RESULTS / file


def _note(name: str) -> None:
    if name.isidentifier():  # an item of a list is none
        checked[name] = None


def _put_in() -> dict[str, str]:
    """What papermill put into this notebook: names, and their values as it wrote them."""
    cells = sys.modules["IPython"].get_ipython().user_ns.get("In", []) if _in_notebook() else []
    body = [line for cell in cells if cell.startswith("# Parameters\n") for line in ast.parse(cell).body]
    found = {ast.unparse(line.targets[0]): ast.unparse(line.value) for line in body if isinstance(line, ast.Assign)}
    return {name: value for name, value in found.items() if not name.startswith("PAPERMILL_")}


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _within(
    value: float, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
) -> bool:
    return (
        (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (at_most is None or value <= at_most)
    )


def _bounds(**bounds: float | None) -> str:
    said = [f"{bound.replace('_', ' ')} {value}" for bound, value in bounds.items() if value is not None]
    return " " + " and ".join(said) if said else ""


def _each(name: str, values: Any, kind: str, check: Callable[[str, Any], T]) -> list[T]:
    _note(name)
    allowed = f"a list of {kind}"
    if not isinstance(values, list | tuple):
        inside = str(values).strip().strip("[()]")
        raise _refusal(name, values, allowed, remedy=f'; papermill takes a list as -y "{name}: [{inside}]"')
    if not values:
        raise _refusal(name, values, f"{allowed}, at least one")
    checked = [check(f"{name}[{i}]", value) for i, value in enumerate(values)]
    if len(set(checked)) < len(checked):
        raise _refusal(name, values, f"{allowed}, each once")
    return checked


def _yaml_number(value: Any) -> str:
    """The remedy for 1e-4, which YAML takes for text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
        return f"; YAML reads a number only with a dot: {re.sub('[eE]', '.0e', value)}"
    return ""


def _refusal(name: str, value: Any, allowed: str, *, remedy: str = "") -> Refused:
    return Refused(f"{name} must be {allowed}, got {value!r}{remedy}")

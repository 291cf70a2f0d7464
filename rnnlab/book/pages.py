"""What the book's pages import beside the science: checks of parameters, numbers put into the prose, claims.

A page's parameters may come from papermill, which checks neither names nor types. So a page hands them to `given`,
each with one of the checks of `rnnlab.book.checks`, before it computes anything. Those can be had from here too.
"""

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray

from rnnlab.book import checks, claims
from rnnlab.book.checks import choice, choices, device, flag, integer, integers, number, numbers  # noqa: F401 - for pages
from rnnlab.book.writing import listed, mean, written  # noqa: F401 - for pages
from rnnlab.machine import in_notebook
from rnnlab.training.progress import bar  # noqa: F401 - for pages

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"

tables: Path | None = None  # where `rnnlab results run` has a page, as a script, keep the tables that it makes
glued: dict[str, Any] = {}
claimed: dict[str, claims.Finding] = {}


def given(namespace: dict[str, Any], **parameters: checks.Check) -> None:
    """Check every parameter of a page: `given(globals(), seeds=integer(at_least=2), device=device)`.

    Each name then stands for what its check returned, which is given to the prose, too.

    Args:
        namespace: of the page, `globals()`.
        parameters: the check of each by its name.

    Raises:
        ValueError: one does not pass, papermill put in something else beside them, or Python leaves out the assertions
            that pages check their results by.
    """
    if not __debug__:
        raise checks.Refused("a page needs its assertions: start Python without -O, and without PYTHONOPTIMIZE")
    for name, check in parameters.items():
        namespace[name] = check(name, namespace[name])
        glue(name, namespace[name])
    if said := [checks.unknown(name, value, parameters) for name, value in _put_in().items() if name not in parameters]:
        raise checks.Refused("\n".join(said))


def glue(name: str, value: Any) -> None:
    """Give `value` to the page's prose as `name`: {glue:text}`name:.2f` shows it, `written`.

    A number of torch or numpy becomes Python's own. In a script, where there is no prose, `glued` keeps the values.
    """
    value = value.item() if hasattr(value, "item") else value
    glued[name] = value
    if in_notebook():
        from myst_nb import glue as give

        give(name, value, display=False)


def show(*values: Any) -> None:
    """Show values: text as Markdown in a notebook, as it is written in a script; anything else as it shows itself."""
    if not in_notebook():
        print(*values, sep="\n")
        return
    from IPython.display import Markdown, display

    display(*(Markdown(value) if isinstance(value, str) else value for value in values))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, align: str = "") -> str:
    """Return a table in Markdown.

    Args:
        head: names of the columns.
        rows: entries, in the order of `head`; shown as `written`, bars in them too.
        align: a letter for each column, l, c or r; words on the left and numbers on the right unless told: the first
            column left, all others right.
    """
    rules = {"l": ":--", "c": ":-:", "r": "--:"}
    line = [rules[letter] for letter in align or "l" + "r" * (len(head) - 1)]
    told = ([re.sub(r"(?<!\\)\|", r"\\|", written(str(entry))) for entry in row] for row in (head, line, *rows))
    return "\n".join("| " + " | ".join(row) + " |" for row in told)


@contextmanager
def figure(name: str, *rows_and_columns: int, narrow: int = 1, **how: Any) -> Iterator[tuple[Any, Any]]:
    """Give a figure to the prose as `name`: `with figure("figure_fan", 1, 2, figsize=(7, 3)) as (fig, axes): ...`.

    Args:
        name: for {glue:figure}.
        rows_and_columns: of its axes, as for `matplotlib.pyplot.subplots`.
        narrow: columns of axes on a phone.
        how: told to `subplots`.

    Yields:
        The figure and its axes.
    """
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(*rows_and_columns, **how)
    drawn.narrow = narrow
    yield drawn, axes
    glue(name, drawn)
    pyplot.close(drawn)


def interactive(name: str, *, over: str, data: Any) -> None:
    """Have the book's script `name` put its figure in the place of a static one.

    The static figure stays for paper and for readers whose browser runs no scripts; its alternative text and caption
    are those of both. A script of the page itself, or another notebook, shows nothing.

    Args:
        name: of the script in book/_ext/rnnbook/interactive, without its ending.
        over: the static figure's `:name:`.
        data: what the script draws, of what JSON knows, in as few digits as can be seen.

    Raises:
        ValueError: a number among the data is not finite, which JSON does not know.
    """
    written = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")  # ends no script
    tag = f'<script type="application/json" data-interactive="{name}" data-over="{over}">{written}</script>'
    if in_notebook():
        from IPython.display import HTML, display

        display(HTML(tag))


def stored(name: str) -> xarray.Dataset:
    """What the book holds of a long run; how it came about is in its attributes.

    Args:
        name: in book/results/manifest.yml, whose axes it then has, with NaN for networks that are not yet; else of a
            summary in that folder, without its ending.

    Raises:
        FileNotFoundError: there is none, as beside an installed package.
        rnnlab.training.store.DamagedError: it is not as it was written.
    """
    from rnnlab.sweeps import read_summary, results  # imports torch

    path = beside(f"{name}.summary")
    return results.stored(RESULTS, name) if name in results.asked(RESULTS) else read_summary(path)


def keep(name: str, table: xarray.Dataset) -> xarray.Dataset:
    """What the page has made, with when and by what; `rnnlab results run` has it also kept, where `stored` finds it.

    Args:
        name: in book/results/manifest.yml.
        table: as for `write_table`, or with a dimension `check` as for `write_summary`.

    Raises:
        ValueError: it does not fit into a summary.
    """
    import torch

    from rnnlab.sweeps.summaries import write_summary, write_table

    about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "torch": torch.__version__}
    made = table.assign_attrs(about, command=f"rnnlab results run --only {name}")
    if tables is not None and "check" in made.dims:
        write_summary(made, tables / f"{name}.summary", command=made.attrs["command"])
    elif tables is not None:
        write_table(made, tables / f"{name}.summary")
    return made


def held(kept: xarray.Dataset) -> str:
    """In words, how much there is of a stored result.

    Args:
        kept: what `stored` returned of a result of the manifest.
    """
    there = kept["run"] != ""
    if there.all():
        return f"all {there.size} networks"
    cells = there.all("seed")
    axis = "length" if "length" in cells.dims else cells.dims[0]
    whole = cells.all([name for name in cells.dims if name != axis])
    named = ", ".join(str(label) for label in whole[axis].values[whole.values])
    return f"{int(there.sum())} of {there.size} networks so far, complete at {axis} {named or 'none'}"


def measured(name: str) -> Any:
    """The book's record of a measurement of speed.

    Args:
        name: of the JSON file in book/results, without its ending.

    Raises:
        FileNotFoundError: there is none, as beside an installed package.
    """
    return json.loads(beside(f"{name}.json").read_text(encoding="utf8"))


def claim(id: str, *, ours: Any, interval: Any = None, runs: Any = None, verdict: str, note: str = "") -> None:
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
    if in_notebook():
        from IPython.display import display

        display(claims.outputs(found), raw=True)


def beside(file: str) -> Path:
    """Where the book's results have a file.

    Raises:
        FileNotFoundError: the package is an installed one, which has no book beside it.
    """
    if not RESULTS.is_dir():
        raise FileNotFoundError(
            f"no {file}: stored results belong to the book, and the installed package has none; "
            "install that of a checkout: pip install -e '.[book]' in its top folder"
        )
    return RESULTS / file


def _put_in() -> dict[str, str]:
    """What papermill put into this notebook: names, and their values as it wrote them."""
    cells = sys.modules["IPython"].get_ipython().user_ns.get("In", []) if in_notebook() else []
    body = [line for cell in cells if cell.startswith("# Parameters\n") for line in ast.parse(cell).body]
    found = {ast.unparse(line.targets[0]): ast.unparse(line.value) for line in body if isinstance(line, ast.Assign)}
    return {name: value for name, value in found.items() if not name.startswith("PAPERMILL_")}

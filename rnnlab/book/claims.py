"""What a page found about a claim of the papers: checked against the rows of book/claims.yml, and shown in a notebook.

A row has an `id`, the `paper`, the place `where` it stands there, the `claim` in our words and the `paper_value`. The
book gathers the findings of all its pages in its ledger.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from rnnlab.book import checks
from rnnlab.book.writing import written

ROWS = Path(__file__).resolve().parents[2] / "book" / "claims.yml"
VERDICTS = ("reproduced", "reproduced with a difference", "not reproduced", "open")


@dataclass(frozen=True)
class Finding:
    """What a page found about one claim: our value, how sure it is, and what it makes of the claim."""

    id: str
    ours: str | float
    interval: tuple[float, float] | None
    runs: int | None
    verdict: str
    note: str

    @property
    def shown(self) -> str:
        """Our value as the page and the ledger show it, with its interval and the number of runs."""
        text = self.ours if isinstance(self.ours, str) else _number(self.ours)
        if self.interval is not None:
            text += f" [{', '.join(map(_number, self.interval))}]"
        if self.runs is not None:
            text += f", {self.runs:,} run{'' if self.runs == 1 else 's'}"
        return text


def finding(id: str, *, ours: Any, interval: Any, runs: Any, verdict: str, note: str) -> Finding:
    """Return what `rnnlab.book.pages.claim` was given, checked; its docstring says what each of them means.

    Raises:
        ValueError: no row has the `id`, the verdict is none of `VERDICTS` or lacks its note, or a value is of another
            kind than it should be.
    """
    known = rows() or {id: {}}
    if id not in known or not re.fullmatch(r"[A-Z]\d\d", str(id)):
        some = f"one of the {len(rows())} claims in {ROWS}" if rows() else "a letter and two digits"
        raise ValueError(f"id must be {some}, such as 'P01', got {id!r}")
    checks.choice("verdict", verdict, VERDICTS)
    if verdict != "reproduced" and not note.strip():
        raise ValueError(f"note must say which difference, or why and at which budget, for the verdict {verdict!r}")
    ours = written(" ".join(ours.split())) if isinstance(ours, str) else checks.python(ours)
    if not isinstance(ours, str) or not ours:
        checks.number("ours, if it is not said in words,", ours)
    if (interval := checks.python(interval)) is not None:
        if not isinstance(interval, Sequence) or len(interval) != 2:
            raise ValueError(f"interval must be two numbers, the lower first, got {interval!r}")
        low = checks.number("interval[0]", interval[0])
        interval = low, checks.number("interval[1]", interval[1], at_least=low)
    runs = None if runs is None else checks.integer("runs", runs, at_least=1)
    return Finding(id, ours, interval, runs, verdict, written(" ".join(note.split())))


@cache
def rows() -> dict[str, dict[str, str]]:
    """Return the claims by their id; none where there is no book, as beside an installed package, or no YAML."""
    try:
        import yaml

        return {row["id"]: row for row in yaml.safe_load(ROWS.read_text(encoding="utf8"))}
    except (FileNotFoundError, ModuleNotFoundError):
        return {}


def outputs(found: Finding) -> dict[str, str]:
    """Return how a notebook shows a finding, by type: HTML for Jupyter, a directive of MyST for the book."""
    row = rows().get(found.id, {})
    said, source = row.get("claim", ""), ", ".join(row[key] for key in ("paper", "where") if key in row)
    values = (f"Paper: {row['paper_value']}. " if row else "") + f"Here: {found.shown}."
    verdict = f"{found.verdict}: {found.note}" if found.note else found.verdict
    return {
        "text/markdown": f"```{{claim}}\n{json.dumps(asdict(found) | {'shown': found.shown}, ensure_ascii=False)}\n```",
        "text/html": '<div style="border-left: 3px solid gray; padding: 0.2em 1em">'
        f"<b>{found.id}</b> <small>{escape(source)}</small><br>{_plain(said)}<br>"
        f"{_plain(values)} <b>{escape(found.verdict)}</b>{_plain(verdict[len(found.verdict) :])}</div>",
        "text/plain": f"{found.id} {said} {values} {verdict}",
    }


def _number(value: float) -> str:
    """Three digits, and no fewer than the whole part has."""
    return written(f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}")


def _plain(text: str) -> str:
    """HTML of a text in which Jupyter knows the mathematics, and knows no references."""
    return escape(re.sub(r"\{[\w:]+\}`([^`]*)`", r"\1", text), quote=False)

"""What a page found about a claim of the papers: checked against the rows of book/claims.yml, and shown in a notebook.

A row has an `id`, the `paper`, the place `where` it stands there, the `claim` in our words and the `paper_value`. The
book gathers the findings of all its pages in its ledger.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

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
    _check_id(id)
    if verdict not in VERDICTS:
        raise ValueError(f"verdict must be one of: {'; '.join(VERDICTS)}; got {verdict!r}")
    if verdict != "reproduced" and not note.strip():
        raise ValueError(f"note must say which difference, or why and at which budget, for the verdict {verdict!r}")
    return Finding(id, _value(ours), _interval(interval), _runs(runs), verdict, _line(note))


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


def _check_id(id: str) -> None:
    if rows() and id not in rows():
        raise ValueError(f"id must be one of the {len(rows())} claims in {ROWS}, such as 'P01', got {id!r}")
    if not isinstance(id, str) or not re.fullmatch(r"[A-Z]\d\d", id):
        raise ValueError(f"id must be a letter and two digits, such as 'P01', got {id!r}")


def _value(ours: Any) -> str | float:
    ours = ours.item() if hasattr(ours, "item") else ours
    if isinstance(ours, str) and ours.strip():
        return _line(ours)
    if isinstance(ours, int | float) and not isinstance(ours, bool) and math.isfinite(ours):
        return ours
    raise ValueError(f"ours must be a finite number, or words, got {ours!r}")


def _interval(interval: Any) -> tuple[float, float] | None:
    if interval is None:
        return None
    if isinstance(interval, Sequence) and len(interval) == 2:
        low, high = map(float, interval)
        if math.isfinite(low) and low <= high < math.inf:
            return low, high
    raise ValueError(f"interval must be two finite numbers, the lower first, got {interval!r}")


def _runs(runs: Any) -> int | None:
    runs = runs.item() if hasattr(runs, "item") else runs
    if runs is None or (isinstance(runs, int) and not isinstance(runs, bool) and runs >= 1):
        return runs
    raise ValueError(f"runs must be an integer at least 1, got {runs!r}")


def _number(value: float) -> str:
    """Three digits, and no fewer than the whole part has."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """HTML of a text in which Jupyter knows the mathematics, and knows no references."""
    return escape(re.sub(r"\{[\w:]+\}`([^`]*)`", r"\1", text), quote=False)

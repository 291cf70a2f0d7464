"""Where long work stands, and the bar that shows it."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from rnnlab.machine import watched


@dataclass(frozen=True)
class Progress:
    """Where long work stands: how much of it is done, of how much in all, and a few words for a bar.

    Args:
        done: in the work's own unit, such as updates or ensembles.
        total: likewise.
        note: what else a person would want to see.
    """

    done: int
    total: int
    note: str = ""

    @property
    def over(self) -> bool:
        """Whether this is the end."""
        return self.done >= self.total


Watch = Callable[[Progress], None] | bool | None  # who is told; None: a bar, where somebody looks; False: nobody


def bar(label: str, *, delay: float = 0.0) -> Callable[[Progress], None]:
    """Return a callback that shows on a progress bar where long work stands, for `rnnlab.train` and sweeps.

    It goes to the standard error; the pages of a book that is being built show none.

    Args:
        label: what is counted.
        delay: seconds before it shows.
    """
    from tqdm import tqdm

    off = os.environ.get("RNNLAB_BAR") == "off"
    shown = tqdm(desc=label, file=sys.stderr, mininterval=1.0, unit_scale=True, disable=off, delay=delay)

    def move(now: Progress) -> None:
        shown.total = now.total
        shown.set_postfix_str(now.note, refresh=False)
        shown.update(now.done - shown.n)
        if now.over:
            shown.close()

    return move


def watching(progress: Watch, label: str) -> Callable[[Progress], None] | None:
    """Who is told where work stands: who was named, else a bar in a terminal or a notebook once it takes a second.

    Raises:
        ValueError: `progress` is neither.
    """
    if callable(progress) or progress is False:
        return progress or None
    if progress not in (None, True):
        said = "progress must be a function of a Progress, True or None for a bar, or False for none"
        raise ValueError(f"{said}, got {progress!r:.100}")
    return bar(label, delay=1.0) if watched() else None

"""Where long work stands."""

from dataclasses import dataclass


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

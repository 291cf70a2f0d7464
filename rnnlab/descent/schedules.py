"""How a weight changes from update to update."""

from typing import Protocol, runtime_checkable

from rnnlab.values import Count, Weight, value


@runtime_checkable
class Schedule(Protocol):
    """Weight alpha of omega as a function of the update."""

    def __call__(self, update: int) -> float:
        """alpha at this update, dimensionless."""


@value
class Constant:
    """The same alpha throughout (4 in Fig. 7)."""

    value: Weight = 4.0

    def __call__(self, update: int) -> float:
        """The value."""
        return self.value


@value
class InverseTime:
    """alpha / (1 + update // period): the 1/t decay that section 4.2 asks for natural tasks.

    Args:
        value: alpha during the first period.
        period: updates a step of the decay lasts, for instance one epoch.
    """

    value: Weight = 4.0
    period: Count = 1000

    def __call__(self, update: int) -> float:
        """The value at this update."""
        return self.value / (1 + update // self.period)

"""What is measured at a check, when a member has come to its end there, and when its learning rate changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rnnlab import bits
from rnnlab.network.parameters import spectral_radius
from rnnlab.tasks.task import Task, length_range
from rnnlab.values import UNFIT, among, fit, taken, whole

if TYPE_CHECKING:
    from rnnlab.training.ensembles import Ensemble

PIECE = 1_000  # sequences of a test that share one length, as in the authors' code
FRESH = {
    "fresh_error": "share of wrong sequences in a fresh test after the end",
    "fresh_error_shortest": "the same at the shortest length of the task",
    "fresh_error_longest": "the same at the longest length of the task",
}

Series = Callable[[str], np.ndarray]  # a series by its name, `M checks`: of the members that still train, up to now


def tested(name: str, value: object) -> int:
    """A number of test sequences that falls into pieces.

    Raises:
        ValueError: it is no integer from 1 to 1,000, and no multiple of 1,000.
    """
    number = whole(name, value)
    if number > PIECE and number % PIECE:
        raise ValueError(f"{name} must be at most {PIECE} or a multiple of it, got {value}")
    return number


Sequences = Annotated[int, tested]


@runtime_checkable
class Named(Protocol):
    """What has a place in a record."""

    @property
    def name(self) -> str:
        """What it is called there."""

    @property
    def long_name(self) -> str:
        """What it is, in a few words."""

    @property
    def units(self) -> str:
        """Its unit; "1" if it has none, and "updates" for a `Stop`."""


@runtime_checkable
class Measure(Named, Protocol):
    """A number of each member, taken down at every check as a series."""

    def __call__(self, ensemble: "Ensemble") -> Tensor:
        """The number for each member, shape `M`; the ensemble stays as it is."""


@runtime_checkable
class Stop(Named, Protocol):
    """What ends a member's training; the update of the first check at which it applied is an outcome."""

    def __call__(self, ensemble: "Ensemble", series: Series) -> Tensor:
        """Whether it applies to each member, shape `M`; `series("error")[:, -1]` is their error now."""

    def afterwards(self, task: Task) -> Sequence[Measure]:
        """What is measured once, as outcomes, of the members that it ends.

        Raises:
            ValueError: it does not fit the task.
        """


@runtime_checkable
class Rate(Protocol):
    """How learning rates follow what was measured."""

    def __call__(self, rates: np.ndarray, series: Series) -> np.ndarray:
        """The members' learning rates after a check, from those before, shape `M`."""


@runtime_checkable
class Choice(Protocol):
    """Which of the checks gives the networks that are the outcome of a training."""

    def __call__(self, series: Series) -> np.ndarray:
        """Whether each member is better now than at all checks before, shape `M`; at its first it is anyway."""


def as_measures(name: str, given: Any) -> tuple[Measure, ...]:
    """Measures, in a tuple.

    Raises:
        ValueError: there is something else.
    """
    if not isinstance(given, tuple | list):
        raise ValueError(f"{name} must be a tuple of measures, got {given!r:.100}")
    return tuple(taken(f"{name}[{i}]", one, Measure) for i, one in enumerate(given))


def as_stop(name: str, given: Any) -> str | Stop:
    """What ends a training, by an object or a word.

    Raises:
        ValueError: it is neither.
    """
    words = among(*STOPS, "never")
    return given if not isinstance(given, str) and fit(given, Stop) is not UNFIT else words(name, given)


@dataclass(frozen=True)
class Fresh:
    """The share of wrong ones among fresh sequences of one length, from the stream that is kept for this."""

    task: Task
    sequences: int
    name: str = field(compare=False)
    long_name: str = field(compare=False)
    units: ClassVar[str] = "1"

    def __call__(self, ensemble: "Ensemble") -> Tensor:
        """The shares."""
        return ensemble.errors(self.sequences, stream=bits.FRESH, task=self.task)


def at(task: Task, length: int) -> Task:
    """The task at another length."""
    return replace(task, length=length)  # type: ignore[type-var]


def fresh(task: Task, sequences: int) -> list[Measure]:
    """The tests of a member that ends: on its own task, and at the shortest and the longest of its lengths."""
    low, end = length_range(task.length)
    ends = [task, task] if end - low == 1 else [at(task, low), at(task, end - 1)]
    return [Fresh(one, sequences, *named) for one, named in zip([task, *ends], FRESH.items(), strict=True)]


def measured(measures: Sequence[Measure], ensemble: "Ensemble") -> dict[str, Tensor]:
    """What measures say, by their names; equal ones are made once.

    Raises:
        ValueError: one does not say a number for each member.
    """
    M, found = len(ensemble.seeds), {one: one(ensemble) for one in dict.fromkeys(measures)}
    for one, numbers in found.items():
        if not isinstance(numbers, Tensor) or tuple(numbers.shape) != (M,):
            raise ValueError(f"measures must give tensors of shape ({M},), got {numbers!r:.100} from {one}")
    return {one.name: found[one] for one in measures}


def _error(ensemble: "Ensemble") -> Tensor:
    """By the ordinary test, or by the larger one where that is below 1 %."""
    error = ensemble.errors(ensemble.spec.check_sequences)
    if promising := [m for m, e in enumerate(error.tolist()) if e < 0.01]:
        error[promising] = ensemble.select(promising).errors(ensemble.spec.confirm_sequences, stream=bits.TEST)
    return error


@dataclass(frozen=True)
class _Given:
    """A measure, or a stop, of every training."""

    name: str
    long_name: str
    units: str
    take: Callable[..., Tensor]

    def __call__(self, *given: Any, **named: Any) -> Tensor:
        return self.take(*given, **named)

    def afterwards(self, task: Task) -> Sequence[Measure]:
        return ()


def _solved(name: str, long_name: str, solves: Callable[[Tensor], Tensor]) -> Stop:
    return _Given(name, long_name, "updates", lambda _, series: solves(torch.from_numpy(series("error")[:, -1])))


MEASURES: tuple[Measure, ...] = (
    _Given("rho", "spectral radius of W_rec", "1", lambda ensemble: spectral_radius(ensemble.parameters.W_rec)),
    _Given("error", "share of wrong sequences", "1", _error),
)
STOPS: dict[str, Stop] = {
    "below 1 %": _solved("first_below_1_percent", "update of the first check below 1 %", lambda error: error < 0.01),
    "no error": _solved("first_no_error", "update of the first check with no error", lambda error: error == 0),
}

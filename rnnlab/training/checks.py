"""What is measured at a check, when a member has come to its end there, and when its learning rate changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rnnlab import bits
from rnnlab.engine.contract import counted
from rnnlab.network.parameters import spectral_radius
from rnnlab.tasks.task import Batch, Task, length_range
from rnnlab.values import UNFIT, among, fit, refusal, taken, value, whole

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


def _lengths(name: str, given: Any) -> tuple[int, ...]:
    lengths = tuple(whole(name, length) for length in given) if isinstance(given, tuple | list) else None
    if lengths is None or len(set(lengths)) < len(lengths):
        raise ValueError(f"{name} must be a tuple of different lengths, got {given!r:.100}")
    return lengths


@value
class HoldsAt:
    """End a member at the first check at which it makes no error on its own task, nor at any of these lengths.

    The first error ends a test. The update is the outcome `first_held`; a member that holds is tested once more at each
    length, as `fresh_error_at_5000`, since a test that ends a training is passed on a good day.

    Args:
        lengths: in steps; longer ones than those of the task are never trained on.
        sequences: fresh ones for each test; at most 1,000, or a multiple of 1,000.

    Raises:
        ValueError: a length comes twice, or a number makes no sense.

    Source:
        Pascanu et al. 2013, section 4.1.1, for networks that answer longer sequences than they are trained on.
    """

    lengths: Annotated[tuple[int, ...], _lengths]
    sequences: Sequences = PIECE

    name: ClassVar[str] = "first_held"
    long_name: ClassVar[str] = "update of the first check with no error at any of the lengths to hold at"
    units: ClassVar[str] = "updates"

    def __call__(self, ensemble: "Ensemble", series: Series) -> Tensor:
        """Which members hold."""
        task = ensemble.spec.task
        holds = torch.ones(len(ensemble.seeds), dtype=torch.bool, device="cpu")
        for stream, one in [(bits.CHECK, task), *((bits.TEST, at(task, length)) for length in self.lengths)]:
            if left := holds.nonzero().flatten().tolist():
                holds[left] = ensemble.select(left).errors(self.sequences, stream=stream, task=one) == 0
        return holds

    def afterwards(self, task: Task) -> Sequence[Measure]:
        """A fresh test at each length."""
        text = "share of wrong sequences of {:,} steps in a fresh test after the end"
        named = {f"fresh_error_at_{length}": (at(task, length), text.format(length)) for length in self.lengths}
        return [Fresh(one, self.sequences, name, said) for name, (one, said) in named.items()]


@value
class LargestError:
    """The largest share of wrong sequences at any of some lengths, each tested alone.

    By `Lowest("largest_error")` it chooses the networks that are good at each length: of a task of mixed lengths the
    shortest and the longest are rare, and the error of them all says little about them.

    Args:
        lengths: in steps.
        sequences: for each test, those of `HoldsAt`; at most 1,000, or a multiple of 1,000.

    Raises:
        ValueError: a length comes twice, or a number makes no sense.
    """

    lengths: Annotated[tuple[int, ...], _lengths]
    sequences: Sequences = PIECE

    name: ClassVar[str] = "largest_error"
    long_name: ClassVar[str] = "largest share of wrong sequences at any of some lengths"
    units: ClassVar[str] = "1"

    def __call__(self, ensemble: "Ensemble") -> Tensor:
        """The shares."""
        tasks = [at(ensemble.spec.task, length) for length in self.lengths]
        errors = [ensemble.errors(self.sequences, stream=bits.TEST, task=task) for task in tasks]
        return torch.stack(errors).amax(dim=0)


@value
class Halving:
    """Halve a member's learning rate at each check at which a series is higher than at the one before.

    Args:
        series: its name, of a measure or of what every training takes down.

    Source:
        Pascanu et al. 2013, second version on arXiv, for music; known from others' notes.
    """

    series: str = "error"

    def __call__(self, rates: np.ndarray, series: Series) -> np.ndarray:
        """The rates, or half of them."""
        rose = (np.diff(series(self.series)[:, -2:]) > 0).any(axis=1)
        return np.where(rose, np.maximum(rates / 2, np.finfo(np.float32).tiny), rates)


@value
class Lowest:
    """The networks of the check at which a series was lowest, the first of equal ones.

    Args:
        series: its name, of a measure or of what every training takes down.
    """

    series: str = "error"

    def __call__(self, series: Series) -> np.ndarray:
        """Which members are lower than ever."""
        values = series(self.series)
        before = np.fmin.reduce(values[:, :-1], axis=1, initial=np.inf)
        return values[:, -1] < before


@value
class SplitLoss:
    """The mean loss over all steps of a corpus's split, its pieces read whole, from where the cell begins.

    Args:
        split: "train", "validation" or "test".
    """

    split: Annotated[str, among("train", "validation", "test")] = "validation"

    units: ClassVar[str] = "loss"

    @property
    def name(self) -> str:
        """Such as `validation_loss`."""
        return f"{self.split}_loss"

    @property
    def long_name(self) -> str:
        """What it is."""
        return f"mean loss of a step over the whole {self.split} split"

    def __call__(self, ensemble: "Ensemble") -> Tensor:
        """The losses.

        Raises:
            ValueError: the task has no splits.
        """
        network, task, device = ensemble.parameters, ensemble.spec.task, ensemble.parameters.theta.device
        if not hasattr(task, "passes"):
            raise refusal("task", "one with splits for SplitLoss, such as Rolls()", task)
        how, M = {"sigma": ensemble.spec.sigma, "loss": task.loss}, network.members
        total, steps = torch.zeros(M, dtype=torch.float64, device=device), 0
        for batches in task.passes(self.split, device):
            h = None
            for one in batches:
                batch = Batch(**{name: x.expand(M, *x.shape[1:]) for name, x in one.parts.items()})
                y, h = ensemble.engine.outputs(network, batch, **how, h_0=h)
                here = int(one.lengths.sum())
                total += task.loss.value(y, batch.targets, counted(batch, task.loss)).double() * here
                steps += here
        return total.cpu() / steps

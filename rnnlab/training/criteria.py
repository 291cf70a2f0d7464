"""Stops, measures, choices and rates to be named in a specification: at several lengths, by a series, on a split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rnnlab import bits
from rnnlab.engine.contract import counted
from rnnlab.tasks.task import Batch, Task
from rnnlab.training.checks import PIECE, Fresh, Measure, Sequences, Series, at
from rnnlab.values import among, refusal, value, whole

if TYPE_CHECKING:
    from rnnlab.training.ensembles import Ensemble


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

"""The three losses of the synthetic tasks, their derivative for the outputs, and what counts as solved."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional

from rnnlab.values import Positive, value

Outputs = Float[Tensor, "M S B O"]
Classes = Integer[Tensor, "M S B"]
Counted = Bool[Tensor, "M S B"]


@runtime_checkable
class Loss(Protocol):
    """A loss reads outputs of the last step (`M 1 B O`) or of every step (`M T B O`).

    Targets are classes, or real numbers with an axis O of their own.
    """

    every_step: ClassVar[bool]
    real_targets: ClassVar[bool]

    def value(self, y: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Mean loss of each member, shape `M`; differentiable by autograd."""

    def gradient(self, y: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Derivative of `value` for `y`, in closed form."""

    def wrong(self, y: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Which sequences are wrong, shape `M B`."""


def _share(counted: Counted, like: Tensor) -> Float[Tensor, "M S B"]:
    """Weight of each counted (step, sequence) in its member's mean."""
    return counted.to(like.dtype) / counted.sum(dim=(1, 2), keepdim=True)


class _Softmax:
    real_targets: ClassVar[bool] = False

    def value(self, y: Outputs, targets: Classes, counted: Counted) -> Float[Tensor, "M"]:
        """Mean cross-entropy of each member over its counted steps and sequences, in nats."""
        nll = -functional.log_softmax(y, dim=-1).gather(-1, targets.long()[..., None])[..., 0].where(counted, 0.0)
        return (nll * _share(counted, y)).sum(dim=(1, 2))

    def gradient(self, y: Outputs, targets: Classes, counted: Counted) -> Outputs:
        """Softmax minus one-hot, weighted as in the mean."""
        p = y.softmax(dim=-1)
        p.scatter_add_(-1, targets.long()[..., None], torch.full_like(p[..., :1], -1.0))
        return p * _share(counted, y)[..., None]

    def wrong(self, y: Outputs, targets: Classes, counted: Counted) -> Bool[Tensor, "M B"]:
        """A sequence is wrong if its most probable class is wrong at any counted step, or an output is not finite."""
        missed = (y.argmax(dim=-1) != targets) | ~y.isfinite().all(dim=-1)
        return (missed & counted).any(dim=1)


@dataclass(frozen=True)
class LastSoftmax(_Softmax):
    """Cross-entropy at the last step, mean over the batch (temporal order, random permutation).

    Source:
        Pascanu et al. 2013, the authors' code, `lastSoftmax`.
    """

    every_step: ClassVar[bool] = False


@dataclass(frozen=True)
class EverySoftmax(_Softmax):
    """Cross-entropy at every step, mean over steps and batch (noiseless memorization).

    Source:
        Pascanu et al. 2013, the authors' code, `softmax`.
    """

    every_step: ClassVar[bool] = True


@value
class LastSquaredError:
    """Squared error at the last step, without the factor 1/2, summed over outputs, mean over the batch.

    Args:
        wrong_above: a sequence is wrong when its squared error exceeds this (0.04 in the paper's section 4.1.2).

    Source:
        Pascanu et al. 2013, the authors' code, `lastLinear`.
    """

    wrong_above: Positive = 0.04
    every_step: ClassVar[bool] = False
    real_targets: ClassVar[bool] = True

    def value(self, y: Outputs, targets: Outputs, counted: Counted) -> Float[Tensor, "M"]:
        """Mean squared error of each member, in squared units of the target."""
        return ((y - targets).square().sum(dim=-1) * _share(counted, y)).sum(dim=(1, 2))

    def gradient(self, y: Outputs, targets: Outputs, counted: Counted) -> Outputs:
        """Twice the deviation, weighted as in the mean."""
        return 2 * (y - targets) * _share(counted, y)[..., None]

    def wrong(self, y: Outputs, targets: Outputs, counted: Counted) -> Bool[Tensor, "M B"]:
        """A sequence is wrong if its squared error exceeds `wrong_above`, or is not a number."""
        return (~((y - targets).square().sum(dim=-1) <= self.wrong_above) & counted).any(dim=1)

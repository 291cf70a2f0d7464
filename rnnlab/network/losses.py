"""Losses: where outputs are read (the last step, every step) times what they are (classes, numbers, on or off)."""

from typing import Annotated, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional

from rnnlab.values import Positive, among, value

Outputs = Float[Tensor, "M S B O"]
Classes = Integer[Tensor, "M S B"]
Counted = Bool[Tensor, "M S B"]


@runtime_checkable
class Loss(Protocol):
    """A loss reads outputs of the last step (`M 1 B O`) or of every step (`M T B O`).

    Targets are classes, or real numbers with an axis O of their own. `counted` says which steps of which sequences
    enter the loss.
    """

    @property
    def every_step(self) -> bool:
        """Whether every step is read, or the last alone."""

    @property
    def real_targets(self) -> bool:
        """Whether targets are real numbers."""

    def value(self, y: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Loss of each member, shape `M`; differentiable by autograd."""

    def gradient(self, y: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Derivative of `value` for `y`, in closed form."""

    def wrong(self, y: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Which sequences are wrong, shape `M B`."""


@value
class _Read:
    every_step: bool = False
    over_steps: Annotated[str, among("mean", "sum")] = "mean"

    def _share(self, counted: Counted, like: Tensor) -> Float[Tensor, "M S B"]:
        """Weight of each counted (step, sequence) in its member's loss."""
        pairs = counted.sum(dim=(1, 2), keepdim=True) if self.over_steps == "mean" else counted.shape[-1]
        return counted.to(like.dtype) / pairs

    def _weighted(self, slopes: Outputs, counted: Counted) -> Outputs:
        """Slopes of counted pairs, each with its share; padding may hold anything."""
        return slopes.where(counted[..., None], 0.0) * self._share(counted, slopes)[..., None]


@value
class Softmax(_Read):
    """Cross-entropy of classes, in nats (temporal order and random permutation; at every step, memorization).

    Args:
        every_step: read the outputs at every step, or at the last alone.
        over_steps: "mean" or "sum"; over sequences it is always the mean.

    Source:
        Pascanu et al. 2013, the authors' code, `lastSoftmax` and `softmax`.
    """

    real_targets: ClassVar[bool] = False

    def value(self, y: Outputs, targets: Classes, counted: Counted) -> Float[Tensor, "M"]:
        """Cross-entropy of each member, in nats."""
        nll = -functional.log_softmax(y, dim=-1).gather(-1, targets.long()[..., None])[..., 0].where(counted, 0.0)
        return (nll * self._share(counted, y)).sum(dim=(1, 2))

    def gradient(self, y: Outputs, targets: Classes, counted: Counted) -> Outputs:
        """Softmax minus one-hot, weighted as in `value`."""
        p = y.softmax(dim=-1)
        p.scatter_add_(-1, targets.long()[..., None], torch.full_like(p[..., :1], -1.0))
        return self._weighted(p, counted)

    def wrong(self, y: Outputs, targets: Classes, counted: Counted) -> Bool[Tensor, "M B"]:
        """A sequence is wrong if its most probable class is wrong at any counted step, or an output is not finite."""
        missed = (y.argmax(dim=-1) != targets) | ~y.isfinite().all(dim=-1)
        return (missed & counted).any(dim=1)


@value
class SquaredError(_Read):
    """Squared error without the factor 1/2, summed over outputs (addition and multiplication).

    Args:
        every_step: read the outputs at every step, or at the last alone.
        over_steps: "mean" or "sum"; over sequences it is always the mean.
        wrong_above: a sequence is wrong when its squared error exceeds this at any counted step (0.04 in the paper's
            section 4.1.2).

    Source:
        Pascanu et al. 2013, the authors' code, `lastLinear`.
    """

    wrong_above: Positive = 0.04
    real_targets: ClassVar[bool] = True

    def value(self, y: Outputs, targets: Outputs, counted: Counted) -> Float[Tensor, "M"]:
        """Squared error of each member, in squared units of the target."""
        error = (y - targets).square().sum(dim=-1).where(counted, 0.0)
        return (error * self._share(counted, y)).sum(dim=(1, 2))

    def gradient(self, y: Outputs, targets: Outputs, counted: Counted) -> Outputs:
        """Twice the deviation, weighted as in `value`."""
        return self._weighted(2 * (y - targets), counted)

    def wrong(self, y: Outputs, targets: Outputs, counted: Counted) -> Bool[Tensor, "M B"]:
        """A sequence is wrong if its squared error exceeds `wrong_above`, or is not a number."""
        return (~((y - targets).square().sum(dim=-1) <= self.wrong_above) & counted).any(dim=1)


@value
class Bernoulli(_Read):
    """Cross-entropy of O outputs that are each on or off, summed over outputs, in nats (polyphonic music).

    Targets are 0 and 1, or probabilities between them.

    Args:
        every_step: read the outputs at every step, or at the last alone.
        over_steps: "mean" or "sum"; over sequences it is always the mean.

    Source:
        Pascanu et al. 2013, section 4.2.
    """

    real_targets: ClassVar[bool] = True

    def value(self, y: Outputs, targets: Outputs, counted: Counted) -> Float[Tensor, "M"]:
        """Cross-entropy of each member, in nats."""
        nll = functional.binary_cross_entropy_with_logits(y, targets, reduction="none").sum(dim=-1).where(counted, 0.0)
        return (nll * self._share(counted, y)).sum(dim=(1, 2))

    def gradient(self, y: Outputs, targets: Outputs, counted: Counted) -> Outputs:
        """Probability minus target, weighted as in `value`."""
        return self._weighted(y.sigmoid() - targets, counted)

    def wrong(self, y: Outputs, targets: Outputs, counted: Counted) -> Bool[Tensor, "M B"]:
        """A sequence is wrong if an output is on the wrong side of 1/2 at any counted step, or is not finite."""
        missed = ((y > 0) != (targets > 0.5)) | ~y.isfinite()
        return (missed.any(dim=-1) & counted).any(dim=1)

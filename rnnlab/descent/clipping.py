"""Gradient clipping, member by member, and what happens when a gradient is not a number."""

import math
from enum import IntEnum
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from rnnlab.network.parameters import Parameters
from rnnlab.values import Limit, Positive, checked, value

State = dict[str, Tensor]  # what goes on from update to update, by name, members in front


class Event(IntEnum):
    """What happened to a member's gradient in one update."""

    NONE = 0
    CLIPPED = 1
    GUARDED = 2
    DIVERGED = 3


@checked
def clip_norm(g: Float[Tensor, "M P"], threshold: Positive) -> Float[Tensor, "M P"]:
    """Rescale each member's gradient to norm at most `threshold`, keeping its direction.

    Args:
        g: one flat gradient per member; finite.
        threshold: largest norm let through, in the gradient's own unit; positive.

    Raises:
        ValueError: `threshold` is not positive.

    Source:
        Pascanu et al. 2013, Algorithm 1.
    """
    return Norm(threshold).scaled(g, norms(g))[0]


def norms(x: Float[Tensor, "*S P"]) -> Float[Tensor, "*S"]:
    """Euclidean norm of each row, in its entries' unit; infinite only if it is itself beyond the dtype."""
    plain, largest = x.norm(dim=-1), x.abs().amax(dim=-1)
    # Squares below the smallest normal number lose digits, by no more than one of the sum's if that is large enough.
    trusted = plain.isfinite() & (plain >= (x.shape[-1] * torch.finfo(x.dtype).tiny) ** 0.5)
    scaled = largest * (x / largest[..., None]).norm(dim=-1)
    return torch.where(trusted | (largest == 0) | ~largest.isfinite(), plain, scaled)


@checked
def clip_elementwise(g: Float[Tensor, "M P"], threshold: Positive) -> Float[Tensor, "M P"]:
    """Limit every entry of the gradient to `[-threshold, threshold]`; the direction changes.

    Raises:
        ValueError: `threshold` is not positive.
    """
    return Elementwise(threshold).clamped(g)[0]


@runtime_checkable
class Guard(Protocol):
    """What replaces a gradient that is not finite, or whose norm exceeds `limit`."""

    @property
    def limit(self) -> float:
        """Largest gradient norm that is trusted."""

    def replacement(self, g: Tensor, W_rec: Tensor) -> Tensor:
        """The gradient to use instead, shape `M P`; theta holds W_rec first."""


@value
class Shrink:
    """W_rec's gradient becomes `factor` W_rec, every other one 0: the authors' guard.

    Args:
        factor: share of W_rec, dimensionless; the learning rate multiplies it.
        limit: largest gradient norm that is trusted.

    Source:
        The authors' code, `RNN.py`, lines 219 to 252.
    """

    factor: Positive = 0.02
    limit: Limit = 1e10

    def replacement(self, g: Float[Tensor, "M P"], W_rec: Float[Tensor, "M N N"]) -> Float[Tensor, "M P"]:
        """`factor` W_rec, and zeros."""
        weights = self.factor * W_rec.flatten(1)
        return functional.pad(weights, (0, g.shape[1] - weights.shape[1]))


@value
class Skip:
    """The update is left out."""

    limit: Limit = math.inf

    def replacement(self, g: Float[Tensor, "M P"], W_rec: Float[Tensor, "M N N"]) -> Float[Tensor, "M P"]:
        """Zeros."""
        return torch.zeros_like(g)


@runtime_checkable
class Clip(Protocol):
    """A clipping rule, with what it remembers.

    `guard` says what to do with a gradient that is not finite (None: nothing, so the member diverges);
    `signal_threshold` is read by the engines, which clip inside the backward sweep. What a rule remembers is handed in
    and given back, and goes into checkpoints; a class that has `Clip` as its base remembers nothing unless it says so.
    """

    @property
    def guard(self) -> Guard | None:
        """What replaces a gradient that is not to be trusted."""

    @property
    def signal_threshold(self) -> float | None:
        """Largest absolute entry of delta at any step, or None."""

    def init(self, network: Parameters) -> State:
        """What it remembers at the start; tensors by name, members in front."""
        return {}

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """The clipped gradients, which members' gradients were changed, and what it remembers from now on.

        Args:
            g: a gradient for each member, `M P`, in the order of theta; may be not finite.
            norm: its norm, `M`.
            network: before the step.
            state: what it remembers.
        """


@value
class NoClip(Clip):
    """Plain MSGD: the gradient as it is; a gradient that is not finite ends the member."""

    guard: None = None
    signal_threshold: None = None

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """The gradients themselves."""
        return g, torch.zeros_like(norm, dtype=torch.bool), state


@value
class Norm(Clip):
    """Algorithm 1: one joint norm over all parameters of a member, omega included.

    Args:
        threshold: largest norm let through; positive.
        guard: what replaces a gradient that is not finite.

    Source:
        Pascanu et al. 2013, Algorithm 1.
    """

    threshold: Positive = 1.0
    guard: Guard | None = Shrink()
    signal_threshold: None = None

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """Rescaled gradients."""
        return *self.scaled(g, norm), state

    def scaled(self, g: Float[Tensor, "M P"], norm: Float[Tensor, "M"]) -> tuple[Tensor, Bool[Tensor, "M"]]:
        """Gradients of at most this norm, and which were changed."""
        threshold, held, longer = self.threshold, torch.finfo(g.dtype), norm > self.threshold
        # Not `threshold / norm`, which multiplies by a reciprocal, where that is beyond the dtype.
        most = torch.full_like(norm, min(threshold, held.max))
        divided = torch.where(norm.reciprocal().isfinite(), threshold / norm, most / norm)
        factor = torch.where(longer, divided, 1.0)
        largest = g.abs().amax(dim=-1)
        direction = g / largest[:, None]
        # A factor that the dtype does not hold, of a step that it may.
        beyond = longer & (factor < held.tiny) & largest.isfinite()
        step = direction * (threshold / direction.norm(dim=-1))[:, None]
        return torch.where(beyond[:, None], step, g * factor[:, None]), norm >= threshold


@value
class Elementwise(Clip):
    """Every entry of the whole gradient limited to `[-threshold, threshold]`."""

    threshold: Positive = 1.0
    guard: Guard | None = Shrink()
    signal_threshold: None = None

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """Clamped gradients."""
        return *self.clamped(g), state

    def clamped(self, g: Float[Tensor, "M P"]) -> tuple[Tensor, Bool[Tensor, "M"]]:
        """Gradients whose entries are within bounds, and which were changed."""
        limit = min(self.threshold, torch.finfo(g.dtype).max)
        return g.clamp(-limit, limit), (g.abs() > self.threshold).any(dim=1)


@value
class ElementwiseSignal(Clip):
    """Every entry of delta limited to `[-threshold, threshold]` at every step of BPTT: Mikolov's rule.

    The signal is dE/dh_t of the batch's *mean* loss, so it carries the factor 1/B. The clipped signal is what
    travels on to the step before; the engines do it, inside their backward sweep.

    Source:
        Mikolov 2012, as described in Pascanu et al. 2013, section 3.1.
    """

    threshold: Positive = 1.0
    guard: Guard | None = Shrink()

    @property
    def signal_threshold(self) -> float:
        """The threshold."""
        return self.threshold

    shorten = NoClip.shorten  # their signals were clipped on the way


def apply(
    clip: Clip, g: Float[Tensor, "M P"], network: Parameters, state: State
) -> tuple[Float[Tensor, "M P"], Float[Tensor, "M"], UInt8[Tensor, "M"], State]:
    """Clip each member's gradient and guard it.

    Args:
        clip: the rule.
        g: one flat gradient per member, omega's part included.
        network: before the step, of g's dtype.
        state: what the rule remembers.

    Returns:
        The gradients to descend, their norms before clipping, an `Event` for each member, and what the rule remembers
        from now on.
    """
    norm, finite = norms(g), g.isfinite().all(dim=-1)
    shortened, changed, state = clip.shorten(g, norm, network, state)
    events = changed.to(torch.uint8) * int(Event.CLIPPED)
    if clip.guard is None:
        return shortened, norm, events.masked_fill_(~finite, int(Event.DIVERGED)), state
    distrusted = ~(norm <= clip.guard.limit) | ~finite
    guarded = shortened.where(~distrusted[:, None], clip.guard.replacement(g, network.W_rec))
    return guarded, norm, events.masked_fill_(distrusted, int(Event.GUARDED)), state

"""Clipping rules younger than the paper's: by the parts of a network, and by the norms that a member had before."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnlab.descent.clipping import Clip, Guard, Shrink, State, norms
from rnnlab.network.parameters import Parameters
from rnnlab.values import Count, Kept, Positive, value

Shortened = tuple[Tensor, Bool[Tensor, "M"]]  # gradients, and in which members one was too long


def shortened(x: Float[Tensor, "M *S P"], limit: Float[Tensor, "M *S"]) -> Shortened:
    """Rows of at most these norms, which keep their direction, and in which members one was longer."""
    norm = norms(x)
    longer = norm > limit
    return x * torch.where(longer, limit / norm, 1.0)[..., None], longer.flatten(1).any(1) if x.ndim > 2 else longer


def _by_parts(g: Tensor, network: Parameters, shorten: Callable[[Tensor, Tensor], Shortened]) -> Shortened:
    """Gradients of which each parameter's was shortened: that of a part and the part give its rows."""
    clipped, changed = Parameters(g.clone(), network.sizes), torch.zeros_like(g[:, 0], dtype=torch.bool)
    for part, weights in zip(clipped.views.values(), network.views.values(), strict=True):
        rows, longer = shorten(part, weights)
        part.copy_(rows.view_as(part))
        changed |= longer
    return clipped.theta, changed


@value
class PerMatrix(Clip):
    """Each parameter's gradient limited to a norm of its own; the whole turns.

    Args:
        threshold: largest norm of the gradient of a matrix, or of a bias.
        guard: what replaces a gradient that is not finite.
    """

    threshold: Positive = 1.0
    guard: Guard | None = Shrink()
    signal_threshold: None = None

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """Gradients whose parts are short."""
        limit = torch.full_like(norm, self.threshold)
        return *_by_parts(g, network, lambda part, weights: shortened(part.flatten(1), limit)), state


@value
class UnitWise(Clip):
    """Each unit's gradient limited to a share of its weights' norm: adaptive gradient clipping.

    A unit's weights are a row of a matrix; a bias is one row. The authors leave out the last layer, we do not.

    Args:
        threshold: largest ratio of the norm of a row's gradient to that of its weights, dimensionless.
        least: norm that stands for that of smaller weights.
        guard: what replaces a gradient that is not finite.

    Source:
        Brock, De, Smith & Simonyan 2021, eq. (3).
    """

    threshold: Positive = 0.01
    least: Positive = 1e-3
    guard: Guard | None = Shrink()
    signal_threshold: None = None

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """Gradients whose rows are short beside the weights."""

        def rows(part: Tensor, weights: Tensor) -> Shortened:
            return shortened(part, self.threshold * norms(weights).clamp(min=self.least))

        return *_by_parts(g, network, rows), state


@value
class Normalized(Clip):
    """Every gradient made as long as the threshold, the short ones too; one of 0 stays.

    Args:
        threshold: norm that each gets.
        guard: what replaces a gradient that is not finite.

    Source:
        Hazan, Levy & Shalev-Shwartz 2015, Algorithm 1.
    """

    threshold: Positive = 1.0
    guard: Guard | None = Shrink()
    signal_threshold: None = None

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """Directions, times the threshold."""
        some = norm > 0
        return self.threshold * torch.where(some[:, None], g / norm[:, None], 0.0), some, state


@value
class Percentile(Clip):
    """The norm limited to a percentile of the member's norms so far, this one included: AutoClip.

    Args:
        share: of the norms that are below the threshold; 0.1 is the tenth percentile.
        last: norms that are remembered; the authors keep all.
        guard: what replaces a gradient that is not finite.

    Source:
        Seetharaman, Wichern, Pardo & Le Roux 2020, Algorithm 1.
    """

    share: Kept = 0.1
    last: Count = 1_000
    guard: Guard | None = Shrink()
    signal_threshold: None = None

    def init(self, network: Parameters) -> State:
        """No norm yet."""
        return {"norms": network.theta.new_full((network.members, self.last), torch.nan)}

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """Rescaled gradients, and the last norms."""
        finite, seen = norm.isfinite()[:, None], torch.cat((state["norms"][:, 1:], norm[:, None]), dim=1)
        seen = torch.where(finite, seen, state["norms"])
        return *shortened(g, seen.nanquantile(self.share, dim=1).to(g)), {"norms": seen}


@value
class ZScore(Clip):
    """The norm limited by its distance from the running mean, in running standard deviations: ZClip.

    A norm at z above `most` is brought to the square of `most`, over z, deviations: the more unusual, the shorter.

    Args:
        most: largest z that is let through, dimensionless.
        kept: share of mean and variance that an update keeps.
        warm_up: updates over which both are plain averages, and nothing is clipped.
        guard: what replaces a gradient that is not finite.

    Source:
        Kumar, Owen, Roy Chowdhury & Guera 2025, who add 1e-6 to the deviation; norms may be smaller here.
    """

    most: Positive = 2.5
    kept: Kept = 0.97
    warm_up: Count = 25
    guard: Guard | None = Shrink()
    signal_threshold: None = None

    def init(self, network: Parameters) -> State:
        """No norm yet."""
        none = network.theta.new_zeros(network.members)
        return {"mean": none, "variance": none.clone(), "seen": none.to(torch.int64)}

    def shorten(self, g: Tensor, norm: Tensor, network: Parameters, state: State) -> tuple[Tensor, Tensor, State]:
        """Rescaled gradients, and mean and variance of what they were rescaled to."""
        mean, variance, warm = state["mean"], state["variance"], state["seen"] < self.warm_up
        z = (norm - mean) / variance.sqrt()
        limit = torch.where((z > self.most) & ~warm, mean + self.most**2 / z * variance.sqrt(), torch.inf)
        came, seen = norm.minimum(limit), state["seen"] + 1
        weight = torch.where(warm, 1 / seen.to(norm), 1 - self.kept)
        new = mean + weight * (came - mean)
        square = (came - new) * torch.where(warm, came - mean, came - new)
        held = {"mean": new, "variance": (1 - weight) * variance + weight * square, "seen": seen}
        held = {name: torch.where(norm.isfinite(), x, state[name]) for name, x in held.items()}
        return *shortened(g, limit.to(g)), held

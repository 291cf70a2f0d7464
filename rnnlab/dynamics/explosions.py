"""Explosions of the gradient: which updates they are, and whether a step changes fixed points or where states end."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnlab.dynamics.fixed_points import FixedPoints, fixed_points
from rnnlab.dynamics.maps import Map, fitting
from rnnlab.values import Count, Positive, checked

_PIECE = 1024  # updates whose windows are held at a time


@checked
def spikes(norm: Float[Tensor, "K"], *, window: Count = 1000, factor: Positive = 10.0) -> Bool[Tensor, "K"]:
    """Which updates of a network are spikes: their gradient is `factor` times as long as lately, or longer still.

    Lately is the median of the `window` updates before, the lower one of two; the first `window` updates have none, and
    are no spikes.

    Args:
        norm: of the gradient in each update, in its own unit.
        window: updates.
        factor: dimensionless.
    """
    found = torch.zeros(len(norm), dtype=torch.bool, device=norm.device)
    if len(norm) > window:
        medians = [piece.median(dim=-1).values for piece in norm[:-1].unfold(0, window, 1).split(_PIECE)]
        found[window:] = norm[window:] > factor * torch.cat(medians)
    return found


class Step(NamedTuple):
    """Fixed points before and after a step of the parameters, as many as were found: never to be called all of them."""

    before: FixedPoints
    after: FixedPoints

    @property
    def bifurcates(self) -> bool:
        """Whether the number of points, or the unstable dimensions of one, are not the same on both sides."""
        return sorted(self.before.unstable.tolist()) != sorted(self.after.unstable.tolist())

    @property
    def sound(self) -> bool:
        """Whether the index sums of both are 1, as those of all fixed points of a bounded network are."""
        return self.before.index_sum == self.after.index_sum == 1


@checked
def continued(before: Map, after: Map, starts: Float[Tensor, "S N"]) -> Step:
    """The fixed points of a map before and after a small step of its parameters, continued both ways.

    What is found on either side is where Newton's method begins on the other, so that a point is missing on one side
    only where it could not be continued to.

    Args:
        before: the map.
        after: the map after the step.
        starts: where to look from on both sides, beside that.

    Raises:
        ValueError: a map is of other states, or has more than one push.
    """
    first = fixed_points(before, starts)
    second = fixed_points(after, torch.cat((*first.cycles, starts.double())))
    return Step(fixed_points(before, torch.cat((*first.cycles, *second.cycles, starts[:1].double()))), second)


@checked
def ends_apart(
    before: Map,
    after: Map,
    x: Float[Tensor, "*S N"],
    y: Float[Tensor, "*S N"],
    *,
    steps: Count = 300,
    watched: Count = 64,
) -> Float[Tensor, "*S"]:
    """How far apart two states end, each under its own map, in the states' unit.

    That is the distance from the last state of either to the nearest of the last `watched` ones of the other, the
    larger of the two; so two states on one cycle are no further apart than its states are.

    Args:
        before: map of the one.
        after: map of the other.
        x: where the one starts.
        y: where the other does.
        steps: of both.
        watched: of them, the last ones.

    Raises:
        ValueError: a map is of other states.
    """
    ends = []
    for map, state in ((before, x.double()), (after, y.double())):
        path = [state]
        for _ in range(steps):
            path = [*path, fitting("x", path[-1], map).step(path[-1])][-watched:]
        ends.append(torch.stack(path))
    return torch.stack([(one - other[-1]).norm(dim=-1).amin(dim=0) for one, other in (ends, ends[::-1])]).amax(dim=0)

"""Explosions of the gradient: which updates they are, what to hold them against, and what a step changes in the map."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rnnlab.dynamics.fixed_points import FixedPoints, fixed_points
from rnnlab.dynamics.maps import Map, fitting
from rnnlab.values import Count, Natural, Positive, checked

_PIECE = 1024  # updates whose windows are held at a time
_ROWS = 128  # spikes whose controls are sought at a time


@checked
def spikes(norm: Float[Tensor, "K"], *, window: Count = 1000, factor: Positive = 10.0) -> Bool[Tensor, "K"]:
    """Which updates of a network are spikes: their gradient is `factor` times as long as lately, or longer still.

    Lately is the median of the `window` updates before, the lower one of two, and of those that have a norm; the first
    `window` updates have none, and are no spikes.

    Args:
        norm: of the gradient in each update, in its own unit.
        window: updates.
        factor: dimensionless.
    """
    found = torch.zeros(len(norm), dtype=torch.bool, device=norm.device)
    if len(norm) > window:
        medians = [piece.nanmedian(dim=-1).values for piece in norm[:-1].unfold(0, window, 1).split(_PIECE)]
        found[window:] = norm[window:] > factor * torch.cat(medians)
    return found


@checked
def with_controls(
    norm: Float[Tensor, "K"], loss: Float[Tensor, "K"], *, seed: Natural, most: Count | None = None, each: Count = 5
) -> Int[Tensor, "S E"]:
    """Spikes of a training, and ordinary updates of the same stage to hold each against.

    An update is ordinary if its gradient is at most 3 times as long as lately, as `spikes` has that. The stage is the
    mean loss of the last 100 updates. A control is ordinary, within 1,000 updates of its spike, and at a stage within
    10 %, or else as near as there are; which of them is chance. A spike with fewer than `each` is left out.

    Args:
        norm: of the gradient in each update.
        loss: of each update's minibatch.
        seed: of what is chosen.
        most: spikes, chosen by chance; all of them unless told.
        each: controls of a spike.

    Returns:
        Numbers of updates, a row for each spike: it, its controls, the next spike, and an ordinary update as far from
        the first control. After the last spike of all stands itself.
    """
    norm, loss, random = norm.cpu(), loss.cpu(), torch.Generator().manual_seed(seed)
    every, numbers = spikes(norm).nonzero()[:, 0], torch.arange(len(norm), dtype=torch.int64, device="cpu")
    if not len(every):
        return every.new_empty(0, each + 3)
    ordinary = ~spikes(norm, factor=3.0) & norm.isfinite() & (numbers >= 1000)
    stage = torch.full((len(norm),), torch.nan, dtype=torch.float64, device="cpu")
    stage[99:] = loss.double().unfold(0, 100, 1).mean(-1)
    shuffled = torch.randperm(len(every), generator=random, dtype=torch.int64, device="cpu")
    chosen = every[shuffled[:most]].sort().values
    rows = [_controls(some, ordinary, stage.log(), each, random) for some in chosen.split(_ROWS)]
    enough, controls = (torch.cat(parts) for parts in zip(*rows, strict=True))
    after = torch.cat((every, every[-1:]))[torch.searchsorted(every, chosen, right=True)]
    later = torch.cat((ordinary.nonzero()[:, 0], ordinary.nonzero()[-1:, 0]))
    beside = later[torch.searchsorted(later[:-1], controls[:, 0] + after - chosen)]
    return torch.column_stack((chosen, controls, after, beside))[enough]


def _controls(chosen: Tensor, ordinary: Tensor, stage: Tensor, each: int, random: torch.Generator) -> tuple:
    """For each spike whether there are so many, and the ordinary updates that are best for it."""
    away = (torch.arange(len(stage), dtype=torch.int64, device="cpu") - chosen[:, None]).abs()
    tie = 0.01 * torch.rand(away.shape, generator=random, dtype=stage.dtype, device="cpu")
    off = (stage - stage[chosen, None]).abs().clamp(min=0.1) + tie
    off, controls = off.masked_fill(~ordinary | (away > 1000), torch.inf).sort(dim=1)
    return off[:, each - 1].isfinite(), controls[:, :each]


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

"""Where trajectories end: attractors and their basins, and the boundary between two."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rnnlab.dynamics.maps import Map, fitting, orbit
from rnnlab.values import Count, Limit, Positive, checked

DIVERGED, UNSETTLED = -1, -2  # labels of starts that reach no attractor


@dataclass(frozen=True, eq=False)
class Basins:
    """Attractors of a map, which of them each start reaches, and, when called, which others do.

    Args:
        attractors: the states of each, a fixed point's one or a cycle's, in their order from the one whose first number
            is least.
        labels: position among the attractors; `DIVERGED`; or `UNSETTLED` for what is neither a cycle within `longest`
            steps nor gone: still on its way, quasi-periodic or chaotic.
        map: whose they are; it and the rest as `basins` was told.
        steps: see `basins`.
        tolerance: see `basins`.
        far: see `basins`.
    """

    attractors: tuple[Float[Tensor, "_ N"], ...]
    labels: Int[Tensor, "*S"]
    map: Map
    steps: int
    tolerance: float
    far: float

    def __call__(self, starts: Float[Tensor, "*S N"]) -> Int[Tensor, "*S"]:
        """Labels of other starts: which of the attractors they have come to within the tolerance."""
        x = _advanced("starts", starts, self.map, self.steps)
        labels = torch.where(x.norm(dim=-1) <= self.far, UNSETTLED, DIVERGED)
        for label, cycle in enumerate(self.attractors):
            labels[_distance(x, cycle) <= self.tolerance] = label
        return labels


@checked
def basins(
    map: Map,
    starts: Float[Tensor, "*S N"],
    *,
    steps: Count = 1000,
    longest: Count = 16,
    tolerance: Positive = 1e-6,
    far: Limit = 1e6,
) -> Basins:
    """The attractors that starts reach, and the basin that each lies in.

    A state has settled if it comes back within `longest` steps to a thousandth of the tolerance; near a bifurcation,
    where that takes long, `steps` have to be many.

    Args:
        map: of the states.
        starts: a grid of them, say.
        steps: iterations before it is asked where a state has come to.
        longest: largest period of a cycle, in steps.
        tolerance: distance up to which two attractors are one, in the states' unit.
        far: norm beyond which a trajectory has diverged, in the states' unit.

    Raises:
        ValueError: the map is of other states.

    Source:
        Datseris & Wagemakers 2022, "Effortless estimation of basins of attraction", for divergence as a label.
    """
    x = _advanced("starts", starts, map, steps)
    ring = orbit([map] * longest, x)
    returns = (ring[1:] - ring[0]).norm(dim=-1) <= tolerance / 1000  # K *S
    period = torch.where(returns.any(dim=0), returns.int().argmax(dim=0) + 1, 0)
    labels = torch.where(x.norm(dim=-1) <= far, UNSETTLED, DIVERGED)
    attractors: list[Tensor] = []
    while (left := (period > 0) & (labels == UNSETTLED)).any():
        first = int(left.flatten().int().argmax())
        cycle = ring.reshape(longest + 1, -1, map.N)[: int(period.flatten()[first]), first]
        labels[left & (_distance(x, cycle) <= tolerance)] = len(attractors)
        attractors.append(cycle.roll(-int(cycle[:, 0].argmin()), 0))
    return Basins(tuple(attractors), labels, map, steps, tolerance, far)


class Boundary(NamedTuple):
    """States on the boundary, and the distance between the last two states on either side; NaN where there is none."""

    x: Float[Tensor, "*S N"]
    width: Float[Tensor, "*S"]


@checked
def boundary(found: Basins, a: Float[Tensor, "*S N"], b: Float[Tensor, "*S N"], *, halvings: Count = 50) -> Boundary:
    """Where the basin of `a` ends on the straight line to `b`, by bisection of all pairs at once.

    There is none where both have one label, or `a` is `UNSETTLED`. Near the boundary trajectories take long to choose:
    each halving costs about ln 2 / ln (largest multiplier) of the `steps` that the basins were found with.

    Args:
        found: attractors and how to find them.
        a: starts on one side.
        b: starts on the other.
        halvings: of the distance between them.

    Raises:
        ValueError: the map is of other states.
    """
    for name, x in (("a", a), ("b", b)):
        fitting(name, x, found.map)
    low, high = a.double(), b.double()
    label, other = found(low), found(high)
    for _ in range(halvings):
        middle = (low + high) / 2
        same = (found(middle) == label)[..., None]
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    none = (label == other) | (label == UNSETTLED)
    middle, width = (low + high) / 2, (high - low).norm(dim=-1)
    return Boundary(middle.masked_fill(none[..., None], torch.nan), width.masked_fill(none, torch.nan))


def _advanced(name: str, x: Tensor, map: Map, steps: int) -> Tensor:
    x = x.double()
    for _ in range(steps):
        x = fitting(name, x, map).step(x)
    return x


def _distance(x: Tensor, cycle: Tensor) -> Tensor:
    """From each state to the nearest one of a cycle."""
    return (x[..., None, :] - cycle).norm(dim=-1).amin(dim=-1)

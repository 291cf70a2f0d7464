"""In which basin of a map a state is, read from a grid: for many states, where iterating each would take too long."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rnnlab.dynamics.maps import Map, fitting
from rnnlab.values import Count, checked


@dataclass(frozen=True, eq=False)
class Lookup:
    """Basins of fixed points on a grid, and, when called, those of other states.

    Args:
        map: whose they are.
        attractors: the fixed points.
        axes: coordinates of the grid along each of the state's numbers.
        labels: which of the attractors each point of the grid reaches; below 0, none within the steps.
        near: points beside one with another label, or with none: states there are iterated.
        steps: iterations of these, after which the nearest attractor is theirs.
    """

    map: Map
    attractors: Float[Tensor, "A N"]
    axes: tuple[Float[Tensor, "_"], ...]
    labels: Int[Tensor, "..."]
    near: Bool[Tensor, "..."]
    steps: int

    def __call__(self, x: Float[Tensor, "*S N"]) -> Int[Tensor, "*S"]:
        """Labels of states; those outside the grid have that of its edge."""
        places = [(x_i - axis[0]) / (axis[1] - axis[0]) for x_i, axis in zip(x.unbind(-1), self.axes, strict=True)]
        cell = tuple(
            place.round().long().clamp(0, len(axis) - 1) for place, axis in zip(places, self.axes, strict=True)
        )
        found, close = self.labels[cell], self.near[cell]
        y = x[close].double()
        for _ in range(self.steps):
            y = self.map.step(y)
        found[close] = torch.cdist(y, self.attractors).argmin(dim=-1)
        return found


@checked
def lookup(
    map: Map, attractors: Float[Tensor, "A N"], axes: tuple[Tensor, ...], *, steps: Count = 50, beside: Count = 2
) -> Lookup:
    """A grid of basins to read from.

    Args:
        map: of the states.
        attractors: its stable fixed points, at least two.
        axes: coordinates of the grid along each of the state's numbers, evenly spaced.
        steps: iterations of states that are too near a boundary for the grid; twice as many for its points.
        beside: how many points of the grid from another label that is.

    Raises:
        ValueError: the map is of states of another size than there are axes.
    """
    x, attractors = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).double(), attractors.double()
    for _ in range(2 * steps):
        x = fitting("axes", x, map).step(x)
    least, labels = torch.cdist(x.flatten(0, -2), attractors).min(dim=-1)
    labels = labels.masked_fill(least > torch.pdist(attractors).min() / 4, -1).reshape(x.shape[:-1])
    near = labels < 0
    for axis in range(labels.ndim):
        for shift in range(1, beside + 1):
            near |= (labels.roll(shift, axis) != labels) | (labels.roll(-shift, axis) != labels)
    return Lookup(map, attractors, axes, labels, near, steps)

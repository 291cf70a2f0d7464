"""Fixed points and cycles of a map, stable or not, by Newton's method."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from rnnlab.dynamics.maps import Map, Network, fitting, orbit
from rnnlab.values import Count, Positive, checked

LOST = -1  # label of starts from which Newton's method finds nothing
_NEAR, _HALVINGS = 1e-9, 6  # the step after one as short as this is a rounding error


@dataclass(frozen=True, eq=False)
class FixedPoints:
    """Fixed points and cycles that were found: never to be called all of them.

    Args:
        cycles: the states of each, a fixed point's one, in their order from the one whose first number is least.
        eigenvalues: of the Jacobian of each one's round, the largest modulus first.
        labels: position among the cycles of the one that each start came to, or `LOST`.
        map: whose they are.
        period: which the periods of all divide, in steps.
    """

    cycles: tuple[Float[Tensor, "_ N"], ...]
    eigenvalues: Complex[Tensor, "K N"]
    labels: Int[Tensor, "*S"]
    map: Map
    period: int

    @property
    def unstable(self) -> Int[Tensor, "K"]:
        """Unstable dimensions of each: eigenvalues not inside the unit circle. It attracts if there is none."""
        return (self.eigenvalues.abs() >= 1).sum(dim=-1)

    @property
    def index_sum(self) -> int:
        """Sum over all states found of the sign of det(I - J), J being that of `period` steps.

        Where the map takes a ball into its inside, as networks of the form "h" with bounded sigma do, it is 1 if no
        point is missing and none degenerate. A sum of 1 proves nothing: a pair of opposite signs may be missing.
        """
        rounds = [self.period // len(cycle) for cycle in self.cycles]
        signs = [(1 - l**n).prod().real.sign() for l, n in zip(self.eigenvalues, rounds, strict=True)]
        return int(sum(len(cycle) * sign for cycle, sign in zip(self.cycles, signs, strict=True)))

    @property
    def growth(self) -> Int[Tensor, "S"]:
        """How many different ones the first starts found, from the first one alone to all of them."""
        labels = self.labels.flatten()
        new = [int((labels == k).int().argmax()) for k in range(len(self.cycles))]
        return torch.bincount(torch.tensor(new, dtype=torch.int64, device="cpu"), minlength=len(labels)).cumsum(0)

    @property
    def unseen(self) -> float:
        """Estimated chance that another start which converges finds a new one; 1 where none converged.

        Source:
            Good 1953, "The population frequencies of species": the share of starts whose find is no other's.
        """
        counts = torch.bincount(self.labels[self.labels >= 0])
        return float((counts == 1).sum() / counts.sum()) if len(counts) else 1.0


@checked
def fixed_points(
    map: Map, starts: Float[Tensor, "*S N"], *, period: Count = 1, iterations: Count = 40, tolerance: Positive = 1e-6
) -> FixedPoints:
    """Fixed points, and cycles whose period divides a given one, by damped Newton's method from all starts at once.

    It solves f^period(x) = x. FixedPointFinder minimizes the speed |f(x) - x|^2 by gradient descent, and so finds slow
    points, too, which this does not; and it knows cells that here have to be written as a `Function`. SCYFI finds
    cycles of many steps in networks of piecewise linear units, by solving linear equations; this needs a derivative
    and is practical up to about period 4. Neither of them proves what it finds; see `certificates.certify`.

    Args:
        map: of the states; a `Network` has one push.
        starts: where to look from; the finds depend on them.
        period: number of steps after which states are to be the same.
        iterations: most Newton steps from each start.
        tolerance: distance up to which two states are one, in their unit.

    Raises:
        ValueError: the map is of other states, or has more than one push.

    Source:
        Sussillo & Barak 2013, "Opening the black box", for the use; Golub & Sussillo 2018, FixedPointFinder; Eisenmann
        et al. 2023, "Bifurcations and loss jumps in RNN training", SCYFI.
    """
    if isinstance(map, Network) and map.push.ndim != 1:
        raise ValueError(f"map must have one push for all states, got one of shape {tuple(map.push.shape)}")
    x, found = _newton(fitting("starts", starts, map), starts.double().flatten(0, -2), period, iterations)
    ring = orbit([map] * period, x)
    labels, cycles = torch.full(found.shape, LOST, dtype=torch.int64, device="cpu"), list[Tensor]()
    while (left := found & (labels == LOST)).any():
        first = ring[:, int(left.int().argmax())]
        back = (first[1:] - first[0]).norm(dim=-1) <= tolerance
        cycle = first[: int(back.int().argmax()) + 1] if back.any() else first[:period]
        labels[left & ((x[:, None] - cycle).norm(dim=-1).amin(dim=-1) <= tolerance)] = len(cycles)
        cycles.append(cycle.roll(-int(cycle[:, 0].argmin()), 0))
    spectra = [eigen(around(map, cycle[:1], len(cycle))[1][0])[0] for cycle in cycles]
    eigenvalues = [l[l.abs().argsort(descending=True, stable=True)] for l in spectra]
    none = torch.zeros(0, map.N, dtype=torch.complex128, device="cpu")
    return FixedPoints(
        tuple(cycles), torch.stack(eigenvalues) if cycles else none, labels.reshape(starts.shape[:-1]), map, period
    )


def _newton(map: Map, x: Tensor, period: int, iterations: int) -> tuple[Tensor, Tensor]:
    """The last state from each start, and which of them are as good as rounding allows."""
    x, found = x.clone(), torch.zeros(len(x), dtype=torch.bool, device="cpu")
    left = torch.arange(len(x), dtype=torch.int64, device="cpu")
    for _ in range(iterations):
        at = x[left]
        y, J = around(map, at, period)
        off = y - at
        step = torch.linalg.solve_ex(torch.eye(map.N, dtype=torch.float64, device="cpu") - J, off[..., None])[0][..., 0]
        near = step.norm(dim=-1) <= _NEAR * (1 + at.norm(dim=-1))
        x[left] = at + torch.where(near, 1.0, _share(map, at, step, off, period))[:, None] * step
        found[left[near]] = True
        left = left[~near & x[left].isfinite().all(dim=-1)]
        if not len(left):
            break
    return x, found


def _share(map: Map, x: Tensor, step: Tensor, off: Tensor, period: int) -> Tensor:
    """How much of each Newton step to take: halved until the residual falls, or as small as halving goes."""
    share = torch.ones(len(x), dtype=torch.float64, device="cpu")
    bad = torch.arange(len(x), dtype=torch.int64, device="cpu")
    for _ in range(_HALVINGS):
        there = x[bad] + share[bad, None] * step[bad]
        left = (orbit([map] * period, there)[-1] - there).norm(dim=-1)
        bad = bad[~(left <= (1 - 1e-4 * share[bad]) * off[bad].norm(dim=-1))]
        if not len(bad):
            break
        share[bad] /= 2
    return share


def around(map: Map, x: Tensor, period: int) -> tuple[Tensor, Tensor]:
    """States after `period` steps, and their Jacobian."""
    J = map.jacobian(x)
    for _ in range(period - 1):
        x = map.step(x)
        J = map.jacobian(x) @ J
    return map.step(x), J


def eigen(J: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors; LAPACK may give up where many are 0, and does not beside 1."""
    try:
        return torch.linalg.eig(J)
    except torch.linalg.LinAlgError:
        values, vectors = torch.linalg.eig(J + torch.eye(len(J), dtype=J.dtype, device="cpu"))
        return values - 1, vectors

"""Branches of fixed points along a parameter, and where they bifurcate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from rnnlab.dynamics.maps import Map, fitting
from rnnlab.values import Count, Finite, Positive, checked

Family = Callable[[float], Map]
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class Bifurcation:
    """A point of a branch at which an eigenvalue, or a pair of them, meets the unit circle.

    Args:
        kind: "fold", at +1, where the branch turns back; "bp", a branch point, at +1, where another branch crosses;
            "flip", at -1, or period doubling; "ns", Neimark-Sacker, a pair that is not real.
        parameter: where.
        x: the fixed point.
        eigenvalues: of its Jacobian, the largest modulus first.
    """

    kind: str
    parameter: float
    x: Float[Tensor, "N"]
    eigenvalues: Complex[Tensor, "N"]


@dataclass(frozen=True, eq=False)
class Branch:
    """Fixed points along a branch, in its own order, and its bifurcations, none or more.

    Args:
        parameter: at each point.
        x: each point.
        eigenvalues: of each point's Jacobian, the largest modulus first.
        bifurcations: in the same order.
        ends: why it ends on both sides: "range", at an end of the parameter's; "steps", with the last one; "lost",
            where no step was short enough; "no start", where Newton's method found no fixed point, and there is none.
    """

    parameter: Float[Tensor, "L"]
    x: Float[Tensor, "L N"]
    eigenvalues: Complex[Tensor, "L N"]
    bifurcations: tuple[Bifurcation, ...]
    ends: tuple[str, str]

    @property
    def stable(self) -> Bool[Tensor, "L"]:
        """Which points attract: all eigenvalues are inside the unit circle."""
        return self.eigenvalues.abs().amax(dim=-1) < 1


@checked
def branch(
    family: Family,
    x: Float[Tensor, "N"],
    parameter: Finite,
    *,
    low: Finite,
    high: Finite,
    step: Positive = 0.05,
    steps: Count = 1000,
) -> Branch:
    """The branch of fixed points through one of them, by pseudo-arclength continuation both ways.

    Its bifurcations are where a test function changes sign from one point to the next, refined by bisection: the
    parameter's share of the tangent (fold), the determinant of the bordered system (bp), det(J + 1) (flip), and the
    product of l_i l_j - 1 over pairs of eigenvalues (ns). Two of a kind within one step are not seen. A branch point is
    passed straight on, and found to about the root of a rounding error, as the system is singular there.

    Args:
        family: the map at a value of the parameter.
        x: start, near a fixed point at `parameter`.
        parameter: of the start, in its own unit.
        low: least value of the parameter.
        high: its largest.
        step: longest step along the branch, in the unit of states and parameter together.
        steps: most of them, to each side.

    Raises:
        ValueError: the map is of other states, or `parameter` lies outside the range.

    Source:
        Keller 1977, "Numerical solution of bifurcation and nonlinear eigenvalue problems"; Kuznetsov 2004, "Elements of
        applied bifurcation theory", sec. 10.2, for the test functions; names as in BifurcationKit.
    """
    if not low <= parameter <= high:
        raise ValueError(f"parameter must be from low = {low} to high = {high}, got {parameter}")
    fitting("x", x, family(parameter))
    begin = torch.cat((x.double(), torch.tensor([parameter], dtype=torch.float64, device="cpu")))
    within = _Within(family, low, high)
    start = _place(within, begin, torch.eye(len(begin), dtype=torch.float64, device="cpu")[-1])
    if start is None:
        none = begin.new_empty(0, len(x))
        return Branch(none.sum(dim=1), none, none.to(torch.complex128), (), ("no start", "no start"))
    sides = [_side(within, start, way, step, steps) for way in (-1.0, 1.0)]
    (back, before, first), (path, after, last) = sides
    places = [*back[::-1], start, *path]
    z, spectra = torch.stack([p.z for p in places]), torch.stack([p.eigenvalues for p in places])
    return Branch(z[:, -1], z[:, :-1], spectra, (*before[::-1], *after), (first, last))


class _Within(NamedTuple):
    """A family of maps, and the range of its parameter."""

    family: Family
    low: float
    high: float


class _Place(NamedTuple):
    """A fixed point with its parameter, the branch's direction there, eigenvalues, and which tests are not negative."""

    z: Tensor
    tangent: Tensor
    eigenvalues: Tensor
    signs: dict[str, bool]


def _side(
    within: _Within, start: _Place, way: float, step: float, steps: int
) -> tuple[list[_Place], list[Bifurcation], str]:
    """Places after the start, to one side, bifurcations among them, and why they ended."""
    at, length = _place(within, start.z, way * start.tangent) or start, step
    path: list[_Place] = []
    found: list[Bifurcation] = []
    for _ in range(steps):
        while (after := _ahead(within, at, length)) is None and length > 1e-6 * step:
            length /= 2
        if after is None:
            return path, found, "lost"
        if leaves := not after.signs["inside"]:
            after = _last(within, at, length, "inside")
        found += _between(within, at, after, length)
        at, length = after, min(step, 1.5 * length)
        path.append(at)
        if leaves:
            return path, found, "range"
    return path, found, "steps"


def _between(within: _Within, at: _Place, after: _Place, length: float) -> list[Bifurcation]:
    """Where a test function changes its sign from one place to the next."""
    changed = [kind for kind, sign in at.signs.items() if after.signs[kind] != sign]
    found = []
    for kind, (z, _, spectrum, _) in sorted(
        ((kind, _last(within, at, length, kind)) for kind in changed), key=lambda met: float((met[1].z - at.z).norm())
    ):
        near = min(torch.combinations(spectrum, 2), key=lambda pair: abs(pair.prod() - 1), default=spectrum)
        neutral = kind == "ns" and bool(near.isreal().all())  # a saddle of two real eigenvalues l and 1 / l
        if not (neutral or (kind == "fold" and "bp" in changed)):  # where another branch crosses, this one may turn
            found.append(Bifurcation(kind, float(z[-1]), z[:-1], spectrum))
    return found


def _ahead(within: _Within, at: _Place, length: float) -> _Place | None:
    """The place at a length along the tangent; None if Newton's method fails, jumps, or the branch turns too much."""
    guess = at.z + length * at.tangent
    place = _place(within, guess, at.tangent)
    near = place is not None and (place.z - guess).norm() < length / 2 and place.tangent @ at.tangent > 0.95
    return place if near else None


def _last(within: _Within, at: _Place, length: float, kind: str) -> _Place:
    """The last place where a test has the sign that it has here, up to rounding, by steps that are halved beyond it."""
    sign = at.signs[kind]
    while length > 2 * _EPS * (1 + at.z.norm()):
        for _ in range(2):  # a third one is beyond, or has gone astray by rounding
            if (place := _ahead(within, at, length)) is None or place.signs[kind] != sign:
                break
            at = place
        length /= 2
    return at


def _place(within: _Within, guess: Tensor, tangent: Tensor) -> _Place | None:
    """The fixed point in the plane through the guess that is normal to the tangent, by Newton's method."""
    z, one = guess, torch.eye(len(guess), dtype=torch.float64, device="cpu")
    for _ in range(12):
        off, A = _system(within.family, z)
        if not (off.isfinite().all() and A.isfinite().all()):
            return None
        left = torch.cat((-off, tangent[None] @ (guess - z)))
        if left.norm() <= 16 * _EPS * (1 + z.norm()):
            break
        z = z + _solved(A, tangent, left)
    else:
        return None
    onward, J = _solved(A, tangent, one[-1]), A[:, :-1] + one[:-1, :-1]
    spectrum = torch.linalg.eigvals(J)
    pairs = torch.combinations(spectrum, 2).prod(dim=1) - 1
    bp, flip = torch.linalg.det(torch.cat((A, onward[None]))), torch.linalg.det(J + one[:-1, :-1])
    tests = {"bp": bp, "fold": onward[-1], "flip": flip, "ns": (pairs / pairs.abs()).nan_to_num(1.0).prod().real}
    signs = {kind: bool(value >= 0) for kind, value in tests.items()}
    signs["inside"] = within.low <= float(z[-1]) <= within.high
    return _Place(z, onward / onward.norm(), spectrum[spectrum.abs().argsort(descending=True, stable=True)], signs)


def _system(family: Family, z: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) - x, and its derivatives for the state and, by central differences, for the parameter, `N N+1`."""
    x, p = z[:-1], float(z[-1])
    map, width = family(p), _EPS ** (1 / 3) * max(1.0, abs(p))
    slope = (family(p + width).step(x) - family(p - width).step(x)) / (2 * width)
    J = map.jacobian(x)
    return map.step(x) - x, torch.cat((J - torch.eye(len(x), dtype=torch.float64, device="cpu"), slope[:, None]), dim=1)


def _solved(A: Tensor, tangent: Tensor, right: Tensor) -> Tensor:
    """Solution of the system bordered by the tangent; the shortest one where it is singular, as at a branch point."""
    return torch.linalg.lstsq(torch.cat((A, tangent[None])), right[:, None], driver="gelsd").solution[:, 0]

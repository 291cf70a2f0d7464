"""Proofs that fixed points and cycles of a map exist, and of how many directions they are unstable in, in balls."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rnnlab.dynamics.fixed_points import around, eigen
from rnnlab.dynamics.maps import Map, Network
from rnnlab.network.cells import Linear, Sigmoid, Tanh
from rnnlab.values import Positive, Size, checked, refusal

Balls = Callable[[Any], tuple[Any, Any]]  # from a column of balls to the next state's, and the Jacobian's


class Certificates(NamedTuple):
    """What is proved of each cycle.

    Args:
        radius: half the edge of the cube around the first of its states in which there is exactly one state whose
            period, in steps, is the cycle's; NaN where that is not proved.
        unstable: its unstable dimensions, so that it attracts at 0; -1 where they are not proved.
    """

    radius: Float[Tensor, "K"]
    unstable: Int[Tensor, "K"]


@checked
def certify(
    map: Map,
    cycles: Sequence[Tensor],
    *,
    balls: Balls | None = None,
    within: Positive = 1e-8,
    precision: Size = 64,
) -> Certificates:
    """Proofs that fixed points and cycles exist, each alone in a small cube, and of their unstable dimensions.

    The cube lies around the first state as it is, and Krawczyk's operator takes it into its inside. All is computed in
    balls, which bound their own rounding errors; the map's numbers are exact as it holds them. No eigenvalue is on the
    unit circle, by block diagonal dominance in a basis of approximate eigenvectors. Where something is not proved, the
    outcome says so; nothing is said of cycles that are not given.

    Args:
        map: of the states; a `Network` with a sigma of the package, or any with its `balls`.
        cycles: the states of each, `period N`, such as `FixedPoints.cycles` or `Basins.attractors`.
        balls: the map in `flint.arb_mat`, from a column of N to the next column and the Jacobian, N by N.
        within: largest radius, in the states' unit; whoever is further from a cycle than that gets no certificate.
        precision: of the balls' centers, in bits.

    Raises:
        ModuleNotFoundError: python-flint is not installed.
        ValueError: a cycle is none, or of other states, or the map is not known in balls.

    Source:
        Krawczyk 1969, as in Rump 2010, "Verification methods", sec. 13; Feingold & Varga 1962 for block dominance.
    """
    try:
        import flint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("certify needs python-flint: pip install 'rnnlab[book]'") from error
    for cycle in cycles:
        if cycle.ndim != 2 or not len(cycle) or cycle.shape[1] != map.N or not cycle.is_floating_point():
            raise refusal("cycles", f"of a floating dtype and of shape (period, {map.N}), a row for each state", cycle)
    before, flint.ctx.prec = flint.ctx.prec, precision
    try:
        inside = balls or _balls(map)
        found = [_certified(inside, map, cycle.detach().double(), within) for cycle in cycles]
    finally:
        flint.ctx.prec = before
    radius = torch.tensor([radius for radius, _ in found], dtype=torch.float64, device="cpu")
    return Certificates(radius, torch.tensor([unstable for _, unstable in found], dtype=torch.int64, device="cpu"))


def _certified(balls: Balls, map: Map, cycle: Tensor, within: float) -> tuple[float, int]:
    from flint import arb, arb_mat

    x, N = cycle[0], map.N
    J = around(map, x[None], len(cycle))[1][0]
    Y, failed = torch.linalg.inv_ex(torch.eye(N, dtype=torch.float64, device="cpu") - J)
    if failed or not Y.isfinite().all():
        return torch.nan, -1
    inverse, center, one = _matrix(Y), _matrix(x[:, None]), _matrix(torch.eye(N, dtype=torch.float64, device="cpu"))
    off = inverse * (center - _ring(balls, center, cycle)[0][-1])
    largest = max(float(abs(entry).upper()) for entry in off.entries())
    for radius in (max(widen * largest, 2.0**-50) for widen in (2, 16, 256)):
        if not radius <= within:
            break
        cube = arb_mat(N, 1, [arb(number, radius) for number in x.tolist()])
        (*earlier, _), slope = _ring(balls, cube, cycle)
        image = (one - inverse * (one - slope)) * (cube - center) - off  # Krawczyk's, from the center
        if all(_apart(y, cube) for y in earlier) and all(abs(entry) < radius for entry in image.entries()):
            return radius, _unstable(slope, J)
    return torch.nan, -1


def _unstable(slope: Any, J: Tensor) -> int:
    """Eigenvalues outside the unit circle of each matrix in balls around J, or -1.

    In a basis of the eigenvectors, a pair's real and imaginary part side by side, J is close to a matrix of normal
    blocks. Let a block be further from the unit circle than the sum of all that is added in its rows; then no matrix on
    the straight way from the blocks to the one wanted has an eigenvalue on it, and none gets across.
    """
    from flint import arb, arb_mat

    eigenvalues, vectors = eigen(J)
    real, imag, N = eigenvalues.real, eigenvalues.imag, len(J)
    basis = torch.where(imag >= 0, vectors.real, -vectors.imag)
    inverse, failed = torch.linalg.inv_ex(basis)
    if failed or not inverse.isfinite().all():
        return -1
    blocks = torch.diag(real) + torch.diag(imag[:-1].clamp(min=0), 1) + torch.diag(imag[1:].clamp(max=0), -1)
    Y, V = _matrix(inverse), _matrix(basis)
    added = Y * (slope * V) - _matrix(blocks), Y * V - _matrix(torch.eye(N, dtype=torch.float64, device="cpu"))
    signs = arb_mat(N, 1, [arb(0, 1)] * N)  # times a row: a ball as large as the sum of its moduli
    sums = [abs(a) + abs(b) for a, b in zip(*((part * signs).entries() for part in added), strict=True)]
    outside = 0
    for i in (imag >= 0).nonzero().flatten().tolist():
        size = 2 if imag[i] > 0 else 1
        gap = (arb(float(real[i])) ** 2 + arb(float(imag[i])) ** 2).sqrt() - 1
        if not abs(gap) > sum(sums[i : i + size], arb(0)):
            return -1
        outside += size if gap > 0 else 0
    return outside


def _ring(balls: Balls, x: Any, cycle: Tensor) -> tuple[list[Any], Any]:
    """Balls around the states after 1, 2, ... steps, as many as the cycle has, and around the Jacobian of them all."""
    y, J = balls(x)
    ring = [y]
    for _ in cycle[1:]:
        y, slope = balls(y)
        J = slope * J
        ring.append(y)
    return ring, J


def _apart(y: Any, x: Any) -> bool:
    return not all(a.overlaps(b) for a, b in zip(y.entries(), x.entries(), strict=True))


def _balls(map: Map) -> Balls:
    """A network in balls."""
    from flint import arb, arb_mat

    sigmas = {
        Tanh: (lambda a: a.tanh(), lambda y: 1 - y * y),
        Sigmoid: (lambda a: 1 / (1 + (-a).exp()), lambda y: y * (1 - y)),
        Linear: (lambda a: a, lambda y: arb(1)),
    }
    if not (isinstance(map, Network) and map.push.ndim == 1 and type(map.sigma) in sigmas):
        raise refusal("map", "a Network of one push and of Tanh, Sigmoid or Linear, or have its balls", map)
    (sigma, derivative), (W, push) = sigmas[type(map.sigma)], (_matrix(map.W_rec), _matrix(map.push[:, None]))

    def step(x: Any) -> tuple[Any, Any]:
        y = [sigma(a) for a in (W * x + push if map.form == "h" else x).entries()]
        slopes, h = arb_mat(map.N, map.N), arb_mat(map.N, 1, y)
        for i, output in enumerate(y):
            slopes[i, i] = derivative(output)
        return (h, slopes * W) if map.form == "h" else (W * h + push, W * slopes)

    return step


def _matrix(x: Tensor) -> Any:
    from flint import arb_mat

    rows, columns = x.shape
    return arb_mat(rows, columns, x.flatten().tolist())

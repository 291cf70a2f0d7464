"""Lyapunov exponents: all of them, with intervals."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab.dynamics.maps import Map, fitting
from rnnlab.values import Natural, checked

BLOCKS = 20
_QUANTILE = 2.093024  # 97.5 % of Student's t with 19 degrees of freedom


class Spectrum(NamedTuple):
    """Exponents of each trajectory, in nats per step, the largest first, and the ends of their 95 % intervals."""

    exponents: Float[Tensor, "*S N"]
    low: Float[Tensor, "*S N"]
    high: Float[Tensor, "*S N"]


@checked
def spectrum(maps: Iterable[Map], x_0: Float[Tensor, "*S N"], *, discard: Natural = 0) -> Spectrum:
    """All Lyapunov exponents along trajectories: growth, per step, of orthonormal vectors that are carried along.

    Intervals are Student's t over the means of 20 blocks of steps, which are nearly independent where blocks are longer
    than the trajectory's memory. They are for the mean over all time, and know nothing of what starts do not reach. A
    direction that a step cuts to zero has -inf and no interval (NaN); a trajectory that diverges has NaN.

    Args:
        maps: one for each step; `[map] * T` for one that stays.
        x_0: where trajectories start.
        discard: first steps that turn the vectors and are not counted.

    Raises:
        ValueError: fewer than 20 steps are counted, or a map is of other states.

    Source:
        Benettin et al. 1980, by QR decomposition; block means as in Flegal & Jones 2010, "Batch means and spectral
        variance estimators in Markov chain Monte Carlo".
    """
    x, logs = x_0.double(), []
    Q = torch.eye(x.shape[-1], dtype=torch.float64, device="cpu").expand(*x.shape, -1)
    for map in maps:
        J = fitting("x_0", x, map).jacobian(x)
        broken = ~J.isfinite().all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
        Q, R = torch.linalg.qr(J.masked_fill(broken, 0.0) @ Q)
        logs.append(R.diagonal(dim1=-2, dim2=-1).abs().log().masked_fill(broken[..., 0], torch.nan))
        x = map.step(x)
    counted = logs[discard:]
    if len(counted) < BLOCKS:
        raise ValueError(f"maps must give at least {BLOCKS} steps after discard = {discard}, got {len(counted)}")
    growth = torch.stack(counted)
    means = torch.stack([block.mean(dim=0) for block in growth.tensor_split(BLOCKS)])
    half = _QUANTILE * means.std(dim=0) / BLOCKS**0.5
    exponents, order = growth.mean(dim=0).sort(dim=-1, descending=True)
    half = half.gather(-1, order)
    return Spectrum(exponents, exponents - half, exponents + half)

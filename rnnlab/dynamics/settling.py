"""Whether states settle: how wide and how far apart classes of them are, and how fast a difference is forgotten."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnlab.dynamics.jacobians import log_norms, post_activation
from rnnlab.network.cells import Sigma
from rnnlab.values import checked


class Verdict(NamedTuple):
    """Whether what each member keeps has settled, and the numbers that say so; NaN where it keeps no class."""

    spread: Float[Tensor, "M"]
    distance: Float[Tensor, "M"]
    exponent: Float[Tensor, "M"]
    settled: Bool[Tensor, "M"]


@checked
def verdict(
    spread: Float[Tensor, "M C"],
    means: Float[Tensor, "M C N"],
    exponent: Float[Tensor, "M C"],
    *,
    kept: Bool[Tensor, "M C"],
) -> Verdict:
    """The worst of the classes that each member keeps: widest spread, least distance, largest exponent.

    It has settled if the exponent is negative and the spread below a quarter of the distance.

    Args:
        spread: of each class, as `spread` gives it.
        means: of the states of each class.
        exponent: of each class, in nats per step.
        kept: which classes count; the distance of a single one is infinite.
    """
    none = ~kept.any(dim=1)
    wide, grows = (
        x.masked_fill(~kept, -torch.inf).amax(dim=1).masked_fill(none, torch.nan) for x in (spread, exponent)
    )
    least = [nearest(m[k]) if k.any() else m.new_tensor(torch.nan) for m, k in zip(means, kept, strict=True)]
    apart = torch.stack(least)
    return Verdict(wide, apart, grows, (grows < 0) & (wide < apart / 4))


@checked
def spread(h: Float[Tensor, "M T B C N"]) -> Float[Tensor, "M C"]:
    """Mean distance of the states of each class from their mean, in the states' unit.

    Args:
        h: states over steps T and sequences B of classes C.
    """
    return (h - h.mean(dim=(1, 2), keepdim=True)).norm(dim=-1).mean(dim=(1, 2))


@checked
def nearest(points: Float[Tensor, "*S C N"]) -> Float[Tensor, "*S"]:
    """Distance between the two nearest of C points, in their unit; infinite if there is only one.

    Args:
        points: the means of classes, say.
    """
    apart = (points.unsqueeze(-2) - points.unsqueeze(-3)).norm(dim=-1)
    itself = torch.eye(points.shape[-2], dtype=torch.bool, device=points.device)
    return apart.masked_fill(itself, torch.inf).amin(dim=(-2, -1))


@checked
def largest_exponent(
    W_rec: Float[Tensor, "M N N"], h: Float[Tensor, "M T *S N"], *, sigma: Sigma
) -> Float[Tensor, "M *S"]:
    """The largest Lyapunov exponent of each trajectory over its steps, in nats per step.

    That is how fast a small difference grows, here one that is equal in all units at first: log |dh_T| / |dh_0|,
    divided by the steps between the states. Over few steps it depends on that start; as their number grows it does so
    for almost no start. Where it is negative, two states that get the same inputs come together.

    Args:
        W_rec: weight from unit j to unit i at [i, j].
        h: states along the way, the first one included; any axes between steps and units.
        sigma: the non-linearity.

    Raises:
        ValueError: there are fewer than two states, or members or units of W_rec and h differ.

    Source:
        Benettin et al. 1980, "Lyapunov characteristic exponents for smooth dynamical systems", for the transported
        vector that is rescaled at each step.
    """
    arrived = h[:, 1:].unbind(1)
    if not arrived:
        raise ValueError(f"h must hold at least two states of each trajectory, got shape {tuple(h.shape)}")
    start = torch.ones_like(h[:, 0]).unsqueeze(-1) / h.shape[-1] ** 0.5
    factors = (post_activation(W_rec, h_t, sigma=sigma) for h_t in arrived)
    return log_norms(factors, start=start, every=len(arrived))[:, 0] / len(arrived)

"""Trajectories, Jacobians of their steps, and the norms of products of these Jacobians."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab.network.cells import Sigma
from rnnlab.values import Count, checked


@checked
def trajectory(
    W_rec: Float[Tensor, "M N N"], x_0: Float[Tensor, "M B N"], push: Float[Tensor, "M T #B N"], *, sigma: Sigma
) -> Float[Tensor, "M T+1 B N"]:
    """sigma(x_0), ..., sigma(x_T) along x_{t+1} = W_rec sigma(x_t) + push_t.

    Args:
        W_rec: weight from unit j to unit i at [i, j].
        x_0: where each sequence starts, before sigma.
        push: W_in u + b of each step, before sigma.
        sigma: the non-linearity.

    Source:
        Pascanu et al. 2013, eq. (2).
    """
    h = [sigma(x_0)]
    for push_t in push.unbind(1):
        h.append(sigma(h[-1] @ W_rec.mT + push_t))
    return torch.stack(h, dim=1)


@checked
def pre_activation(
    W_rec: Float[Tensor, "M N N"], h: Float[Tensor, "M *S N"], *, sigma: Sigma
) -> Float[Tensor, "M *S N N"]:
    """dx_{t+1}/dx_t = W_rec diag(sigma'(x_t)), the step of x_{t+1} = W_rec sigma(x_t) + W_in u_{t+1} + b.

    Args:
        W_rec: weight from unit j to unit i at [i, j].
        h: sigma(x_t), the output of the state that the step *leaves*; any axes between members and units.
        sigma: the non-linearity; its derivative is taken from h.

    Raises:
        ValueError: members or units of W_rec and h differ.

    Source:
        Pascanu et al. 2013, eqs. (2) and (5); the transpose printed in (5) belongs to neither form.
    """
    return _spread(W_rec, h) * sigma.derivative(h).unsqueeze(-2)


@checked
def post_activation(
    W_rec: Float[Tensor, "M N N"], h: Float[Tensor, "M *S N"], *, sigma: Sigma
) -> Float[Tensor, "M *S N N"]:
    """dh_t/dh_{t-1} = diag(sigma'(a_t)) W_rec, the step of h_t = sigma(a_t), a_t = W_rec h_{t-1} + W_in u_t + b.

    Args:
        W_rec: weight from unit j to unit i at [i, j].
        h: h_t, the state at which the step *arrives*; any axes between members and units.
        sigma: the non-linearity; its derivative is taken from h.

    Raises:
        ValueError: members or units of W_rec and h differ.

    Source:
        Pascanu et al. 2013, footnote 1.
    """
    return sigma.derivative(h).unsqueeze(-1) * _spread(W_rec, h)


@checked
def largest_singular_value(A: Float[Tensor, "*M N K"]) -> Float[Tensor, "*M"]:
    """lambda_1, the 2-norm of each matrix, in its entries' unit; NaN where a matrix is not finite."""
    finite = A.isfinite().all(dim=-1).all(dim=-1)
    norm = torch.linalg.matrix_norm(A.where(finite[..., None, None], torch.zeros_like(A)), ord=2)
    return norm.where(finite, torch.full_like(norm, torch.nan))


@checked
def log_norms(
    factors: Iterable[Float[Tensor, "M *S N N"]], *, start: Float[Tensor, "M *S N K"] | None = None, every: Count = 1
) -> Float[Tensor, "M L *S"]:
    """Natural logarithm of the 2-norm of J_n ... J_2 J_1 V, for n = every, 2 every, ...

    The product is rescaled at each factor, so that no length over- or underflows; only its logarithm is kept. A
    product that is exactly zero has -inf, one that is not finite NaN. For a fixed last step and an earlier first
    one (back-propagation) give the transposed Jacobians in reverse order: a matrix and its transpose have one norm.

    Args:
        factors: J_1, J_2, ..., one step of all members at a time; a generator keeps memory at one step.
        start: V; the identity unless given. With one column, what is measured is a transported vector.
        every: number of factors from one norm to the next, in steps.

    Raises:
        ValueError: `every` is not a positive integer, or `factors` has fewer matrices than that.

    Source:
        Pascanu et al. 2013, the left side of eq. (7).
    """
    product, logs = start, []
    scale: Tensor | float = 0.0
    for n, factor in enumerate(factors, start=1):
        product = factor if product is None else factor @ product
        largest = product.abs().amax(dim=(-2, -1))
        largest = largest.where(largest != 0, torch.ones_like(largest))  # a zero product stays zero
        product = product / largest[..., None, None]
        scale = scale + largest.log()
        if n % every == 0:
            logs.append(scale + largest_singular_value(product).log())
    if not logs:
        raise ValueError(f"factors must hold at least every = {every} matrices, and held fewer")
    return torch.stack(logs, dim=1)


def _spread(W_rec: Tensor, h: Tensor) -> Tensor:
    """W_rec with an axis of length one for each of h's axes between members and units."""
    return W_rec.reshape(W_rec.shape[0], *[1] * (h.ndim - 2), *W_rec.shape[1:])

"""The vanishing-gradient regularizer in its three forms, with their immediate derivatives.

For every step t and sequence b let d = dE/dh_t (total), v = d * sigma'(a_t) and n = v W_rec = d (dh_t/dh_{t-1}).
Each form is a function of the squared norms |d|^2 and |n|^2. Everything but W_rec is held constant, so the derivative
of every form is `scale` times the sum of c v^T n over live pairs, with c the form's `coefficient`: the factor is all
that a form has to give, and n and v are by-products of BPTT.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnlab.values import Positive, value

Pairs = Float[Tensor, "M T B"]
Live = Bool[Tensor, "M T B"]
BOUND = 1e-20  # pairs whose |d|^2 is smaller are left out, as in the authors' code


@runtime_checkable
class Omega(Protocol):
    """A form of the regularizer."""

    @property
    def bound(self) -> float:
        """Smallest |d|^2 of a live pair."""

    def value(self, d2: Tensor, n2: Tensor, live: Tensor) -> Tensor:
        """Omega of each member, shape `M`."""

    def coefficient(self, d2: Tensor, n2: Tensor) -> Tensor:
        """c for every pair, shape `M T B`; read only where a pair is live."""

    def scale(self, live: Tensor) -> Tensor:
        """The factor before the sum, shape `M`."""


def _pairs(live: Live, dtype: torch.dtype) -> Float[Tensor, "M"]:
    return live.sum(dim=(1, 2)).clamp(min=1).to(dtype)


def _ratio2(d2: Tensor, n2: Tensor, live: Tensor) -> Tensor:
    """|n|^2 / |d|^2 where live, and 1, which every form calls perfect, elsewhere."""
    return torch.where(live, n2, 1.0) / torch.where(live, d2, 1.0)


@value
class Code:
    """The form in the authors' code: mean over live pairs of (|n|^2/|d|^2 - 1)^2.

    Args:
        bound: pairs with |d|^2 below this are left out; carries the square of the loss's unit.

    Source:
        The authors' code, `RNN.py`, lines 183 to 217.
    """

    bound: Positive = BOUND

    def value(self, d2: Pairs, n2: Pairs, live: Live) -> Float[Tensor, "M"]:
        """Mean over live pairs, dimensionless; 0 where none is live."""
        return (_ratio2(d2, n2, live) - 1).square().sum(dim=(1, 2)) / _pairs(live, d2.dtype)

    def coefficient(self, d2: Pairs, n2: Pairs) -> Pairs:
        """(q - 1)/|d|^2 with q = |n|^2/|d|^2."""
        return (n2 / d2 - 1) / d2

    def scale(self, live: Live) -> Float[Tensor, "M"]:
        """4 over the number of live pairs."""
        return 4 / _pairs(live, torch.float64)


@value
class _PerBatch:
    bound: Positive = BOUND

    def scale(self, live: Live) -> Float[Tensor, "M"]:
        """2/B."""
        return torch.full((live.shape[0],), 2 / live.shape[-1], dtype=torch.float64, device=live.device)


@value
class Eq9(_PerBatch):
    """Equation (9): sum over steps of (|n|/|d| - 1)^2, mean over the batch.

    Source:
        Pascanu et al. 2013, eq. (9).
    """

    def value(self, d2: Pairs, n2: Pairs, live: Live) -> Float[Tensor, "M"]:
        """Sum over steps, mean over sequences, dimensionless."""
        ratio2 = _ratio2(d2, n2, live)
        ratio = ratio2.where(ratio2 > 0, 1.0).sqrt() * (ratio2 > 0)  # at 0 the root has no derivative, but |n| has: 0
        return (ratio - 1).square().sum(dim=(1, 2)) / live.shape[-1]

    def coefficient(self, d2: Pairs, n2: Pairs) -> Pairs:
        """(1 - |d|/|n|)/|d|^2, and 0 where n = 0."""
        inverse = (d2 / n2).sqrt()
        inverse = torch.where(inverse.isinf(), d2.sqrt() / n2.sqrt(), inverse)  # the square of it may be too large
        return torch.where(n2 > 0, (1 - inverse) / d2, 0.0)


@value
class Eq10AsPrinted(_PerBatch):
    """Equation (10) as printed, without the outer square: sum over steps of |n|^2/|d|^2 - 1, mean over the batch.

    Descending it always shortens n, so it promotes vanishing; it is here to show that.

    Source:
        Pascanu et al. 2013, eq. (10).
    """

    def value(self, d2: Pairs, n2: Pairs, live: Live) -> Float[Tensor, "M"]:
        """Sum over steps, mean over sequences, dimensionless; can be negative."""
        return (_ratio2(d2, n2, live) - 1).sum(dim=(1, 2)) / live.shape[-1]

    def coefficient(self, d2: Pairs, n2: Pairs) -> Pairs:
        """1/|d|^2."""
        return 1 / d2

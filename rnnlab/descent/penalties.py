"""What is asked of the weights themselves at every update: small ones, few ones, or a map that contracts."""

from collections.abc import Sequence
from typing import Annotated, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab.network.parameters import Parameters
from rnnlab.values import UNFIT, Positive, fit, value


@runtime_checkable
class Penalty(Protocol):
    """A part of what is descended that depends on the weights alone, or a set that they are held in."""

    def gradient(self, network: Parameters) -> Tensor | None:
        """What joins the gradient before it is clipped, shape `M P`, or None."""

    def hold_(self, network: Parameters) -> None:
        """Put the weights back to where they are held, after the step."""


def _names(name: str, given: object) -> tuple[str, ...]:
    if (names := fit(given, Sequence[str])) is UNFIT or not names:
        raise ValueError(f"{name} must be a tuple of names of parameters, such as ('W_rec',), got {given!r:.100}")
    return tuple(sorted(set(names)))


Names = Annotated[tuple[str, ...], _names]


@value
class _Soft:
    strength: Positive
    of: Names = ("W_rec",)

    def _weights(self, network: Parameters) -> Float[Tensor, "M P"]:
        """The weights that it is of, and zeros in the place of all others."""
        flat = Parameters(torch.zeros_like(network.theta), network.sizes)
        for name in self.of:
            flat.views[name].copy_(network.views[name])
        return flat.theta

    def hold_(self, network: Parameters) -> None:
        """Nothing."""


@value
class L1(_Soft):
    """`strength` times the sum of the weights' moduli; its derivative at 0 is 0.

    Args:
        strength: in the loss's unit per weight; positive.
        of: which parameters.

    Source:
        Pascanu et al. 2013, section 3.1.
    """

    def gradient(self, network: Parameters) -> Float[Tensor, "M P"]:
        """`strength` times the weights' signs."""
        return self.strength * self._weights(network).sign()


@value
class L2(_Soft):
    """Half of `strength` times the sum of the weights' squares.

    Args:
        strength: in the loss's unit per squared weight; positive.
        of: which parameters.

    Source:
        Pascanu et al. 2013, section 3.1.
    """

    def gradient(self, network: Parameters) -> Float[Tensor, "M P"]:
        """`strength` times the weights."""
        return self.strength * self._weights(network)


@value
class LargestSingularValue:
    """W_rec's singular values are held at `most` or below: the nearest such matrix takes its place.

    Args:
        most: the largest singular value that is let be, dimensionless; below 1/gamma the network forgets.

    Source:
        Pascanu et al. 2013, section 2.1, for the condition; Eckart & Young 1936 for the nearest matrix.
    """

    most: Positive

    def gradient(self, network: Parameters) -> None:
        """None."""

    def hold_(self, network: Parameters) -> None:
        """Cut the singular values of those members that have larger ones."""
        W_rec = network.W_rec
        sound = W_rec.where(W_rec.isfinite().flatten(1).all(dim=1)[:, None, None], 0.0)
        beyond = torch.linalg.svdvals(sound)[:, 0] > self.most
        if beyond.any():
            U, S, V = torch.linalg.svd(W_rec[beyond], full_matrices=False)
            W_rec[beyond] = U * S.clamp(max=self.most)[:, None] @ V

"""The three initializations of section 4.1.1, each with the non-linearity that belongs to it."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Protocol, runtime_checkable

import torch

from rnnlab import bits
from rnnlab.network.cells import Sigma, Sigmoid, Tanh
from rnnlab.network.parameters import Parameters, Sizes, spectral_radius
from rnnlab.values import Count, Positive, among, as_seeds, checked, value

_W_REC, _W_IN, _W_OUT, _KEPT = (bits.INIT + i for i in range(4))


@runtime_checkable
class Init(Protocol):
    """How networks begin."""

    name: ClassVar[str]
    sigma: ClassVar[Sigma]

    def parameters(self, sizes: Sizes, seeds: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Parameters:
        """One network per seed, on the CPU; biases are 0."""


class _Gaussian(Init):
    std: float

    @checked
    def parameters(self, sizes: Sizes, seeds: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Parameters:
        """One network per seed, with weights N(0, std); vectors are 0, but where the cell sets them."""
        network = Parameters.zeros(sizes, len(as_seeds(seeds)), dtype=dtype)
        for weights, stream in ((network.W_rec, _W_REC), (network.W_in, _W_IN), (network.W_out, _W_OUT)):
            drawn = bits.normals(seeds, stream=stream, count=weights[0].numel())
            weights.copy_(self.std * drawn.reshape(weights.shape))
        if sizes.cell is not None:
            sizes.cell.begin_(network.views)
        return network


@value
class SigmoidInit(_Gaussian):
    """Sigmoid units, all weights N(0, std); the paper's "sigmoid". Its N(0, 0.01) names the standard deviation.

    Args:
        std: standard deviation of W_rec, W_in and W_out, dimensionless.

    Source:
        Pascanu et al. 2013, section 4.1.1; the authors' code, `RNN.py`, lines 95 to 140.
    """

    std: Positive = 0.01
    name: ClassVar[str] = "sigmoid"
    sigma: ClassVar[Sigma] = Sigmoid()


@value
class BasicTanh(_Gaussian):
    """Tanh units, all weights N(0, std); the paper's "basic tanh".

    Source:
        Pascanu et al. 2013, section 4.1.1.
    """

    std: Positive = 0.1
    name: ClassVar[str] = "basic tanh"
    sigma: ClassVar[Sigma] = Tanh()


@value
class SmartTanh(_Gaussian):
    """Tanh units, sparse W_rec rescaled to a fixed spectral radius; the paper's "smart tanh".

    Args:
        std: standard deviation of W_in and W_out, and of W_rec's entries before rescaling.
        nonzeros: non-zero entries kept per unit; all of them in a network with fewer units.
        rho: spectral radius of W_rec.
        sparse: "outgoing" keeps them among a unit's outgoing weights, as the authors' code does; "incoming" among its
            incoming ones, as the paper says.

    Raises:
        ValueError: a number is out of range, or a drawn W_rec has spectral radius 0 and cannot be rescaled.

    Source:
        Pascanu et al. 2013, section 4.1.1; the authors' code, `RNN.py`, lines 125 to 140.
    """

    std: Positive = 0.01
    nonzeros: Count = 15
    rho: Positive = 0.95
    sparse: Annotated[str, among("outgoing", "incoming")] = "outgoing"
    name: ClassVar[str] = "smart tanh"
    sigma: ClassVar[Sigma] = Tanh()

    @checked
    def parameters(self, sizes: Sizes, seeds: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Parameters:
        """One network per seed."""
        network = super().parameters(sizes, seeds, dtype=torch.float64)
        if network.W_rec.shape[1] != sizes.units:
            raise ValueError(f"init must be another for a cell of several gates, whose W_rec is not square, got {self}")
        ranks = bits.permutations(seeds, stream=_KEPT, count=sizes.units, size=sizes.units)
        kept = ranks < self.nonzeros  # in row i, entries of unit i
        network.W_rec.mul_(kept if self.sparse == "incoming" else kept.mT)
        radius = spectral_radius(network.W_rec)
        if not (radius > 0).all():
            raise ValueError(f"a W_rec of {sizes.units} units with {self.nonzeros} non-zeros has spectral radius 0")
        network.W_rec.mul_((self.rho / radius)[:, None, None])
        return network.to(dtype)


INITS: dict[str, type[_Gaussian]] = {init.name: init for init in (SigmoidInit, BasicTanh, SmartTanh)}

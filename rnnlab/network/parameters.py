"""Parameters of many networks: flat, and by the names of the papers."""

import itertools
import math
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab.network.cells import Cell, Simple
from rnnlab.values import Members, Size, checked, value

_PLAIN = Simple()
_PLAIN_NAMES = ("W_rec", "W_in", "b", "W_out", "b_out")


@value
class Sizes:
    """Sizes of a network: inputs I, units N, outputs O; and its cell, which says what parameters it has.

    Args:
        inputs: I.
        units: N.
        outputs: O.
        cell: None is the simple one, whose non-linearity engines are then told.

    Raises:
        ValueError: a size is not a positive integer, or beyond 16,384.
    """

    inputs: Size
    units: Size
    outputs: Size
    cell: Cell | None = None

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter, in the order in which theta holds them."""
        I, N, O = self.inputs, self.units, self.outputs
        return (self.cell or _PLAIN).shapes(I, N) | {"W_out": (O, N), "b_out": (O,)}

    @property
    def width(self) -> int:
        """Numbers of a sequence's state, the first N of which are h."""
        return (self.cell or _PLAIN).width(self.units)

    @cached_property
    def starts(self) -> dict[str, int]:
        """Where each parameter begins in theta."""
        ends = itertools.accumulate(math.prod(shape) for shape in self.shapes.values())
        return dict(zip(self.shapes, (0, *ends), strict=False))

    @property
    def P(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())


class Parameters:
    """Parameters of M networks: theta, flat, and named views of it.

    `W_rec` (`M N N`) holds the weight from unit j to unit i at [i, j], like `torch.nn.RNN`; `W_in` is `M N I`,
    `b` is `M N`, `W_out` is `M O N`, `b_out` is `M O`. `views` holds all that the cell has, by name. A write to a view
    is a write to theta.

    Args:
        theta: `M P`, the parameters of a member in the order of `Sizes.shapes`.
        sizes: sizes of the networks.

    Raises:
        ValueError: theta's shape or dtype does not fit.
    """

    @checked
    def __init__(self, theta: Tensor, sizes: Sizes) -> None:
        if theta.ndim != 2 or theta.shape[1] != sizes.P:
            raise ValueError(f"theta must have shape (members, {sizes.P}) for {sizes}, got {tuple(theta.shape)}")
        if not theta.is_floating_point():
            raise ValueError(f"theta must be of a floating dtype, got {theta.dtype}")
        self.theta = theta
        self.sizes = sizes
        pieces = theta.split([math.prod(shape) for shape in sizes.shapes.values()], dim=1)
        shaped = (piece.unflatten(1, shape) for piece, shape in zip(pieces, sizes.shapes.values(), strict=True))
        self.views = dict(zip(sizes.shapes, shaped, strict=True))
        self.W_rec, self.W_in, self.b, self.W_out, self.b_out = map(self.views.__getitem__, _PLAIN_NAMES)

    @classmethod
    @checked
    def zeros(
        cls, sizes: Sizes, members: Members, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> "Parameters":
        """Parameters that are all zero, to be filled."""
        return cls(torch.zeros(members, sizes.P, dtype=dtype, device=device), sizes)

    @property
    def members(self) -> int:
        """Number of networks, M."""
        return self.theta.shape[0]

    def clone(self) -> "Parameters":
        """A copy that shares nothing."""
        return Parameters(self.theta.clone(), self.sizes)

    def to(self, *args: object, **kwargs: object) -> "Parameters":
        """Parameters on another device or of another dtype, as `Tensor.to`."""
        return Parameters(self.theta.to(*args, **kwargs), self.sizes)  # type: ignore[call-overload]

    def select(self, members: Tensor | slice | list[int]) -> "Parameters":
        """A copy of some members."""
        return Parameters(self.theta[members].clone(), self.sizes)


@checked
def spectral_radius(W_rec: Float[Tensor, "*M R N"]) -> Float[Tensor, "*M"]:
    """rho, the largest modulus of an eigenvalue, in float64 on the CPU; NaN if W_rec is not finite, or not square."""
    if W_rec.shape[-2] != W_rec.shape[-1]:  # a cell of several gates
        return torch.full(W_rec.shape[:-2], torch.nan, dtype=torch.float64, device="cpu")
    W = W_rec.detach().to("cpu", torch.float64)
    finite = W.isfinite().all(dim=-1).all(dim=-1)
    rho = torch.linalg.eigvals(W.where(finite[..., None, None], 0.0)).abs().amax(dim=-1)
    return rho.where(finite, float("nan"))

"""Parameters of many networks: flat, and by the names of the papers."""

import itertools
import math
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnlab.network.cells import LSTM, Cell, Sigma, Simple, Tanh
from rnnlab.values import Members, Size, checked, value, whole

_PLAIN = Simple()
_THEIRS = ("weight_hh_l0", "weight_ih_l0", "bias_ih_l0")  # PyTorch's names for W_rec, W_in and b
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

    def to_torch(self, m: int = 0, *, sigma: Sigma | None = None) -> tuple[nn.RNN | nn.LSTM, nn.Linear]:
        """Member m as PyTorch's own modules, of theta's dtype: the recurrent network, steps first, and its read-out.

        Args:
            m: which member.
            sigma: non-linearity of a simple cell: `Tanh()`, as PyTorch has no other of ours.

        Raises:
            ValueError: there is no such member, or PyTorch has no such module: another non-linearity, another cell, a
                learned start.
        """
        I, N, O = self.sizes.inputs, self.sizes.units, self.sizes.outputs
        m = whole("m", m, at_least=0, at_most=self.members - 1)
        kinds: dict[Any, type[nn.RNN] | type[nn.LSTM]] = {(Simple(), Tanh()): nn.RNN, (LSTM(), None): nn.LSTM}
        cell = self.sizes.cell or Simple()
        plain = type(cell)(cell.forget) if isinstance(cell, LSTM) else cell
        if (kind := kinds.get((plain, sigma))) is None:
            known = "sigma=Tanh() of a simple cell, or an LSTM with its forget gate"
            raise ValueError(f"networks must be {known}, to be PyTorch's, got {cell} and {sigma=}")
        recurrent = kind(I, N, dtype=self.theta.dtype, device=self.theta.device)
        read = nn.Linear(N, O, dtype=self.theta.dtype, device=self.theta.device)
        with torch.no_grad():
            for name, ours in zip(_THEIRS, (self.W_rec, self.W_in, self.b), strict=True):
                recurrent.get_parameter(name).copy_(ours[m])
            recurrent.get_parameter("bias_hh_l0").zero_()
            read.weight.copy_(self.W_out[m])
            read.bias.copy_(self.b_out[m])
        return recurrent, read

    @classmethod
    def from_torch(cls, recurrent: nn.RNN | nn.LSTM, read: nn.Linear) -> "Parameters":
        """One network, made of a recurrent module of PyTorch, of one layer and one direction, and its read-out.

        Their two biases become one. An `nn.RNN` has tanh: engines are to be told `sigma=Tanh()`.

        Raises:
            ValueError: they are no such modules, or do not fit each other.
        """
        if not isinstance(recurrent, nn.RNN | nn.LSTM) or not isinstance(read, nn.Linear):
            raise ValueError(f"modules must be an nn.RNN or nn.LSTM, and an nn.Linear, got {recurrent} and {read}")
        plain = recurrent.num_layers == 1 and not recurrent.bidirectional and not recurrent.proj_size
        plain = plain and getattr(recurrent, "nonlinearity", "tanh") == "tanh"
        if not plain or read.in_features != recurrent.hidden_size:
            wanted = "of one layer, one direction and tanh, as wide as what the read-out takes"
            raise ValueError(f"recurrent must be {wanted}, got {recurrent} and {read}")
        cell = LSTM() if isinstance(recurrent, nn.LSTM) else None
        sizes = Sizes(recurrent.input_size, recurrent.hidden_size, read.out_features, cell)
        weight = read.weight.detach()
        network = cls.zeros(sizes, 1, dtype=weight.dtype, device=weight.device)
        theirs = {name: x.detach() for name, x in recurrent.named_parameters()}
        network.W_rec[0], network.W_in[0], network.W_out[0] = theirs[_THEIRS[0]], theirs[_THEIRS[1]], weight
        network.b[0] = sum(theirs[name] for name in ("bias_ih_l0", "bias_hh_l0") if name in theirs)  # none may be there
        if read.bias is not None:
            network.b_out[0] = read.bias.detach()
        return network

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

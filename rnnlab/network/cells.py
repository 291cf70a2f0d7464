"""Non-linearities, each with its derivative as a function of its own output; and cells, what happens in a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import torch
from torch import Tensor

from rnnlab.values import UNFIT, Finite, fit, refusal, value


@runtime_checkable
class Sigma(Protocol):
    """An element-wise non-linearity whose derivative is a function of its own output."""

    gamma: float

    def __call__(self, a: Tensor) -> Tensor:
        """sigma(a)."""

    def derivative(self, h: Tensor) -> Tensor:
        """sigma'(a), given h = sigma(a)."""

    def apply_(self, a: Tensor) -> Tensor:
        """sigma(a), in place."""


@dataclass(frozen=True)
class Tanh:
    """Hyperbolic tangent; |sigma'| is at most gamma = 1."""

    gamma = 1.0

    def __call__(self, a: Tensor) -> Tensor:
        """tanh(a)."""
        return a.tanh()

    def derivative(self, h: Tensor) -> Tensor:
        """1 - h^2."""
        return 1 - h * h

    def apply_(self, a: Tensor) -> Tensor:
        """tanh(a), in place, as 2 / (1 + exp(-2a)) - 1.

        Right to two units in the last place of 1, which is what a sum of states needs, and three times as fast on a
        CPU as a tanh that is right relative to its own size.
        """
        return a.mul_(2).sigmoid_().mul_(2).sub_(1)


@dataclass(frozen=True)
class Sigmoid:
    """Logistic function; |sigma'| is at most gamma = 1/4."""

    gamma = 0.25

    def __call__(self, a: Tensor) -> Tensor:
        """1 / (1 + exp(-a))."""
        return a.sigmoid()

    def derivative(self, h: Tensor) -> Tensor:
        """h (1 - h)."""
        return h * (1 - h)

    def apply_(self, a: Tensor) -> Tensor:
        """1 / (1 + exp(-a)), in place."""
        return a.sigmoid_()


@dataclass(frozen=True)
class Linear:
    """Identity; gamma = 1."""

    gamma = 1.0

    def __call__(self, a: Tensor) -> Tensor:
        """A copy of a."""
        return a.clone()

    def derivative(self, h: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(h)

    def apply_(self, a: Tensor) -> Tensor:
        """a itself."""
        return a


Views = Mapping[str, Tensor]  # parameters by name, each with the members in front


@runtime_checkable
class Cell(Protocol):
    """What happens in one step of a network.

    A sequence's state is a row of `width` numbers, the first N of which are h, which the outputs are read from. It is
    driven by W_in u_t + b, so that a cell's `W_in` and `b` have as many rows as there are pre-activations. A class that
    has `Cell` as its base has one pre-activation for each unit, and h as its state, unless it says otherwise.
    """

    @property
    def learned_start(self) -> bool:
        """Whether sequences begin in a state of the parameters, `h_0`, or in 0."""

    def shapes(self, I: int, N: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter but the read-out's: `W_rec` first, `W_in` and `b` among them."""
        return _shapes(self, I, N, 1)

    def width(self, N: int) -> int:
        """Numbers of a sequence's state; N, that of h, unless told."""
        return N

    def begin_(self, views: Views) -> None:
        """Set what an initialization leaves at 0 and this cell wants otherwise; nothing, unless told."""
        return

    def step(self, views: Views, state: Tensor, drive: Tensor) -> Tensor:
        """The next state, `M B width`, from the one before and the drive; differentiable by autograd."""


def _shapes(cell: Cell, I: int, N: int, gates: int) -> dict[str, tuple[int, ...]]:
    start = {"h_0": (cell.width(N),)} if cell.learned_start else {}
    return {"W_rec": (gates * N, N), "W_in": (gates * N, I), "b": (gates * N,)} | start


@value
class Simple(Cell):
    """h_t = sigma(W_rec h_{t-1} + W_in u_t + b).

    Args:
        sigma: non-linearity.
        learned_start: whether h_0 is a parameter, or 0.

    Source:
        Pascanu et al. 2013, eq. (11).
    """

    sigma: Sigma = Tanh()
    learned_start: bool = False

    def step(self, views: Views, state: Tensor, drive: Tensor) -> Tensor:
        """h_t."""
        return self.sigma(drive + state @ views["W_rec"].mT)


def _leak(name: str, given: object) -> float:
    if (leak := fit(given, float)) is UNFIT or not 0 < leak <= 1:
        raise refusal(name, "a positive number, at most 1", given)
    return leak


@value
class Leaky(Cell):
    """Leaky units: h_t = (1 - leak) h_{t-1} + leak sigma(W_rec h_{t-1} + W_in u_t + b).

    Args:
        leak: share that is replaced in a step, above 0 and at most 1; one over the time constant in steps.
        sigma: non-linearity.
        learned_start: whether h_0 is a parameter, or 0.

    Source:
        Jaeger, Lukoševičius, Popovici & Siewert 2007, eq. (1), in discrete time.
    """

    leak: Annotated[float, _leak] = 0.5
    sigma: Sigma = Tanh()
    learned_start: bool = False

    def step(self, views: Views, state: Tensor, drive: Tensor) -> Tensor:
        """h_t."""
        return state + self.leak * (self.sigma(drive + state @ views["W_rec"].mT) - state)


@value
class LSTM(Cell):
    """Long short-term memory: c_t = f c_{t-1} + i g and h_t = o tanh(c_t), the state being h and c side by side.

    Gates stand in the order i, f, g, o in the rows of `W_rec`, `W_in` and `b`, as in `torch.nn.LSTM`; each is the
    logistic function of its pre-activation, but g the hyperbolic tangent.

    Args:
        forget: whether there is a forget gate; without one f = 1, as in 1997, and the rows are those of i, g, o.
        forget_bias: b of the forget gate at the start.
        learned_start: whether h_0 and c_0 are parameters, or 0.

    Source:
        Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000 for the forget gate.
    """

    forget: bool = True
    forget_bias: Finite = 1.0
    learned_start: bool = False

    def shapes(self, I: int, N: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter but the read-out's."""
        return _shapes(self, I, N, 4 if self.forget else 3)

    def width(self, N: int) -> int:
        """2 N: h and c."""
        return 2 * N

    def begin_(self, views: Views) -> None:
        """Set the bias of the forget gate."""
        if self.forget:
            views["b"].chunk(4, dim=-1)[1].fill_(self.forget_bias)

    def step(self, views: Views, state: Tensor, drive: Tensor) -> Tensor:
        """h_t and c_t."""
        h, c = state.chunk(2, dim=-1)
        i, *f, g, o = (drive + h @ views["W_rec"].mT).chunk(4 if self.forget else 3, dim=-1)
        c = (f[0].sigmoid() * c if self.forget else c) + i.sigmoid() * g.tanh()
        return torch.cat((o.sigmoid() * c.tanh(), c), dim=-1)

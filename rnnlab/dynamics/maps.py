"""A network under one input as a map of its state, or a map of one's own; a driven network is one map per step."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab.dynamics.jacobians import post_activation, pre_activation
from rnnlab.network.cells import Sigma
from rnnlab.values import Count, Positive, among, checked, refusal, taken


@runtime_checkable
class Map(Protocol):
    """A map of states with N numbers, and its Jacobian; both take any axes before the last one."""

    @property
    def N(self) -> int:
        """Numbers of a state."""

    def step(self, x: Tensor) -> Tensor:
        """The next states, `*S N`."""

    def jacobian(self, x: Tensor) -> Tensor:
        """Derivative of the next state i for the state j at [i, j], `*S N N`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A network of the simple cell whose input stands still; in float64, on the CPU.

    Args:
        W_rec: weight from unit j to unit i at [i, j].
        push: W_in u + b, before sigma; one for all states, or with axes that go along with theirs.
        sigma: the non-linearity.
        form: what the state is: "x", before sigma, of x' = W_rec sigma(x) + push; or "h", after it, of
            h' = sigma(W_rec h + push), as engines have it.

    Raises:
        ValueError: something is not of its kind or not finite, or the sizes do not fit.

    Source:
        Pascanu et al. 2013, eq. (2) and its footnote 1.
    """

    W_rec: Float[Tensor, "N N"]
    push: Float[Tensor, "*S N"]
    sigma: Sigma
    form: str = "x"

    def __post_init__(self) -> None:
        among("x", "h")("form", self.form)
        taken("sigma", self.sigma, Sigma)
        for name, sizes in (("W_rec", "(N, N)"), ("push", "(..., N) for the N units of W_rec")):
            x = taken(name, getattr(self, name), Tensor)
            square = name == "push" or (x.ndim == 2 and x.shape[0] > 0)
            if not (square and x.ndim and x.shape[-1] == self.N and x.is_floating_point() and x.isfinite().all()):
                raise refusal(name, f"finite numbers of a floating dtype and of shape {sizes}", x)
            object.__setattr__(self, name, x.detach().to("cpu", torch.float64))

    @property
    def N(self) -> int:
        """Number of units."""
        return self.W_rec.shape[0]

    def step(self, x: Tensor) -> Tensor:
        """The next states, `*S N`."""
        if self.form == "x":
            return self.sigma(x) @ self.W_rec.mT + self.push
        return self.sigma(x @ self.W_rec.mT + self.push)

    def jacobian(self, x: Tensor) -> Tensor:
        """Derivative of the next state i for the state j at [i, j], `*S N N`."""
        if self.form == "x":
            return pre_activation(self.W_rec[None], self.sigma(x)[None], sigma=self.sigma)[0]
        return post_activation(self.W_rec[None], self.step(x)[None], sigma=self.sigma)[0]

    def driven(self, pushes: Float[Tensor, "T *S N"]) -> tuple["Network", ...]:
        """The same network under one push after the other: one map for each step."""
        return tuple(replace(self, push=push) for push in pushes)


@dataclass(frozen=True, eq=False)
class Function:
    """A map given by a function of states and its derivative, which `check_jacobian` compares.

    Args:
        f: from `*S N` to `*S N`.
        df: from `*S N` to `*S N N`.
        N: numbers of a state.

    Raises:
        ValueError: a function is none, or returns another shape.
    """

    f: Callable[[Tensor], Tensor]
    df: Callable[[Tensor], Tensor]
    N: int = 1

    def __post_init__(self) -> None:
        for name, kind in (("f", Callable), ("df", Callable), ("N", Count)):
            object.__setattr__(self, name, taken(name, getattr(self, name), kind))

    def step(self, x: Tensor) -> Tensor:
        """The next states, `*S N`."""
        return _of("f", self.f(x), (*x.shape[:-1], self.N))

    def jacobian(self, x: Tensor) -> Tensor:
        """Derivative of the next state i for the state j at [i, j], `*S N N`."""
        return _of("df", self.df(x), (*x.shape[:-1], self.N, self.N))


@checked
def orbit(maps: Iterable[Map], x_0: Float[Tensor, "*S N"]) -> Float[Tensor, "_ *S N"]:
    """x_0, ..., x_T under one map after the other; `[map] * T` stands for one that stays. What diverges is inf or NaN.

    Raises:
        ValueError: a map is of other states.
    """
    states = [x_0.double()]
    for map in maps:
        states.append(fitting("x_0", states[-1], map).step(states[-1]))
    return torch.stack(torch.broadcast_tensors(*states))  # pushes may have more axes than the start


@checked
def check_jacobian(map: Map, x: Float[Tensor, "*S N"], *, tolerance: Positive = 1e-6) -> float:
    """The largest difference of a map's Jacobian from central differences, relative to the Jacobian's largest entry.

    Args:
        map: whose Jacobian it is.
        x: states to compare at.
        tolerance: largest difference allowed, dimensionless.

    Raises:
        ValueError: it differs by more.
    """
    x, width = x.double(), torch.finfo(torch.float64).eps ** (1 / 3)
    J, shifts = fitting("x", x, map).jacobian(x), width * torch.eye(map.N, dtype=torch.float64, device="cpu")
    columns = [(map.step(x + shift) - map.step(x - shift)) / (2 * width) for shift in shifts]
    off = float((J - torch.stack(columns, dim=-1)).abs().max() / J.abs().max().clamp(min=1))
    if not off <= tolerance:
        raise ValueError(f"jacobian must be the derivative of step, got one that is off by {off:.2g} of its largest")
    return off


def fitting(name: str, x: Tensor, map: Map) -> Map:
    """The map.

    Raises:
        ValueError: it is not of the states x; names them.
    """
    if x.shape[-1:] != (map.N,):
        raise ValueError(f"{name} must have the {map.N} numbers of the map's states last, got shape {tuple(x.shape)}")
    return map


def _of(name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(x, Tensor) or x.shape != shape:
        raise refusal(name, f"a function to tensors of shape {shape} here", x)
    return x

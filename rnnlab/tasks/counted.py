"""The three tasks of 1994 on which gradients are set against search: small networks, and sequences for many trials.

Arrays are NumPy's, whose calls cost least where one to five units are passed one sequence at a time. Members come last.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from rnnlab import bits
from rnnlab.tasks.latching import TARGET
from rnnlab.values import Count, Finite, Spread, refusal, settle, value

Array = np.ndarray
REACH = 0.5  # of first parameters, to both sides of 0
LIMIT = 2.0  # of the errors of units that have signs: E[S(g)] = g needs these ends


class Layer(NamedTuple):
    """Units from the first to the last, each fed with all `sources`, with weights of a `shape`."""

    first: int
    last: int
    sources: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.last - self.first, self.sources.stop - self.sources.start


class Sequences(NamedTuple):
    """B sequences for each of M members: all end at step T, and what is not `live` lies before their beginnings."""

    fed: Array  # T I B M
    push: Array  # T B M, added to the first unit
    live: Array  # T B M
    sign: Array  # B M, of the class


@runtime_checkable
class CountedTask(Protocol):
    """What the three have: N units fed by sources, which are the last states, I inputs and the states so far."""

    length: int
    noise: float
    units: ClassVar[int]
    layers: ClassVar[tuple[Layer, ...]]
    start: Any  # of all states

    def inputs(self, t: Array, drawn: Array, noise: Array, seeds: torch.Tensor) -> tuple[Array, Array, Array]:
        """`fed`, `push` and `sign` of sequences that are at their step t, before which it is negative.

        Args:
            t: `T B M`.
            drawn: uniform on [0, 1), for each step and sequence.
            noise: uniform within the task's noise, likewise.
            seeds: of the members.
        """


def sequences(task: CountedTask, seeds: torch.Tensor, *, stream: int, count: int) -> Sequences:
    """Sequences of lengths uniform from T/2 to T: a function of the seeds and the stream.

    Args:
        task: whose.
        seeds: of the members.
        stream: `bits.TRAIN` or `bits.TEST`.
        count: B.
    """
    T = task.length
    each = torch.arange(count, dtype=torch.int64, device="cpu")
    u: Array = bits.uniforms(seeds, each, stream=stream, count=1 + 2 * T).double().numpy().transpose(2, 0, 1)
    length = T // 2 + np.floor(u[0] * (T - T // 2 + 1)).astype(int)
    t = np.arange(T)[:, None, None] - (T - length)  # T B M
    drawn, noise = (np.take_along_axis(x, t.clip(0), axis=0) for x in (u[1 : T + 1], u[T + 1 :]))
    fed, push, sign = task.inputs(t, drawn, task.noise * (2 * noise - 1), seeds)
    return Sequences(fed, push, t >= 0, sign)


def first(task: CountedTask, seeds: torch.Tensor) -> Array:
    """The parameters that a trial begins with, `M P`, uniform from -0.5 to 0.5."""
    count = sum(rows * columns for rows, columns in (layer.shape for layer in task.layers))
    u = bits.uniforms(seeds, seeds.new_zeros(1), stream=bits.INIT, count=count)[0]
    return REACH * (2 * u.double().numpy() - 1)


def _balanced(t: Array) -> Array:
    return np.broadcast_to(2.0 * (np.arange(t.shape[1]) % 2)[:, None] - 1, t.shape[1:])


@value
class Latch:
    """One unit keeps the sign of a first input, which is a parameter of each class: 3 parameters.

    Args:
        length: T, in steps, at least 2; sequences have T/2 to T.
        noise: largest input after the first step.

    Source:
        Bengio, Simard & Frasconi 1994, section V.
    """

    length: Count = 20
    noise: Spread = 0.2
    units: ClassVar[int] = 1
    layers: ClassVar = (Layer(0, 1, slice(0, 3)),)
    start: ClassVar[float] = 0.0

    def inputs(self, t: Array, drawn: Array, noise: Array, seeds: torch.Tensor) -> tuple[Array, Array, Array]:
        """A one at the first step, by class, and noise after it."""
        sign, begins = _balanced(t), t == 0
        return np.stack((begins & (sign > 0), begins & (sign < 0)), axis=1).astype(float), noise * (t > 0), sign


@dataclass(frozen=True)
class TwoSequence:
    """Five units tell which of two sequences of 3 to 5 inputs, drawn once, a noisy one begins with: 25 parameters.

    The first unit has the inputs, the last one the output, and there are no biases.

    Args:
        length: T, in steps, at least 10; sequences have T/2 to T.
        noise: largest input after these.

    Source:
        Bengio, Simard & Frasconi 1994, section V.
    """

    length: Count = 20
    noise: Spread = 0.2
    units: ClassVar[int] = 5
    layers: ClassVar = (Layer(0, 5, slice(0, 5)),)
    start: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        """Settle the fields, and refuse sequences that end before what they are told by."""
        settle(self)
        if self.length < 10:
            raise refusal("length", "at least 10, twice the longest first sequence", self.length)

    def inputs(self, t: Array, drawn: Array, noise: Array, seeds: torch.Tensor) -> tuple[Array, Array, Array]:
        """One of two sequences into the first unit, then noise."""
        u = bits.uniforms(seeds, seeds.new_zeros(1), stream=bits.INIT, start=64, count=10)[0]
        keys = 2 * u.double().numpy().reshape(-1, 2, 5) - 1  # M 2 5
        sign, T = _balanced(t), len(t)
        known = keys[np.arange(t.shape[2]), (sign > 0).astype(int), t.clip(0, 4)]
        size = 3 + np.floor(3 * drawn[-1])  # what is drawn for the last step is used for nothing else
        return np.zeros((T, 0, *sign.shape)), np.where(t < size, known, noise), sign


@value
class Parity:
    """Two units tell whether a sequence of inputs near -1 and 1 has an odd number of 1: 7 parameters.

    A hidden unit and the output both have the input, a bias and the last output; the output has the hidden unit, too.

    Args:
        length: T, in steps, at least 2; sequences have T/2 to T.
        noise: largest deviation of an input.
        start: the output before the first step; the paper does not give it.

    Source:
        Bengio, Simard & Frasconi 1994, section V.
    """

    length: Count = 20
    noise: Spread = 0.2
    start: Finite = -1.0
    units: ClassVar[int] = 2
    layers: ClassVar = (Layer(0, 1, slice(1, 4)), Layer(1, 2, slice(1, 5)))

    def inputs(self, t: Array, drawn: Array, noise: Array, seeds: torch.Tensor) -> tuple[Array, Array, Array]:
        """The inputs and a one."""
        bit = drawn < 0.5
        odd = (bit & (t >= 0)).sum(axis=0) % 2
        return np.stack((2.0 * bit - 1 + noise, np.ones(t.shape)), axis=1), np.zeros(t.shape), 2.0 * odd - 1


class Presented:
    """A task for M trials side by side, which counts how many sequences each has passed through its network.

    Args:
        task, seeds: of the trials.
        cap: presentations after which a trial ends, of each.
        sharp: whether units have signs as states, or tanh.
        count: training sequences of each trial.
    """

    def __init__(self, task: CountedTask, seeds: torch.Tensor, *, cap: Array, sharp: bool, count: int) -> None:
        """Draw the training set."""
        self.task, self.seeds, self.cap, self.sharp, self.count = task, seeds, cap, sharp, count
        self.training = sequences(task, seeds, stream=bits.TRAIN, count=count)
        self.presented, self.solved = np.zeros(len(seeds), int), np.zeros(len(seeds), bool)
        self.done, self.found = self.solved.copy(), first(task, seeds)

    def evaluate(self, theta: Array, *, counted: bool = True, until_wrong: bool = False) -> tuple[Array, Array]:
        """The mean cost `M` over the training set, and the share that is wrong; a trial ends once none is.

        Args:
            theta: `M P`.
            counted: whether these are presentations.
            until_wrong: whether sequences are passed one by one, and those after a wrong one not at all.
        """
        sign = self.training.sign
        y = self._forward(theta, self.training)
        right = y * sign > 0
        if counted:
            passed = np.where(right.all(0), self.count, right.argmin(0) + 1) if until_wrong else self.count
            self.presented += passed * ~self.done
        ends = right.all(0) & ~self.done
        self.found[ends], self.solved[ends] = theta[ends], True
        self.done |= ends | (self.presented >= self.cap)
        return 0.5 * ((y - TARGET * sign) ** 2).mean(0), 1 - right.mean(0)

    def instances(self, theta: Array, which: Array) -> tuple[Array, Array]:
        """Derivatives of one sequence's cost for the parameters at each step, `M T P`: the first, and the second.

        The second is the diagonal, positive approximation of Becker and LeCun, without f''.

        Args:
            theta: `M P`.
            which: sequence of each trial.
        """
        y, given, Z, _ = self._passed(theta, which)
        slope = (1 - Z[:, -self.task.units :] ** 2) * given.live[:, None]  # T N 1 M
        slope = np.stack((slope, slope**2), axis=1)
        W = [np.stack((w, w**2)) for w in self._weights(theta)]
        D = self._backward(Z, W, (y - TARGET * given.sign, 1.0), lambda t, units, E: slope[t, :, units] * E)
        return self._instances(D[:, 0], Z), self._instances(D[:, 1], Z**2)

    def signs(self, theta: Array, which: Array, uniform: Array, *, eps: float, literal: bool) -> Array:
        """Where discrete error propagation asks the parameters to go for one sequence, `M P`.

        Args:
            theta: `M P`.
            which: sequence of each trial.
            uniform: on [0, 1), `M T*N`: S(g) of every unit and step.
            eps: how far on the other side of 0 a unit is to be.
            literal: whether eq. (9) stands where a unit is on the asked side already; else nothing is asked there.

        Source:
            Bengio, Simard & Frasconi 1994, eqs. (7) to (10), with d - y for the error and 1/eps as the most that is
            asked.
        """
        y, given, Z, A = self._passed(theta, which)
        draw = uniform.T.reshape(A.shape)

        def asked(t: int, units: slice, E: Array) -> Array:
            g, a = E.clip(-LIMIT, LIMIT), A[t, units]
            S = np.where(draw[t, units] < (g + LIMIT) / (2 * LIMIT), 1, -1)
            dx = S * eps - a
            asks = (g != 0) & given.live[t] & (literal | ((S > 0) != (a >= 0)))
            return asks / np.copysign(np.abs(dx).clip(eps), dx)

        D = self._backward(Z, [w[None] for w in self._weights(theta)], (TARGET * given.sign - y,), asked)
        return self._instances(D[:, 0], Z).sum(axis=1)

    def error(self, theta: Array, *, count: int = 200) -> Array:
        """The share of fresh sequences that a trial has wrong, `M`."""
        given, wrong = sequences(self.task, self.seeds, stream=bits.TEST, count=count), np.zeros(len(theta))
        for k in range(0, count, 20):
            some = Sequences(*(x[..., k : k + 20, :] for x in given))
            wrong += (self._forward(theta, some) * some.sign <= 0).sum(axis=0)
        return wrong / count

    def only(self, kept: Array) -> "Presented":
        """The same of some of its trials."""
        some = object.__new__(Presented)
        some.__dict__.update(self.__dict__, seeds=self.seeds[torch.from_numpy(kept)])
        some.training = Sequences(*(x[..., kept] for x in self.training))
        for name in ("cap", "presented", "solved", "done", "found"):
            setattr(some, name, getattr(self, name)[kept])
        return some

    def _weights(self, theta: Array) -> list[Array]:
        """Of each layer, `units sources 1 M`."""
        shapes = [layer.shape for layer in self.task.layers]
        parts = np.split(theta.T, np.cumsum([n * s for n, s in shapes])[:-1])
        return [part.reshape(*shape, 1, -1) for part, shape in zip(parts, shapes, strict=True)]

    def _passed(self, theta: Array, which: Array) -> tuple[Array, Sequences, Array, Array]:
        """One sequence through each network: the output, the sequence, all sources and what units are before tanh."""
        self.presented += ~self.done
        given = Sequences(*(x[..., which, np.arange(len(which))][..., None, :] for x in self.training))
        T, N, I = len(given.live), self.task.units, given.fed.shape[1]
        Z, A = np.empty((T, 2 * N + I, 1, len(which))), np.empty((T, N, 1, len(which)))
        return self._forward(theta, given, Z, A), given, Z, A

    def _forward(self, theta: Array, given: Sequences, Z: Array | None = None, A: Array | None = None) -> Array:
        """The last outputs `B M`; with room for them, what was before stays in Z and A."""
        N, I, W = self.task.units, given.fed.shape[1], self._weights(theta)
        Z = np.empty((1, 2 * N + I, *given.sign.shape)) if Z is None else Z
        Z[0, :N] = self.task.start
        begun: Array = np.array(given.live.all(axis=(1, 2)))
        for t in range(len(given.live)):
            z = Z[t % len(Z)]
            z[N : N + I] = given.fed[t]
            for (u, v, sources), w in zip(self.task.layers, W, strict=True):
                a: Array = (w * z[sources]).sum(axis=1)
                if u == 0:
                    a[0] += given.push[t]
                if A is not None:
                    A[t, u:v] = a
                x = np.where(a >= 0, 1.0, -1.0) if self.sharp else np.tanh(a)
                z[N + I + u : N + I + v] = x if begun[t] else np.where(given.live[t], x, self.task.start)
            if t + 1 < len(given.live):
                Z[(t + 1) % len(Z), :N] = z[N + I :]
        return z[-1]

    def _backward(self, Z: Array, W: list[Array], error: tuple[Any, ...], local: Any) -> Array:
        """Errors of all units before tanh, `T R N 1 M`, from R errors of the last output at once."""
        T, N, (S, B, M) = len(Z), self.task.units, Z.shape[1:]
        D, E = np.empty((T, len(error), N, B, M)), np.zeros((len(error), S, B, M))
        for r, e in enumerate(error):
            E[r, -1] = e
        for t in reversed(range(T)):
            for (u, v, sources), w in zip(reversed(self.task.layers), reversed(W), strict=True):
                D[t, :, u:v] = local(t, slice(u, v), E[:, S - N + u : S - N + v])
                parts: Array = w * D[t, :, u:v, None]
                E[:, sources] += parts[:, 0] if v - u == 1 else parts.sum(axis=1)
            E[:, S - N :], E[:, : S - N] = E[:, :N], 0
        return D

    def _instances(self, D: Array, Z: Array) -> Array:
        """What errors and sources give for each parameter and step, `M T P`."""
        T, M = len(D), D.shape[-1]
        parts = [(D[:, u:v, None, 0] * Z[:, None, sources, 0]).reshape(T, -1, M) for u, v, sources in self.task.layers]
        return np.moveaxis(np.concatenate(parts, axis=1), -1, 0)

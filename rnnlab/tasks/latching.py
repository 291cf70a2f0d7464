"""The minimal task of 1994: a unit has to keep a bit under noise, and to learn to; alone, and fed by another unit."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rnnlab import bits
from rnnlab.values import Count, Positive, checked, refusal, settle

TARGET = 0.8  # of the last output, with the sign of the class


class Latch(NamedTuple):
    """What a weight above 1 latches by: its attractors are `-a` and `a`."""

    a: Float[Tensor, "*S"]
    slope: Float[Tensor, "*S"]
    edge: Float[Tensor, "*S"]
    critical: Float[Tensor, "*S"]


@checked
def latch(w: Float[Tensor, "*S"]) -> Latch:
    """The latch that the map a -> w tanh a is: all of it dimensionless, computed in float64.

    Returns:
        `a`, the attractor above 0, before tanh; `slope`, the map's derivative there; `edge`, from which on that is
        below 1; and `critical`, h*, the input that has to be exceeded, and to last, to flip the unit.

    Args:
        w: weights above 1.

    Raises:
        ValueError: a weight is not above 1: it latches nothing.

    Source:
        Bengio, Simard & Frasconi 1994, section III.
    """
    if not (w.isfinite() & (w > 1)).all():
        raise refusal("w", "finite weights above 1, which latch", w)
    w = w.double()
    flat = (1 - 1 / w).sqrt()  # tanh where the slope is 1
    a = w.clone()
    for _ in range(60):  # Newton's steps, from above: a - w tanh a is convex there
        a = a - (a - w * a.tanh()) / (1 - w * (1 - a.tanh() ** 2))
    return Latch(a, w * (1 - a.tanh() ** 2), flat.atanh(), w * flat - flat.atanh())


class Learnt(NamedTuple):
    """What gradient descent came to: the weights, the first inputs of classes 0 and 1, and the last outputs."""

    w: Float[Tensor, "M"]
    h: Float[Tensor, "M 2 L"]
    x: Float[Tensor, "M 2 P"]

    @property
    def right(self) -> Bool[Tensor, "M"]:
        """Whether all sequences of a run end with the sign of their class."""
        return torch.stack((self.x[:, 0] < 0, self.x[:, 1] > 0)).flatten(2).all(dim=2).all(dim=0)


@dataclass(frozen=True)
class MinimalTask:
    """Learning to latch: first inputs are parameters, later ones noise, and the error is that of the last output.

    x_t = tanh(w x_{t-1} + h_t) from x_0 = 0; h_t is the class's own up to the step `informative`, and drawn for each
    sequence after it. C is half the sum of (x_T - d)^2 over all sequences, with d = -0.8 and 0.8.

    Args:
        length: T, in steps.
        informative: L, steps whose inputs are learned.
        sequences: P of each class; their noise is drawn once.
        reach: first inputs are uniform on (-reach, reach).
        rate: learning rate, of the gradient of C.
        updates: of each run, on all sequences at once.
        weight_learns: whether w is learned, too.

    Raises:
        ValueError: no step is left for noise.

    Source:
        Bengio, Simard & Frasconi 1994, sections II and III, eq. (1).
    """

    length: Count = 20
    informative: Count = 3
    sequences: Count = 2
    reach: Positive = 0.1
    rate: Positive = 0.1
    updates: Count = 100
    weight_learns: bool = True

    def __post_init__(self) -> None:
        """Settle all fields, and refuse sequences without noise."""
        settle(self)
        if self.length <= self.informative:
            raise refusal("length", f"more than the {self.informative} informative steps", self.length)

    @checked
    def drawn(self, seeds: Int64[Tensor, "M"]) -> tuple[Float[Tensor, "M 2 L"], Float[Tensor, "M 2 P _"]]:
        """The inputs that runs begin with, and the standard normal noise of their sequences, of T - L steps each.

        A shorter sequence has the noise that a longer one begins with.
        """
        zero = seeds.new_zeros(1)
        first = bits.uniforms(seeds, zero, stream=bits.INIT, count=2 * self.informative)[0]
        later, each = self.length - self.informative, 2 * self.sequences
        noise = bits.disturbances(seeds, zero, count=later * each)[0].unflatten(1, (later, 2, -1))
        return (2 * self.reach * first - self.reach).unflatten(1, (2, -1)), noise.movedim(1, -1).float()

    @checked
    def gradient(
        self, w: Float[Tensor, "M"], h: Float[Tensor, "M 2 L"], noise: Float[Tensor, "M 2 P _"]
    ) -> tuple[Float[Tensor, "M 2 P"], Float[Tensor, "M"], Float[Tensor, "M 2 L"]]:
        """The last outputs of all sequences, and the derivatives of C for the weight and for the first inputs."""
        x, g_w, g_h = _gradient(w, h.movedim(0, -1), noise.movedim(0, -1))
        return x.movedim(-1, 0), g_w, g_h.movedim(-1, 0)

    @checked
    def learn(self, w: Float[Tensor, "M"], noise: Float[Tensor, "#M"], seeds: Int64[Tensor, "M"]) -> Learnt:
        """Gradient descent of M runs side by side.

        Args:
            w: the weight that each begins with.
            noise: its standard deviation, of each run or of all.
            seeds: of each run.
        """
        h, drawn = (x.to(w).movedim(0, -1) for x in self.drawn(seeds))  # 2 L M and 2 P T-L M
        inputs = drawn * noise
        for _ in range(self.updates):
            _, g_w, g_h = _gradient(w, h, inputs)
            h = h - self.rate * g_h
            w = w - self.rate * g_w if self.weight_learns else w
        return Learnt(w, h.movedim(-1, 0), _gradient(w, h, inputs)[0].movedim(-1, 0))


def _gradient(w: Tensor, h: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `gradient`, with the members last, where they are next to each other."""
    L, states = h.shape[1], [torch.zeros_like(noise[:, :, 0])]
    inputs = (*h[:, None].unbind(2), *noise.unbind(2))  # 2 1 M or 2 P M
    for h_t in inputs:
        states.append((w * states[-1] + h_t).tanh_())
    delta = states[-1] - w.new_tensor((-TARGET, TARGET))[:, None, None]
    g_w, g_h = torch.zeros_like(w), torch.empty_like(h)
    for t in range(len(inputs), 0, -1):
        a = delta * (1 - states[t] ** 2)
        g_w += (a * states[t - 1]).sum(dim=(0, 1))
        if t <= L:
            g_h[:, t - 1] = a.sum(dim=1)
        delta = a * w
    return states[-1], g_w, g_h


class Traced(NamedTuple):
    """B's last states; dC/dp, of the informative steps and of the others; dC/dw; dx_T/dy_L."""

    x: Float[Tensor, "M B K"]
    far: Float[Tensor, "M I K"]
    near: Float[Tensor, "M I K"]
    g_w: Float[Tensor, "M K"]
    left: Float[Tensor, "M B K"]


@dataclass(frozen=True)
class TwoSystems:
    """A unit A that is to find out a bit, and a unit B that is to keep it.

    y_t = tanh(p u_t) and x_t = tanh(w x_{t-1} + y_t) from x_0 = 0; the first of A's inputs u_t is the class z = -1 or 1
    up to the step `informative`, and all inputs have noise at all steps. C is the mean of (x_T - 0.8 z)^2 / 2. Beside
    each other, on the sequences of each member, stand K systems of other weights.

    Args:
        length: T, in steps.
        informative: L, steps that show the class.
        inputs: of A.
        noise: standard deviation of the inputs.

    Raises:
        ValueError: there are more informative steps than steps.

    Source:
        Bengio, Simard & Frasconi 1994, sections II and IV-C; the units and the inputs are ours.
    """

    length: Count = 20
    informative: Count = 3
    inputs: Count = 5
    noise: Positive = 0.1

    def __post_init__(self) -> None:
        """Settle all fields, and refuse more informative steps than there are."""
        settle(self)
        if self.length < self.informative:
            raise refusal("length", f"at least the {self.informative} informative steps", self.length)

    @checked
    def drawn(
        self, seeds: Int64[Tensor, "M"], update: Int64[Tensor, "1"], sequences: Count
    ) -> tuple[Float[Tensor, "M T B I"], Float[Tensor, "M B"]]:
        """The inputs of as many sequences of each member, and their classes, -1 or 1."""
        z = 2.0 * bits.integers(seeds, update, high=2, stream=bits.TRAIN, count=sequences)[0] - 1
        count = self.length * sequences * self.inputs
        u = self.noise * bits.disturbances(seeds, update, count=count)[0].float()
        u = u.unflatten(1, (self.length, sequences, self.inputs))
        u[:, : self.informative, :, 0] += z[:, None]
        return u, z

    @checked
    def gradient(
        self, p: Float[Tensor, "M I K"], w: Float[Tensor, "M K"], u: Float[Tensor, "M T B I"], z: Float[Tensor, "M B"]
    ) -> Traced:
        """The derivatives of C, with those for p apart: of the informative steps, and of the others."""
        y = (u.flatten(1, 2) @ p).tanh_().unflatten(1, u.shape[1:3])
        x = [torch.zeros_like(y[:, 0])]
        for y_t in y.unbind(1):
            x.append((w[:, None] * x[-1] + y_t).tanh_())
        error = (x[-1] - TARGET * z[..., None]) / z.shape[1]
        left, terms, g_w = torch.ones_like(error), torch.empty_like(y), torch.zeros_like(w)
        for t in range(len(x) - 1, 0, -1):
            left = left * (1 - x[t] ** 2)
            g_w += (error * left * x[t - 1]).sum(dim=1)
            terms[:, t - 1] = left  # dx_T/dy_t
            left = left * w[:, None]
        L, along = self.informative, terms * error[:, None] * (1 - y**2)
        far, near = (u[:, s].flatten(1, 2).mT @ along[:, s].flatten(1, 2) for s in (slice(L), slice(L, None)))
        return Traced(x[-1], far, near, g_w, terms[:, L - 1])

    @checked
    def taught(
        self, p: Float[Tensor, "M I K"], u: Float[Tensor, "M T B I"], z: Float[Tensor, "M B"]
    ) -> Float[Tensor, "M I K"]:
        """dC/dp if it were A's answer at the last informative step that is held to 0.8 z."""
        last = u[:, self.informative - 1]  # M B I
        y = (last @ p).tanh()
        return last.mT @ ((y - TARGET * z[..., None]) * (1 - y**2)) / z.shape[1]

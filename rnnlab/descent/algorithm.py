"""Gradient descent as the 2013 paper does it, with or without its two remedies; and the same with Adam's steps."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from rnnlab.descent.clipping import Clip, NoClip, Norm, State, apply
from rnnlab.descent.omega import Code, Omega
from rnnlab.descent.penalties import Penalty
from rnnlab.descent.schedules import Constant, Schedule
from rnnlab.naming import added, outside
from rnnlab.network.parameters import Parameters
from rnnlab.values import UNFIT, Kept, Positive, Spread, fit, refusal, taken, value

if TYPE_CHECKING:
    from rnnlab.engine.contract import Trace
    from rnnlab.methods.method import Networks
    from rnnlab.tasks.task import Chunk

_CLIP = "clip."  # what a clipping rule remembers stands under its names with this before them


def _remembered(state: State) -> State:
    """What a clipping rule remembers, by its own names."""
    return {name.removeprefix(_CLIP): x for name, x in state.items() if name.startswith(_CLIP)}


def _schedule(name: str, given: Any) -> Schedule:
    return Constant(given) if fit(given, float) is not UNFIT else taken(name, given, Schedule)


def _penalties(name: str, given: Any) -> tuple[Penalty, ...]:
    if not isinstance(given, tuple | list):
        raise ValueError(f"{name} must be a tuple of penalties, such as (L2(0.01),), got {given!r:.100}")
    return tuple(taken(f"{name}[{i}]", one, Penalty) for i, one in enumerate(given))


def _frozen(name: str, given: Any) -> tuple[str, ...]:
    if (names := fit(given, Sequence[str])) is UNFIT:
        raise ValueError(f"{name} must be a tuple of names of parameters, such as ('b', 'b_out'), got {given!r:.100}")
    return tuple(sorted(set(names)))


@value
class Algorithm:
    """Mini-batch stochastic gradient descent, with or without the paper's two remedies.

    Args:
        learning_rate: constant step size; positive.
        clip: clipping rule.
        omega: form of the regularizer, or None.
        alpha: weight of omega as a function of the update; a number is `Constant`.
        penalties: of the weights, at every update.
        noise: standard deviation of what is added to every pre-activation at every step of training, an independent
            normal number, dimensionless.
        frozen: names of parameters that stay as they are, such as ("b", "b_out").

    Raises:
        ValueError: the learning rate is not positive, or a part is none.

    Source:
        Pascanu et al. 2013, section 4.1.1.
    """

    learning_rate: Positive = 0.01
    clip: Clip = NoClip()
    omega: Omega | None = None
    alpha: Annotated[Schedule, _schedule] = Constant(4.0)
    penalties: Annotated[tuple[Penalty, ...], _penalties] = added(())
    noise: Spread = added(0.0)
    frozen: Annotated[tuple[str, ...], _frozen] = added(())

    @classmethod
    def named(
        cls, name: str, *, learning_rate: float = 0.01, threshold: float = 1.0, alpha: float = 4.0
    ) -> "Algorithm":
        """The algorithm that the paper calls MSGD, MSGD-C or MSGD-CR; MSGD-R is omega without clipping (footnote 4).

        Args:
            name: "MSGD", "MSGD-C", "MSGD-CR" or "MSGD-R".
            learning_rate: step size.
            threshold: largest gradient norm let through; unused without C.
            alpha: constant weight of omega; unused without R.

        Raises:
            ValueError: the name is none of these.
        """
        if name not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {list(ALGORITHMS)}, got {name!r}")
        remedies = name.removeprefix("MSGD")
        clip = Norm(threshold) if "C" in remedies else NoClip()
        return cls(learning_rate, clip, Code() if "R" in remedies else None, Constant(alpha))

    def init(self, network: "Networks") -> State:
        """What goes on from update to update, at the start: a method's contract; see `rnnlab.methods.method`."""
        return self.state(network.parameters)

    def advance(self, network: "Networks", state: State, batches: "Chunk") -> "tuple[State, Trace]":
        """Make an update by each batch, by the network's engine."""
        of: dict[str, Any] = {"sigma": network.sigma, "loss": network.loss, "seeds": network.seeds}
        how = of | {"first_update": network.update, "state": state}
        return state, network.engine.sgd(network.parameters, batches, algorithm=self, **how)

    def state(self, parameters: Parameters) -> State:
        """What goes on from update to update, at the start.

        Raises:
            ValueError: what a clipping rule remembers is not of each member.
        """
        own = {_CLIP + name: x for name, x in self.clip.init(parameters).items()}
        for name, x in own.items():
            if not isinstance(x, Tensor) or x.shape[:1] != (parameters.members,):
                raise refusal(name, f"a tensor with an axis of {parameters.members} members in front", x)
        return own

    def descend(self, network: Parameters, g: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Make the step of a gradient, omega's part included: penalties, clipping with its guard, step.

        Args:
            network: of M members; changed.
            g: `M P`, of the dtype to compute in; theta's, or a wider one.
            state: changed.

        Returns:
            The gradients' norms before clipping, and an `Event` for each member.
        """
        before, kept = network.to(g.dtype), {name: network.views[name].clone() for name in self.frozen}
        for penalty in self.penalties:
            extra = penalty.gradient(before)
            g = g if extra is None else g + extra
        held = _remembered(state)
        step, norm, events, own = apply(self.clip, self._still(g, network), before, dict(held))
        shapes = ({name: tuple(x.shape) for name, x in one.items()} for one in (held, own))
        if (given := next(shapes)) != (back := next(shapes)):
            raise ValueError(f"clip must give back a state of {given}, got {back} from {self.clip}")
        for name, x in own.items():
            if not torch.can_cast(x.dtype, held[name].dtype):
                raise ValueError(f"clip must give back {name!r} in {held[name].dtype}, got {x.dtype} from {self.clip}")
            held[name].copy_(x)
        self._step(network, self._still(step, network), state)
        for penalty in self.penalties:
            penalty.hold_(network)
        for name, x in kept.items():  # whatever a decay or a penalty did to it
            network.views[name].copy_(x)
        return norm, events

    def _still(self, x: Tensor, network: Parameters) -> Tensor:
        """x, `M P`, made 0 for the parameters that stay as they are: a guard, too, has something for W_rec."""
        for name in self.frozen:
            Parameters(x, network.sizes).views[name].zero_()
        return x

    def _step(self, network: Parameters, g: Tensor, state: State) -> None:
        network.theta.sub_(g, alpha=self.learning_rate)


@value
class AdamW(Algorithm):
    """Adam's steps along the clipped gradient, with weight decay apart from it.

    A guard's gradient takes the place of one that is not to be trusted, in the moments, too.

    Args:
        learning_rate: constant step size; positive.
        clip: as `Algorithm` has it, and so on to `frozen`.
        beta1: share of the first moment that is kept in an update.
        beta2: the same of the second.
        eps: what is added to the root of the second moment, in the gradient's unit.
        decay: share of each weight that an update takes away, over the learning rate; frozen weights keep theirs.

    Source:
        Kingma & Ba 2015, Algorithm 1; Loshchilov & Hutter 2019, Algorithm 2.
    """

    learning_rate: Positive = 0.001
    beta1: Kept = 0.9
    beta2: Kept = 0.999
    eps: Positive = 1e-8
    decay: Spread = 0.01

    def state(self, parameters: Parameters) -> State:
        """Both moments, of each parameter, and the steps made."""
        moments = {name: torch.zeros_like(parameters.theta) for name in ("first_moment", "second_moment")}
        steps = torch.zeros(parameters.members, dtype=torch.int64, device=parameters.theta.device)
        return super().state(parameters) | moments | {"steps": steps}

    def _step(self, network: Parameters, g: Tensor, state: State) -> None:
        first, second, steps = state["first_moment"], state["second_moment"], state["steps"].add_(1)
        first.mul_(self.beta1).add_(g, alpha=1 - self.beta1)
        second.mul_(self.beta2).add_(g * g, alpha=1 - self.beta2)
        bias1, bias2 = (1 - torch.pow(beta, steps.double()[:, None]) for beta in (self.beta1, self.beta2))
        step = (first / bias1.to(g.dtype)) / ((second / bias2.to(g.dtype)).sqrt() + self.eps)
        network.theta.sub_(step + self.decay * network.theta, alpha=self.learning_rate)


ALGORITHMS = ("MSGD", "MSGD-C", "MSGD-CR", "MSGD-R")


def check_steady(algorithm: Algorithm, network: Parameters) -> None:
    """Refuse a clipping rule, a schedule or an omega from outside the package that hides state: no checkpoint holds it.

    Each is asked the same again and again, since what has a history may answer differently only after a while.

    Raises:
        ValueError: an answer changes.
    """
    clip, alpha = algorithm.clip, algorithm.alpha
    if outside(type(alpha)) and [alpha(k) for k in (0, 1, 1000)] != [alpha(k) for k in (0, 1, 1000)]:
        raise ValueError(f"alpha must be the same whenever it is asked, as it can keep no state, got {alpha}")
    omega, d2 = algorithm.omega, network.theta.new_ones(1, 1, 1)
    if omega is not None and outside(type(omega)):
        factors = torch.stack([omega.coefficient(d2, 2 * d2) for _ in range(200)])
        if not torch.equal(factors, factors[:1].expand_as(factors)):
            raise ValueError(f"omega must answer equal signals equally, as it can keep no state, got {omega}")
    own = any(outside(type(part)) for part in (clip, clip.guard) if part is not None)
    state = _remembered(algorithm.state(network))
    first: list[tuple[Tensor, ...]] = []
    for k in range(200 * own):
        factor, some = (1e-6, 1.0, 1e6, math.nan)[k % 4], network.select(slice(2))
        *answer, _ = apply(clip, some.theta * factor, some, {name: x[:2].clone() for name, x in state.items()})
        first += [tuple(answer)] if k < 4 else []
        if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(answer, first[k % 4], strict=True)):
            same = "answer equal gradients equally, as it can keep no state but its own"
            raise ValueError(f"clip must {same}, got {clip}")

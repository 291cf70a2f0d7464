"""What every engine is given, and what it returns."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rnnlab.cells import Parameters
from rnnlab.checking import UNFIT, Positive, fit, taken, value
from rnnlab.clipping import Clip, NoClip, Norm, apply
from rnnlab.losses import Loss
from rnnlab.naming import outside
from rnnlab.omega import Code, Constant, Omega, Schedule
from rnnlab.sequences import Batch


def _schedule(name: str, given: Any) -> Schedule:
    return Constant(given) if fit(given, float) is not UNFIT else taken(name, given, Schedule)


@value
class Algorithm:
    """Mini-batch stochastic gradient descent, with or without the paper's two remedies.

    Args:
        learning_rate: constant step size; positive.
        clip: clipping rule.
        omega: form of the regularizer, or None.
        alpha: weight of omega as a function of the update; a number is `Constant`.

    Raises:
        ValueError: the learning rate is not positive, or a part is none.

    Source:
        Pascanu et al. 2013, section 4.1.1.
    """

    learning_rate: Positive = 0.01
    clip: Clip = NoClip()
    omega: Omega | None = None
    alpha: Annotated[Schedule, _schedule] = Constant(4.0)

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
        return cls(
            learning_rate=learning_rate,
            clip=Norm(threshold) if "C" in remedies else NoClip(),
            omega=Code() if "R" in remedies else None,
            alpha=Constant(alpha),
        )


ALGORITHMS = ("MSGD", "MSGD-C", "MSGD-CR", "MSGD-R")


def check_steady(algorithm: Algorithm, network: Parameters) -> None:
    """Refuse a clipping rule or a schedule from outside the package that keeps state, as no checkpoint holds it.

    Each is asked the same again and again, since what has a history may answer differently only after a while.

    Raises:
        ValueError: an answer changes.
    """
    clip, alpha = algorithm.clip, algorithm.alpha
    if outside(type(alpha)) and [alpha(k) for k in (0, 1, 1000)] != [alpha(k) for k in (0, 1, 1000)]:
        raise ValueError(f"alpha must be the same whenever it is asked, as it can keep no state yet, got {alpha}")
    if not any(outside(type(part)) for part in (clip, clip.guard) if part is not None):
        return
    theta, W_rec = network.theta[:2], network.W_rec[:2]
    first: list[tuple[Tensor, ...]] = []
    for k in range(200):
        answer = apply(clip, theta * (1e-6, 1.0, 1e6, math.nan)[k % 4], W_rec)
        first += [answer] if k < 4 else []
        if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(answer, first[k % 4], strict=True)):
            raise ValueError(f"clip must answer equal gradients equally, as it can keep no state yet, got {clip}")


@dataclass(frozen=True)
class Gradients:
    """One backward sweep through every member's network.

    Args:
        theta: dE/dtheta + alpha dOmega/dtheta.
        states: h_0 .. h_T (so `times` is T + 1); beyond a member's own length they repeat its last state.
        delta: *total* derivatives dE/dh_0 .. dE/dh_T, by all paths; 0 beyond a member's own length.
        loss: E, the mean loss of the batch, in the loss's unit.
        omega: Omega, unweighted, dimensionless; 0 without a form.
        outputs: y at the last step (S = 1) or at every step (S = T).
    """

    theta: Float[Tensor, "M P"]
    states: Float[Tensor, "M times B N"]
    delta: Float[Tensor, "M times B N"]
    loss: Float[Tensor, "M"]
    omega: Float[Tensor, "M"]
    outputs: Float[Tensor, "M S B O"]


@dataclass(frozen=True)
class Trace:
    """What K updates left behind.

    Args:
        loss: mean loss of each batch, before its update.
        norm: joint norm of each gradient, omega included, before clipping.
        omega: Omega of each batch, unweighted.
        events: a `clipping.Event` for each update and member.
    """

    loss: Float[Tensor, "K M"]
    norm: Float[Tensor, "K M"]
    omega: Float[Tensor, "K M"]
    events: UInt8[Tensor, "K M"]


def check(parameters: Parameters, batch: Batch, *, loss: Loss, h_0: Tensor | None) -> None:
    """Refuse a batch that does not fit the networks.

    Raises:
        ValueError: a shape or dtype is wrong; names the argument, what came and what is allowed.
    """
    M, sizes = parameters.members, parameters.sizes
    inputs, targets, lengths = batch.inputs, batch.targets, batch.lengths
    symbols = not inputs.is_floating_point()
    if inputs.ndim != (3 if symbols else 4) or inputs.shape[0] != M or 0 in inputs.shape:
        shape = "(members, T, B) for symbols, (members, T, B, I) for real inputs"
        raise ValueError(f"inputs must have shape {shape}, with {M} members, got {tuple(inputs.shape)}")
    if not symbols and inputs.shape[3] != sizes.inputs:
        raise ValueError(f"inputs must have {sizes.inputs} channels, got {inputs.shape[3]}")
    if symbols and not 0 <= int(inputs.amin()) <= int(inputs.amax()) < sizes.inputs:
        raise ValueError(f"inputs must be symbols from 0 to {sizes.inputs - 1}, got {inputs.amin()} to {inputs.amax()}")
    T, B = inputs.shape[1:3]
    _check_targets(targets, (M, T if loss.every_step else 1, B), loss=loss, O=sizes.outputs)
    if lengths.shape != (M,) or int(lengths.min()) < 1 or int(lengths.max()) > T:
        raise ValueError(f"lengths must hold {M} numbers of steps from 1 to {T}, got {lengths.tolist()}")
    if h_0 is not None and tuple(h_0.shape) != (M, B, sizes.units):
        raise ValueError(f"h_0 must have shape {(M, B, sizes.units)}, got {tuple(h_0.shape)}")


def _check_targets(targets: Tensor, pairs: tuple[int, int, int], *, loss: Loss, O: int) -> None:
    real = loss.real_targets
    if targets.is_floating_point() != real:
        kind = "real numbers" if real else "classes (integers)"
        raise ValueError(f"targets must be {kind} for {type(loss).__name__}, got {targets.dtype}")
    wanted = (*pairs, O) if real else pairs
    if tuple(targets.shape) != wanted:
        raise ValueError(f"targets must have shape {wanted}, got {tuple(targets.shape)}")
    if not real and not 0 <= int(targets.amin()) <= int(targets.amax()) < O:
        raise ValueError(f"targets must be classes from 0 to {O - 1}, got {targets.amin()} to {targets.amax()}")


def alive(lengths: Tensor, T: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Which steps lie within each member's length, `M T`."""
    return torch.arange(T, device=device) < lengths.to(device)[:, None]


def counted(batch: Batch, loss: Loss) -> Tensor:
    """Which (output step, sequence) pairs enter the loss, `M S B`."""
    M, S, B = batch.targets.shape[:3]
    device = batch.targets.device
    if not loss.every_step:
        return torch.ones(M, S, B, dtype=torch.bool, device=device)
    return alive(batch.lengths, S, device=device)[:, :, None].expand(M, S, B)

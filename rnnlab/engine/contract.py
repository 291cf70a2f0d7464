"""What every engine is given, and what it returns."""

import math
from collections.abc import Iterable
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
from rnnlab.sequences import Batch, Chunk


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
    """Refuse a clipping rule, a schedule or an omega from outside the package that keeps state: no checkpoint holds it.

    Each is asked the same again and again, since what has a history may answer differently only after a while.

    Raises:
        ValueError: an answer changes.
    """
    clip, alpha = algorithm.clip, algorithm.alpha
    if outside(type(alpha)) and [alpha(k) for k in (0, 1, 1000)] != [alpha(k) for k in (0, 1, 1000)]:
        raise ValueError(f"alpha must be the same whenever it is asked, as it can keep no state yet, got {alpha}")
    omega, d2 = algorithm.omega, network.theta.new_ones(1, 1, 1)
    if omega is not None and outside(type(omega)):
        factors = torch.stack([omega.coefficient(d2, 2 * d2) for _ in range(200)])
        if not torch.equal(factors, factors[:1].expand_as(factors)):
            raise ValueError(f"omega must answer equal signals equally, as it can keep no state yet, got {omega}")
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


LARGEST = 2**30  # pairs of a step and a sequence, which 32 bits can number


def check(parameters: Parameters, held: Batch | Chunk, *, loss: Loss | None, h_0: Tensor | None = None) -> None:
    """Refuse sequences that do not fit the networks; without a loss their targets are not looked at.

    Raises:
        ValueError: a shape, dtype, device or number is wrong; names the argument, what came and what is allowed.
    """
    M, sizes, inputs, lengths = parameters.members, parameters.sizes, held.inputs, held.lengths
    K = (lengths.shape[0],) if isinstance(held, Chunk) else ()
    symbols = not inputs.is_floating_point()
    if inputs.ndim != len(K) + (3 if symbols else 4) or inputs.shape[: len(K) + 1] != (*K, M) or 0 in inputs.shape:
        shape = "(members, T, B) for symbols, (members, T, B, I) for real inputs"
        shape = f"{shape}, with {M} members" + ", and an axis of updates before them" * len(K)
        raise ValueError(f"inputs must have shape {shape}, got {tuple(inputs.shape)}")
    T, B = inputs.shape[len(K) + 1 : len(K) + 3]
    if not symbols and inputs.shape[-1] != sizes.inputs:
        raise ValueError(f"inputs must have {sizes.inputs} channels, got {inputs.shape[-1]}")
    if T * B > LARGEST:
        raise ValueError(f"inputs must have at most {LARGEST} pairs of a step and a sequence, got {T} steps of {B}")
    _check_numbers("inputs", inputs, parameters.theta, kind="symbols", below=sizes.inputs)
    shortest = 0 if loss is None else 1
    if lengths.shape != (*K, M) or lengths.device.type != "cpu":
        raise ValueError(f"lengths must have shape {(*K, M)}, on the CPU, got {tuple(lengths.shape)}, {lengths.device}")
    if not shortest <= int(lengths.min()) <= int(lengths.max()) <= T:
        said = f"{M} numbers of steps from {shortest} to {T}"
        raise ValueError(f"lengths must hold {said}, got {lengths.tolist()!s:.100}")
    if h_0 is not None:
        if tuple(h_0.shape) != (M, B, sizes.units):
            raise ValueError(f"h_0 must have shape {(M, B, sizes.units)}, got {tuple(h_0.shape)}")
        _check_numbers("h_0", h_0, parameters.theta)
    if loss is not None:
        _check_targets(parameters, held.targets, (*K, M, T if loss.every_step else 1, B), loss)


def _check_targets(parameters: Parameters, targets: Tensor, pairs: tuple[int, ...], loss: Loss) -> None:
    real, O = loss.real_targets, parameters.sizes.outputs
    if targets.is_floating_point() != real:
        kind = "real numbers" if real else "classes (integers)"
        raise ValueError(f"targets must be {kind} for {type(loss).__name__}, got {targets.dtype}")
    wanted = (*pairs, O) if real else pairs
    if tuple(targets.shape) != wanted:
        raise ValueError(f"targets must have shape {wanted}, got {tuple(targets.shape)}")
    _check_numbers("targets", targets, parameters.theta, kind="classes", below=O)


def _check_numbers(name: str, x: Tensor, theta: Tensor, *, kind: str = "", below: int = 0) -> None:
    """Refuse integers out of range, real numbers that theta's dtype would narrow, and what lies elsewhere."""
    if x.device != theta.device:
        raise ValueError(f"{name} must be on {theta.device}, where the networks are, got {x.device}")
    if x.is_floating_point() or not kind:
        if torch.promote_types(x.dtype, theta.dtype) != theta.dtype:
            raise ValueError(f"{name} must be of no wider dtype than the networks' {theta.dtype}, got {x.dtype}")
        return
    low, high = map(int, x.aminmax())
    if not 0 <= low <= high < below:
        raise ValueError(f"{name} must be {kind} from 0 to {below - 1}, got {low} to {high}")


def check_algorithm(algorithm: Algorithm, alphas: Iterable[float], *, dtype: torch.dtype) -> None:
    """Refuse numbers that are infinite in the networks' dtype, and a bound below which squares lose their digits.

    Raises:
        ValueError: names the number, what came and what is allowed.
    """
    most, least = torch.finfo(dtype).max, torch.finfo(dtype).tiny / torch.finfo(dtype).eps
    numbers = {"learning_rate": algorithm.learning_rate, "alpha": max(map(abs, alphas), default=0)}
    numbers["factor"] = getattr(algorithm.clip.guard, "factor", 0)
    for name, number in numbers.items():
        if number > most:
            raise ValueError(f"{name} must be at most {most:.3g} in {dtype}, got {number}")
    if algorithm.omega is not None and 0 < algorithm.omega.bound < least:
        raise ValueError(f"omega's bound must be at least {least:.3g} in {dtype}, got {algorithm.omega.bound}")


def alive(lengths: Tensor, T: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Which steps lie within each member's length, `M T`."""
    return torch.arange(T, dtype=torch.int64, device=device) < lengths.to(device)[:, None]


def counted(batch: Batch, loss: Loss) -> Tensor:
    """Which (output step, sequence) pairs enter the loss, `M S B`."""
    M, S, B = batch.targets.shape[:3]
    device = batch.targets.device
    if not loss.every_step:
        return torch.ones(M, S, B, dtype=torch.bool, device=device)
    return alive(batch.lengths, S, device=device)[:, :, None].expand(M, S, B)

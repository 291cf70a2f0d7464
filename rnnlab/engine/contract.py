"""What every engine is given, and what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.omega import Omega
from rnnlab.network.cells import Sigma
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk
from rnnlab.values import exactly


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


Answer = tuple[Tensor, Tensor]  # outputs, `M S B O`, and the states that the networks end in, `M B N`


@dataclass(frozen=True)
class Rules:
    """What an engine computes by.

    Args:
        sigma: non-linearity.
        loss: what is descended.
        algorithm: learning rate, clipping, omega.
        alphas: weight of omega at each update.
        signal_threshold: largest absolute entry of delta at any step from 1 to T, or None.
        h_0: states `M B N` to start from, or None for zeros.
    """

    sigma: Sigma
    loss: Loss
    algorithm: Algorithm = Algorithm()
    alphas: Sequence[float] = ()
    signal_threshold: float | None = None
    h_0: Tensor | None = None

    @property
    def parts(self) -> dict[str, object]:
        """What they are made of, by kind."""
        clip, omega = self.algorithm.clip, self.algorithm.omega
        return {"sigma": self.sigma, "loss": self.loss, "omega": omega, "clip": clip, "guard": clip.guard}


def gradients(sweep: Callable[[Parameters, Batch, Rules], Gradients]) -> Callable[..., Gradients]:
    """An engine's gradients of what was checked, as everybody calls them: of a batch, checked first."""

    def call(
        parameters: Parameters,
        batch: Batch,
        *,
        sigma: Sigma,
        loss: Loss,
        omega: Omega | None = None,
        alpha: float = 0.0,
        signal_threshold: float | None = None,
        h_0: Tensor | None = None,
    ) -> Gradients:
        rules = Rules(sigma, loss, Algorithm(omega=omega), [alpha], signal_threshold, h_0)
        check(parameters, batch, rules)
        return sweep(parameters, batch, rules)

    return _called(call, sweep)


def sgd(updates: Callable[[Parameters, Chunk, Rules], Trace]) -> Callable[..., Trace]:
    """An engine's updates by what was checked, as everybody calls them: by a chunk, checked first."""

    def call(
        parameters: Parameters, chunk: Chunk, *, sigma: Sigma, loss: Loss, algorithm: Algorithm, first_update: int = 0
    ) -> Trace:
        alphas = [algorithm.alpha(first_update + k) for k in range(len(chunk))]
        rules = Rules(sigma, loss, algorithm, alphas, algorithm.clip.signal_threshold)
        check(parameters, chunk, rules)
        return updates(parameters, chunk, rules)

    return _called(call, updates)


def outputs(respond: Callable[[Parameters, Batch, Rules], Answer]) -> Callable[..., Answer]:
    """An engine's outputs for what was checked, as everybody calls them: for a batch, whose targets are not checked."""

    def call(parameters: Parameters, batch: Batch, *, sigma: Sigma, loss: Loss, h_0: Tensor | None = None) -> Answer:
        rules = Rules(sigma, loss, h_0=h_0)
        check(parameters, batch, rules, targets=False)
        return respond(parameters, batch, rules)

    return _called(call, respond)


def _called(call: Any, function: Callable) -> Any:
    """The call under the function's name, for tracebacks and documentation, with a signature of its own; `exactly`."""
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(call, name, getattr(function, name))
    return exactly(call)


LARGEST = 2**30  # pairs of a step and a sequence, which 32 bits can number


def check(parameters: Parameters, held: Batch | Chunk, rules: Rules, *, targets: bool = True) -> None:
    """Refuse sequences and rules that do not fit the networks; targets are looked at unless told.

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
    _check_numbers("inputs", inputs, parameters.theta, (), kind="symbols", below=sizes.inputs)
    if lengths.shape != (*K, M) or lengths.device.type != "cpu":
        raise ValueError(f"lengths must have shape {(*K, M)}, on the CPU, got {tuple(lengths.shape)}, {lengths.device}")
    if not int(targets) <= int(lengths.min()) <= int(lengths.max()) <= T:
        steps = f"{M} numbers of steps from {targets:d} to {T}"
        raise ValueError(f"lengths must hold {steps}, got {lengths.tolist()!s:.100}")
    if rules.h_0 is not None:
        _check_numbers("h_0", rules.h_0, parameters.theta, (M, B, sizes.units))
    if targets:
        _check_targets(parameters, held.targets, (*K, M, T if rules.loss.every_step else 1, B), rules.loss)
    _check_algorithm(rules, parameters.theta.dtype)


def _check_targets(parameters: Parameters, targets: Tensor, pairs: tuple[int, ...], loss: Loss) -> None:
    real, O = loss.real_targets, parameters.sizes.outputs
    if targets.is_floating_point() != real:
        kind = "real numbers" if real else "classes (integers)"
        raise ValueError(f"targets must be {kind} for {type(loss).__name__}, got {targets.dtype}")
    shape = (*pairs, O) if real else pairs
    _check_numbers("targets", targets, parameters.theta, shape, kind="classes", below=O)


def _check_numbers(name: str, x: Tensor, theta: Tensor, shape: tuple[int, ...], kind: str = "", below: int = 0) -> None:
    """Refuse another shape (but for ()) or device, integers out of range, numbers that theta's dtype would narrow."""
    if shape and tuple(x.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
    if x.device != theta.device:
        raise ValueError(f"{name} must be on {theta.device}, where the networks are, got {x.device}")
    if x.is_floating_point() or not kind:
        if torch.promote_types(x.dtype, theta.dtype) != theta.dtype:
            raise ValueError(f"{name} must be of no wider dtype than the networks' {theta.dtype}, got {x.dtype}")
        return
    low, high = map(int, x.aminmax())
    if not 0 <= low <= high < below:
        raise ValueError(f"{name} must be {kind} from 0 to {below - 1}, got {low} to {high}")


def _check_algorithm(rules: Rules, dtype: torch.dtype) -> None:
    """Refuse numbers that are infinite in the networks' dtype, and a bound below which squares lose their digits."""
    algorithm = rules.algorithm
    most, least = torch.finfo(dtype).max, torch.finfo(dtype).tiny / torch.finfo(dtype).eps
    numbers = {"learning_rate": algorithm.learning_rate, "alpha": max(map(abs, rules.alphas), default=0)}
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
    if not loss.every_step:
        return torch.ones(M, S, B, dtype=torch.bool, device=batch.targets.device)
    return alive(batch.lengths, S, device=batch.targets.device)[:, :, None].expand(M, S, B)

"""What every engine is given, and what it returns."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rnnlab import bits
from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import State
from rnnlab.descent.omega import Omega
from rnnlab.network.cells import Cell, Sigma, Simple
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch, Chunk
from rnnlab.values import exactly, refusal, taken


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
        loss: of each batch, before its update.
        norm: joint norm of each gradient, omega included, before clipping.
        omega: Omega of each batch, unweighted.
        events: a `clipping.Event` for each update and member.
        own: what else a method takes down, `K M` each, by name.
    """

    loss: Float[Tensor, "K M"]
    norm: Float[Tensor, "K M"]
    omega: Float[Tensor, "K M"]
    events: UInt8[Tensor, "K M"]
    own: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Tensor]:
        """All of it, by name."""
        return {name: x for name, x in vars(self).items() if name != "own"} | dict(self.own)

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> "Trace":
        """The trace of these `parts`; without a norm it is NaN, without omega 0, without events none happened."""
        loss = parts["loss"]
        given = {"norm": torch.full_like(loss, torch.nan), "omega": torch.zeros_like(loss)}
        own = given | {"events": torch.zeros_like(loss, dtype=torch.uint8)} | dict(parts)
        return cls(own.pop("loss"), own.pop("norm"), own.pop("omega"), own.pop("events"), own)


Answer = tuple[Tensor, Tensor]  # outputs, `M S B O`, and the states that the networks end in, `M B width`
CARRIED = "h"  # the name of the states that go on from update to update


@dataclass(frozen=True)
class Rules:
    """What an engine computes by.

    Args:
        cell: what happens in a step.
        loss: what is descended.
        algorithm: learning rate, clipping, omega.
        alphas: weight of omega at each update.
        signal_threshold: largest absolute entry of delta at any step from 1 to T, or None.
        h_0: states `M B width` to start from, or None for where the cell begins.
        begins: `M B`, which sequences do not start from `h_0`, but where the cell begins; None: no sequence.
        noise: what is added to the pre-activations of a batch, `M T B` and one each, or None.
        seeds: of the members, `M`, by which an update's noise is drawn.
        first_update: number of the first update.
    """

    cell: Cell
    loss: Loss
    algorithm: Algorithm = Algorithm()
    alphas: Sequence[float] = ()
    signal_threshold: float | None = None
    h_0: Tensor | None = None
    begins: Tensor | None = None
    noise: Tensor | None = None
    seeds: Tensor | None = None
    first_update: int = 0

    @property
    def parts(self) -> dict[str, object]:
        """What they are made of, by kind."""
        method, sigma = self.algorithm, getattr(self.cell, "sigma", None)
        parts = {"cell": self.cell, "sigma": sigma, "loss": self.loss, "method": method, "omega": method.omega}
        return parts | {"clip": method.clip, "guard": method.clip.guard}

    @property
    def sigma(self) -> Sigma:
        """The non-linearity, of a cell that has one."""
        return self.parts["sigma"]  # type: ignore[return-value]

    def of(self, m: int) -> "Rules":
        """What they are for one member."""
        h_0, begins, noise = (None if x is None else x[m : m + 1] for x in (self.h_0, self.begins, self.noise))
        return replace(self, h_0=h_0, begins=begins, noise=noise)

    def at(self, k: int, batch: Batch, parameters: Parameters, state: State) -> "Rules":
        """What they are for the update number k of a chunk, its noise drawn."""
        noise, h_0 = None, None if batch.begins is None else state[CARRIED]
        if self.algorithm.noise and self.seeds is not None:
            shape = *batch.inputs.shape[1:3], parameters.b.shape[1]
            number = torch.tensor([self.first_update + k], dtype=torch.int64, device="cpu")
            drawn = bits.disturbances(self.seeds, number, count=math.prod(shape))[0]
            noise = (self.algorithm.noise * drawn).to(parameters.theta).unflatten(1, shape)
        return replace(self, alphas=[self.alphas[k]], h_0=h_0, begins=batch.begins, noise=noise)


def carry(batch: Batch, g: Gradients, state: State) -> None:
    """Keep the states that a batch ends in, if its sequences go on in the next."""
    if batch.begins is not None:
        state[CARRIED].copy_(g.states[:, -1])


def gradients(sweep: Callable[[Parameters, Batch, Rules], Gradients]) -> Callable[..., Gradients]:
    """An engine's gradients of what was checked, as everybody calls them: of a batch, checked first."""

    def call(
        parameters: Parameters,
        batch: Batch,
        *,
        loss: Loss,
        sigma: Sigma | None = None,
        omega: Omega | None = None,
        alpha: float = 0.0,
        signal_threshold: float | None = None,
        h_0: Tensor | None = None,
    ) -> Gradients:
        taken("batch", batch, Batch)
        algorithm, cell = Algorithm(omega=omega), cell_of(parameters.sizes, sigma)
        rules = Rules(cell, loss, algorithm, [alpha], signal_threshold, h_0, None if h_0 is None else batch.begins)
        check(parameters, batch, rules)
        return sweep(parameters, batch, rules)

    return _called(call, sweep)


def sgd(updates: Callable[[Parameters, Chunk, Rules, State], Trace]) -> Callable[..., Trace]:
    """An engine's updates by what was checked, as everybody calls them: by a chunk, checked first."""

    def call(
        parameters: Parameters,
        chunk: Chunk,
        *,
        loss: Loss,
        algorithm: Algorithm,
        sigma: Sigma | None = None,
        first_update: int = 0,
        seeds: Tensor | None = None,
        state: State | None = None,
    ) -> Trace:
        taken("chunk", chunk, Chunk)
        alphas = [algorithm.alpha(first_update + k) for k in range(len(chunk))]
        threshold, cell = algorithm.clip.signal_threshold, cell_of(parameters.sizes, sigma)
        rules = Rules(cell, loss, algorithm, alphas, threshold, seeds=seeds, first_update=first_update)
        check(parameters, chunk, rules)
        begun = algorithm.state(parameters)
        state = dict(begun) if state is None else state
        if chunk.begins is not None:
            begun[CARRIED] = parameters.theta.new_zeros(*chunk.begins.shape[1:], parameters.sizes.width)
            state.setdefault(CARRIED, begun[CARRIED])
        for name, x in begun.items():
            if name not in state or state[name].shape != x.shape:
                raise refusal("state", f"as it began, with {name!r} of shape {tuple(x.shape)}", state.get(name))
        return updates(parameters, chunk, rules, state)

    return _called(call, updates)


def outputs(respond: Callable[[Parameters, Batch, Rules], Answer]) -> Callable[..., Answer]:
    """An engine's outputs for what was checked, as everybody calls them: for a batch, whose targets are not checked."""

    def call(
        parameters: Parameters, batch: Batch, *, loss: Loss, sigma: Sigma | None = None, h_0: Tensor | None = None
    ) -> Answer:
        taken("batch", batch, Batch)
        rules = Rules(cell_of(parameters.sizes, sigma), loss, h_0=h_0, begins=None if h_0 is None else batch.begins)
        check(parameters, batch, rules, targets=False)
        return respond(parameters, batch, rules)

    return _called(call, respond)


def cell_of(sizes: Sizes, sigma: Sigma | None) -> Cell:
    """The networks' cell: the one that their sizes name, else the simple one with this non-linearity.

    Raises:
        ValueError: there are both, or there is neither.
    """
    cell = sizes.cell
    if (cell is None) == (sigma is None):
        wanted = "the simple cell's non-linearity" if cell is None else f"None, since the sizes say {cell}"
        raise ValueError(f"sigma must be {wanted}, got {sigma}")
    return cell or Simple(sigma)  # type: ignore[arg-type]


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
    pairs = *K, M, B
    if not symbols and inputs.shape[-1] != sizes.inputs:
        raise ValueError(f"inputs must have {sizes.inputs} channels, got {inputs.shape[-1]}")
    if T * B > LARGEST:
        raise ValueError(f"inputs must have at most {LARGEST} pairs of a step and a sequence, got {T} steps of {B}")
    _check_numbers("inputs", inputs, parameters.theta, (), kind="symbols", below=sizes.inputs)
    for name, x, shapes in (("lengths", lengths, ((*K, M), pairs)), ("begins", held.begins, (pairs,))):
        if x is not None and (tuple(x.shape) not in shapes or x.device.type != "cpu"):
            said = " or ".join(map(str, shapes))
            raise ValueError(f"{name} must have shape {said}, on the CPU, got {tuple(x.shape)}, {x.device}")
    if not int(targets) <= int(lengths.min()) <= int(lengths.max()) <= T:
        steps = f"{M} numbers of steps from {targets:d} to {T}"
        raise ValueError(f"lengths must hold {steps}, got {lengths.tolist()!s:.100}")
    if rules.h_0 is not None:
        _check_numbers("h_0", rules.h_0, parameters.theta, (M, B, sizes.width))
    if targets:
        _check_targets(parameters, held.targets, (*K, M, T if rules.loss.every_step else 1, B), rules.loss)
    _check_algorithm(rules, parameters)


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


def _check_algorithm(rules: Rules, parameters: Parameters) -> None:
    """Refuse numbers that are infinite in the networks' dtype, and a bound below which squares lose their digits.

    And an omega, a name or a noise that these networks do not have.
    """
    algorithm, dtype = rules.algorithm, parameters.theta.dtype
    if algorithm.omega is not None and not isinstance(rules.cell, Simple):
        raise ValueError(f"omega must be None for a cell other than the simple one, got {algorithm.omega}")
    named = [("frozen", algorithm.frozen), *(("of", getattr(one, "of", ())) for one in algorithm.penalties)]
    for name, those in named:
        if unknown := set(those).difference(parameters.views):
            raise ValueError(f"{name} must name parameters, of {list(parameters.views)}, got {min(unknown)!r}")
    if algorithm.noise and rules.seeds is None:
        raise ValueError(f"seeds must be given where there is noise, got noise={algorithm.noise}")
    M, seeds = parameters.members, rules.seeds
    if seeds is not None and not (isinstance(seeds, Tensor) and seeds.shape == (M,) and seeds.dtype == torch.int64):
        raise refusal("seeds", f"a tensor of {M} seeds, one for each member, in int64", seeds)
    most, least = torch.finfo(dtype).max, torch.finfo(dtype).tiny / torch.finfo(dtype).eps
    numbers = {"learning_rate": algorithm.learning_rate, "alpha": max(map(abs, rules.alphas), default=0)}
    numbers["factor"] = getattr(algorithm.clip.guard, "factor", 0)
    for name, number in numbers.items():
        if number > most:
            raise ValueError(f"{name} must be at most {most:.3g} in {dtype}, got {number}")
    if algorithm.omega is not None and 0 < algorithm.omega.bound < least:
        raise ValueError(f"omega's bound must be at least {least:.3g} in {dtype}, got {algorithm.omega.bound}")


def alive(lengths: Tensor, T: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Which steps lie within each sequence's length, `M T B`; `M T 1` where all of a member have one."""
    steps = torch.arange(T, dtype=torch.int64, device=device)
    return steps[:, None] < lengths.to(device).reshape(len(lengths), 1, -1)


def counted(batch: Batch, loss: Loss) -> Tensor:
    """Which (output step, sequence) pairs enter the loss, `M S B`."""
    M, S, B = batch.targets.shape[:3]
    if not loss.every_step:
        return torch.ones(M, S, B, dtype=torch.bool, device=batch.targets.device)
    return alive(batch.lengths, S, device=batch.targets.device).expand(M, S, B)

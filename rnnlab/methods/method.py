"""The contract of whatever makes networks learn: a state at the start; batches in, another state and a trace out."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import State
from rnnlab.engine.contract import Answer, Gradients, Trace
from rnnlab.network.cells import Sigma
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk
from rnnlab.values import refusal, taken


@dataclass(frozen=True)
class Networks:
    """M networks in the middle of their training, with all that their gradients need.

    Args:
        parameters: of M networks; a method changes them in place.
        loss: what their outputs are held to.
        sigma: non-linearity of a simple cell, or None where the sizes name a cell.
        engine: what computes gradients and updates.
        seeds: of the members; with `update`, all that a method's own random numbers may depend on (`rnnlab.bits`).
        update: number of the first update that is to be made.
    """

    parameters: Parameters
    loss: Loss
    sigma: Sigma | None
    engine: ModuleType
    seeds: Int64[Tensor, "M"]
    update: int = 0

    def gradients(self, batch: Batch, **how: Any) -> Gradients:
        """Gradients of a batch's loss and all that comes with them, as `engine.batched.gradients`.

        Sequences go on, as `batch.begins` says, from an `h_0` that a method keeps in its state; without one all begin.
        """
        return self.engine.gradients(self.parameters, batch, sigma=self.sigma, loss=self.loss, **how)

    def outputs(self, batch: Batch, *, h_0: Tensor | None = None) -> Answer:
        """What the networks answer, `M S B O`, and the states they end in, as `engine.batched.outputs`."""
        return self.engine.outputs(self.parameters, batch, sigma=self.sigma, loss=self.loss, h_0=h_0)


@runtime_checkable
class Method(Protocol):
    """How networks learn. `Algorithm` is one: gradient descent.

    What it remembers from batch to batch is all in its state, which goes into checkpoints: tensors by name, members in
    front. A member's numbers may depend on its own parameters, state, batches and seed alone. What it takes down beside
    loss, norm, omega and events, it names in `series`, a dictionary of (a few words, unit) by name, if it has one.
    """

    def init(self, network: Networks) -> State:
        """What it remembers at the start."""

    def advance(self, network: Networks, state: State, batches: Chunk) -> tuple[State, Trace]:
        """Make an update by each of K batches: change `network.parameters`, return the state and what was taken down.

        `Trace.of({"loss": ...})`, of shape `K M`, fills in what a method does not have.
        """


def advanced(method: Method, network: Networks, state: State, batches: Chunk) -> tuple[State, Trace]:
    """What a method makes of some batches, held to its contract.

    Raises:
        ValueError: it gives back something else than a state and a trace, or puts other tensors in the place of the
            parameters, which would never be seen; says what.
    """
    wanted, M, K = "algorithm must return its state and a Trace", network.parameters.members, len(batches)
    before = _tensors(network.parameters)
    answer = method.advance(network, state, batches)
    after = zip(_tensors(network.parameters), before, strict=True)
    if other := [name for (name, x), (_, old) in after if x is not old]:
        raise ValueError(f"algorithm must change {other[0]} in place, as by {other[0]}.copy_(...), got {method}")
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], Trace):
        raise ValueError(f"{wanted}, got {type(answer).__name__} from {method}")
    for name, x in answer[1].parts.items():
        if not isinstance(x, Tensor) or tuple(x.shape) != (K, M):
            raise ValueError(f"{wanted} whose {name} has shape {(K, M)}, got {x!r:.100} from {method}")
    if unnamed := set(answer[1].own).difference(getattr(method, "series", {})):
        raise ValueError(f"{wanted} of what it names in `series` alone, got {min(unnamed)!r} from {method}")
    require_state(answer[0], M, method)
    return apart(answer[0]), answer[1]


def descended(
    parameters: Parameters, descent: Algorithm, state: State, cost: Callable[[Parameters], tuple[Tensor, ...]]
) -> tuple[Tensor, Tensor, Tensor]:
    """A step down the gradient, by autograd, of the sum of what each network costs, each part of it `M`.

    Returns:
        The first part, the gradients' norms before clipping, and an `Event` for each member.
    """
    theta = parameters.theta.detach().clone().requires_grad_()
    with torch.enable_grad():
        parts = cost(Parameters(theta, parameters.sizes))
        (g,) = torch.autograd.grad(torch.stack(parts).sum(), theta)
    return parts[0].detach(), *descent.descend(parameters, g, state)


def plain(name: str, given: Any, *, noise: bool = False) -> Algorithm:
    """Settle a descent that is used for its steps alone.

    Raises:
        ValueError: it has omega, clips the signal, or has noise where there is none.
    """
    descent = taken(name, given, Algorithm)
    if descent.omega or descent.clip.signal_threshold is not None or (descent.noise and not noise):
        without = "omega and clipping of the signal" if noise else "noise, omega and clipping of the signal"
        raise refusal(name, f"without {without}", descent)
    return descent


def apart(state: State) -> State:
    """A state that shares no memory, with the parameters above all, which change under it."""
    return {name: x.clone(memory_format=torch.contiguous_format) for name, x in state.items()}


def _tensors(parameters: Parameters) -> list[tuple[str, Any]]:
    """Theta and its views, under all the names by which a method may reach them."""
    return [*vars(parameters).items(), *parameters.views.items()]


def require_state(state: Any, members: int, method: Method) -> None:
    """Refuse a state that no checkpoint could keep.

    Raises:
        ValueError: it is no dictionary, by words, of detached tensors that NumPy has, with the members in front.
    """
    rule = f"algorithm's state must be a dictionary of tensors with {members} members in front"
    for name, x in state.items() if isinstance(state, dict) else [("state", state)]:
        if not isinstance(x, Tensor) or x.ndim == 0 or len(x) != members:
            raise ValueError(f"{rule}, got {name}: {x!r:.100} from {method}")
        if not isinstance(name, str) or x.requires_grad or x.dtype == torch.bfloat16:
            kinds = "by words, detached, of a dtype that NumPy has"
            raise ValueError(f"{rule}, {kinds}, got {name!r}: {x!r:.100} of {x.dtype} from {method}")

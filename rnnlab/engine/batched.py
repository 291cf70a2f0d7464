"""Backpropagation through time in closed form, over all members at once, by batched matrix products.

Works on any device, at any size, in any floating dtype.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rnnlab.descent.clipping import State
from rnnlab.engine import contract, phases, unrolled
from rnnlab.engine.contract import Answer, Gradients, Rules, Trace, alive, counted
from rnnlab.engine.graphs import Replay
from rnnlab.engine.phases import Space
from rnnlab.network.cells import Simple
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk


def describe(units: int) -> str:
    """Name for records."""
    return "batched"


@contract.gradients
@torch.no_grad()
def gradients(parameters: Parameters, batch: Batch, rules: Rules) -> Gradients:
    """Gradients of every member's loss, omega included, and the total derivative of every step.

    Args:
        parameters: of M networks.
        batch: symbols `M T B` or real inputs `M T B I`, targets, lengths.
        loss: what is descended.
        sigma: non-linearity of a simple cell; None where the sizes name another.
        omega: form of the regularizer, or None.
        alpha: weight of omega.
        signal_threshold: largest absolute entry of delta at any step from 1 to T, or None.
        h_0: states `M B width` to start from, or None for where the cell begins; so do the sequences that
            `batch.begins` names.

    Raises:
        ValueError: a shape, dtype or device does not fit, or a number is too large, or omega's bound too small for it.

    Source:
        Pascanu et al. 2013, eqs. (3) to (5), (9), (10), in the post-activation form; omega as in
        `rnnlab.descent.omega`.
    """
    within = _within(batch, parameters.theta.device)
    return _gradients(parameters, batch, rules, rules.alphas[0], within, {})


def _within(batch: Batch, device: torch.device) -> Tensor | None:
    """Which steps lie within each sequence's length; None where all do."""
    T = batch.inputs.shape[1]
    return alive(batch.lengths, T, device=device) if int(batch.lengths.min()) < T else None


def _gradients(
    parameters: Parameters, batch: Batch, rules: Rules, alpha: float | Tensor, within: Tensor | None, space: Space
) -> Gradients:
    """`gradients` at this weight of omega; states and delta are views into `space`."""
    if not isinstance(rules.cell, Simple):
        return unrolled.gradients(parameters, batch, rules)
    loss, omega = rules.loss, rules.algorithm.omega
    h = phases.forward(parameters, batch.inputs, rules, within, space)
    read = h[1:] if loss.every_step else h[-1:]
    y = phases.read(parameters, read)  # M S B O
    targets = batch.targets.to(y.dtype) if batch.targets.is_floating_point() else batch.targets
    scored = counted(batch, loss)
    dy = loss.gradient(y, targets, scored).flatten(1, 2)  # M SB O
    immediate = torch.bmm(dy, parameters.W_out).unflatten(1, y.shape[1:3]).transpose(0, 1)  # S M B N
    sweep = phases.backward(parameters, h, immediate, rules, within, space)
    gradient = Parameters(torch.empty_like(parameters.theta), parameters.sizes)
    Omega_, weight = y.new_zeros(parameters.members), None
    if omega is not None:
        Omega_, weight = phases.pull(omega, sweep)
        weight = alpha * weight
    phases.recurrent_gradient(gradient, sweep, h, weight)
    phases.input_gradients(gradient, sweep.v, batch.inputs)
    gradient.W_out.copy_(torch.bmm(dy.mT, read.transpose(0, 1).flatten(1, 2)))
    gradient.b_out.copy_(dy.sum(dim=1))
    if rules.cell.learned_start:
        gradient.views["h_0"].copy_(phases.begun(sweep.delta[0], rules).sum(dim=1))
    E = loss.value(y, targets, scored)
    return Gradients(gradient.theta, h.transpose(0, 1), sweep.delta.transpose(0, 1), E, Omega_, y)


@contract.sgd
@torch.no_grad()
def sgd(parameters: Parameters, chunk: Chunk, rules: Rules, state: State) -> Trace:
    """K whole updates of every member, in place: forward, backward, omega, penalties, clip with guard, step.

    Args:
        parameters: of M networks; changed.
        chunk: the batches of K updates.
        loss: what is descended.
        algorithm: learning rate, clipping, omega and the schedule of its weight, and what else it asks for.
        sigma: non-linearity of a simple cell; None where the sizes name another.
        first_update: number of the chunk's first update, read by the schedule and by the noise.
        seeds: of the members, `M`, int64, from which noise is drawn; needed where there is noise.
        state: what goes on from update to update, as `algorithm.state` begins it; changed. None begins it anew.

    Raises:
        ValueError: a shape or dtype does not fit.
    """
    space, algorithm, theta = Space(), rules.algorithm, parameters.theta

    def update(batch: Batch, rules: Rules, alpha: float | Tensor, within: Tensor | None) -> tuple[Tensor, ...]:
        g = _gradients(parameters, batch, rules, alpha, within, space)
        norm, events = algorithm.descend(parameters, g.theta, state)
        contract.carry(batch, g, state)
        return g.loss, norm, g.omega, events

    if _captured(chunk, rules, theta):
        traces = _replayed(update, chunk, rules, [theta, *state.values()])
    else:
        told = ((batch, rules.at(k, batch, parameters, state)) for k, batch in enumerate(chunk))
        traces = [update(batch, at, at.alphas[0], _within(batch, theta.device)) for batch, at in told]
    loss, norm, omega, events = (torch.stack(parts) for parts in zip(*traces, strict=True))
    return Trace(loss, norm, omega, events)


def _captured(chunk: Chunk, rules: Rules, theta: Tensor) -> bool:
    """Whether to capture an update as a graph: on a GPU, from as many updates on as repay the capture.

    Not where what an update reads is not where it was, and not where the CPU looks into it.
    """
    fixed = not (rules.algorithm.noise or rules.algorithm.penalties) and chunk.begins is None
    return theta.is_cuda and len(chunk) >= 8 and fixed and isinstance(rules.cell, Simple)


def _replayed(
    update: Callable[..., tuple[Tensor, ...]], chunk: Chunk, rules: Rules, changed: Sequence[Tensor]
) -> list[tuple[Tensor, ...]]:
    """The updates of a chunk, all by one graph: every batch as long as the longest, what lies beyond masked."""
    T, theta = int(chunk.lengths.max()), changed[0]
    mixed = int(chunk.lengths.min()) < T

    def on_device(inputs: Tensor, targets: Tensor, lengths: Tensor, alpha: Tensor) -> tuple[Tensor, ...]:
        within = alive(lengths, T, device=theta.device) if mixed else None
        return update(Batch(inputs, targets, lengths), rules, alpha, within)

    alpha = torch.tensor(rules.alphas, dtype=theta.dtype, device=theta.device)
    told = chunk.inputs[:, :, :T], chunk.targets[:, :, :T], chunk.lengths.to(theta.device), alpha
    updates = list(zip(*told, strict=True))
    once = Replay(on_device, *updates[0], changed=changed)
    return [once(*each) for each in updates]


@contract.outputs
@torch.no_grad()
def outputs(parameters: Parameters, batch: Batch, rules: Rules) -> Answer:
    """What the networks answer, `M S B O`, and the states they end in, `M B width`.

    With `h_0` from an earlier window of the same sequences, long sequences stream through little memory.

    Raises:
        ValueError: a shape or dtype does not fit; targets are not looked at.
    """
    if not isinstance(rules.cell, Simple):
        return unrolled.outputs(parameters, batch, rules)
    within = _within(batch, parameters.theta.device)
    h = phases.forward(parameters, batch.inputs, rules, within, {})
    return phases.read(parameters, h[1:] if rules.loss.every_step else h[-1:]), h[-1]

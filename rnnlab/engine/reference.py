"""The definition: one member at a time, by autograd, in float64. Slow, and meant to be read."""

import torch
from torch import Tensor

from rnnlab.descent.clipping import State
from rnnlab.engine import contract, unrolled
from rnnlab.engine.contract import Answer, Gradients, Rules, Trace
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk


@contract.gradients
def gradients(parameters: Parameters, batch: Batch, rules: Rules) -> Gradients:
    """Gradients of every member, as `batched.gradients`, from autograd in float64."""
    return _gradients(parameters, batch, rules)


def _gradients(parameters: Parameters, batch: Batch, rules: Rules) -> Gradients:
    members = []
    for m in range(parameters.members):
        alone = Batch(**{name: x[m : m + 1] for name, x in batch.parts.items()})
        network = parameters.select([m]).to(torch.float64)
        members.append(vars(unrolled.gradients(network, alone, rules.of(m))).values())
    return Gradients(*(torch.cat(parts) for parts in zip(*members, strict=True)))


@contract.sgd
def sgd(parameters: Parameters, chunk: Chunk, rules: Rules, state: State) -> Trace:
    """K whole updates of every member, in place, as `batched.sgd`."""
    traces: list[tuple[Tensor, ...]] = []
    for k, batch in enumerate(chunk):
        g = _gradients(parameters, batch, rules.at(k, batch, parameters, state))
        traces.append((g.loss, *rules.algorithm.descend(parameters, g.theta, state), g.omega))
        contract.carry(batch, g, state)
    loss, norm, events, omega = (torch.stack(parts) for parts in zip(*traces, strict=True))
    return Trace(loss, norm, omega, events)


@contract.outputs
@torch.no_grad()
def outputs(parameters: Parameters, batch: Batch, rules: Rules) -> Answer:
    """What the networks answer, `M S B O`, and the states they end in, as `batched.outputs`, in float64."""
    return unrolled.outputs(parameters.to(torch.float64), batch, rules)

"""The definition: one member at a time, by autograd, in float64. Slow, and meant to be read."""

from dataclasses import replace

import torch
from torch import Tensor

from rnnlab.descent import clipping
from rnnlab.descent.omega import Omega
from rnnlab.engine import contract
from rnnlab.engine.contract import Gradients, Rules, Trace, counted
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk


@contract.gradients
def gradients(parameters: Parameters, batch: Batch, rules: Rules) -> Gradients:
    """Gradients of every member, as `batched.gradients`, from autograd in float64."""
    return _gradients(parameters, batch, rules)


def _gradients(parameters: Parameters, batch: Batch, rules: Rules) -> Gradients:
    members = []
    for m in range(parameters.members):
        alone = Batch(batch.inputs[m : m + 1], batch.targets[m : m + 1], batch.lengths[m : m + 1])
        start = None if rules.h_0 is None else rules.h_0[m].to(torch.float64)
        members.append(_member(parameters.select([m]).to(torch.float64), alone, replace(rules, h_0=start)))
    return Gradients(*(torch.cat(parts) for parts in zip(*members, strict=True)))


def _member(network: Parameters, batch: Batch, rules: Rules) -> tuple[Tensor, ...]:
    """The fields of `Gradients` for one member, with a leading axis of 1."""
    sigma, loss, omega, threshold = rules.sigma, rules.loss, rules.algorithm.omega, rules.signal_threshold
    network = Parameters(network.theta.requires_grad_(), network.sizes)
    T, L = batch.inputs.shape[1], int(batch.lengths[0])
    u = _as_real(batch.inputs[0], network.sizes.inputs)  # T B I
    start = u.new_zeros(u.shape[1], network.sizes.units) if rules.h_0 is None else rules.h_0
    states = [start.clone().requires_grad_()]
    for t in range(L):
        h = sigma(states[-1] @ network.W_rec[0].mT + u[t] @ network.W_in[0].mT + network.b[0])
        if threshold is not None:
            h.register_hook(lambda delta: delta.clamp(-threshold, threshold))
        states.append(h)
    read = states[1:] if loss.every_step else states[-1:]
    y = torch.stack([h @ network.W_out[0].mT + network.b_out[0] for h in read])[None]  # 1 S B O
    within, targets = counted(batch, loss)[:, : len(read)], batch.targets[:, : len(read)]
    E = loss.value(y, targets.double() if targets.is_floating_point() else targets.long(), within)
    for h in states:
        h.retain_grad()
    E.sum().backward()
    delta = torch.stack([_total(h) for h in states])  # L+1 B N
    h = torch.stack(states).detach()
    theta = network.theta.grad
    assert theta is not None
    Omega_ = u.new_zeros(1)
    if omega is not None:
        Omega_, W_rec_grad = _omega(omega, network.W_rec[0].detach(), delta[1:], sigma.derivative(h[1:]))
        theta[0, : W_rec_grad.numel()] += rules.alphas[0] * W_rec_grad.flatten()
    pad = (0, 0, 0, 0, 0, T - L)
    padded = torch.cat((h, h[-1:].expand(T - L, -1, -1)))
    outputs = torch.nn.functional.pad(y.detach(), pad) if loss.every_step else y.detach()
    return theta, padded[None], torch.nn.functional.pad(delta, pad)[None], E.detach(), Omega_, outputs


def _as_real(inputs: Tensor, channels: int) -> Tensor:
    """Real inputs in float64; symbols become one-hot."""
    if inputs.is_floating_point():
        return inputs.to(torch.float64)
    return torch.nn.functional.one_hot(inputs.long(), channels).to(torch.float64)


def _total(h: Tensor) -> Tensor:
    """dE/dh by all paths; a state that no loss depends on has none."""
    return torch.zeros_like(h) if h.grad is None else h.grad


def _omega(omega: Omega, W_rec: Tensor, delta: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Omega and its derivative for W_rec, with delta and the states held constant, from the form's value alone."""
    W = W_rec.clone().requires_grad_()
    n = (delta * slope) @ W  # T B N
    d2 = delta.square().sum(dim=-1)[None]
    value = omega.value(d2, n.square().sum(dim=-1)[None], d2 >= omega.bound)
    (W_grad,) = torch.autograd.grad(value.sum(), W)
    return value.detach(), W_grad


@contract.sgd
def sgd(parameters: Parameters, chunk: Chunk, rules: Rules) -> Trace:
    """K whole updates of every member, in place, as `batched.sgd`."""
    algorithm, traces = rules.algorithm, []
    for batch, alpha in zip(chunk, rules.alphas, strict=True):
        g = _gradients(parameters, batch, replace(rules, alphas=[alpha]))
        step, norm, events = clipping.apply(algorithm.clip, g.theta, parameters.W_rec.to(torch.float64))
        parameters.theta.sub_((algorithm.learning_rate * step).to(parameters.theta.dtype))
        traces.append((g.loss, norm, g.omega, events))
    return Trace(*(torch.stack(parts) for parts in zip(*traces, strict=True)))

"""The definition: one member at a time, by autograd, in float64. Slow, and meant to be read."""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

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
        alone = Batch(*(x[m : m + 1] for x in vars(batch).values()))
        start = None if rules.h_0 is None else rules.h_0[m].to(torch.float64)
        members.append(_member(parameters.select([m]).to(torch.float64), alone, replace(rules, h_0=start)))
    return Gradients(*(torch.cat(parts) for parts in zip(*members, strict=True)))


def _member(network: Parameters, batch: Batch, rules: Rules) -> tuple[Tensor, ...]:
    """The fields of `Gradients` for one member, with a leading axis of 1."""
    sigma, loss, omega = rules.sigma, rules.loss, rules.algorithm.omega
    limit = math.inf if rules.signal_threshold is None else rules.signal_threshold
    network = Parameters(network.theta.requires_grad_(), network.sizes)
    T, L, u = batch.inputs.shape[1], int(batch.lengths[0]), batch.inputs[0]
    u = (u if u.is_floating_point() else functional.one_hot(u.long(), network.sizes.inputs)).double()  # T B I
    start = u.new_zeros(u.shape[1], network.sizes.units) if rules.h_0 is None else rules.h_0
    states = [start.clone().requires_grad_()]
    for t in range(L):
        h = sigma(states[-1] @ network.W_rec[0].mT + u[t] @ network.W_in[0].mT + network.b[0])
        h.register_hook(lambda delta: delta.clamp(-limit, limit))
        states.append(h)
    read = states[1:] if loss.every_step else states[-1:]
    y = torch.stack([h @ network.W_out[0].mT + network.b_out[0] for h in read])[None]  # 1 S B O
    within, targets = counted(batch, loss)[:, : len(read)], batch.targets[:, : len(read)]
    E = loss.value(y, targets.double() if targets.is_floating_point() else targets.long(), within)
    theta, *deltas = torch.autograd.grad(E.sum(), [network.theta, *states], materialize_grads=True)
    delta, h = torch.stack(deltas), torch.stack(states).detach()  # L+1 B N
    delta[1:].clamp_(-limit, limit)  # the hooks limit what travels on, and not always what is asked for
    Omega_ = E.new_zeros(1)
    if omega is not None:
        Omega_, W_rec_grad = _omega(omega, network.W_rec[0].detach(), delta[1:], sigma.derivative(h[1:]))
        theta[0, : W_rec_grad.numel()] += rules.alphas[0] * W_rec_grad.flatten()
    pad = (0, 0, 0, 0, 0, T - L)
    states_ = torch.cat((h, h[-1:].expand(T - L, -1, -1)))[None]
    outputs = functional.pad(y.detach(), pad if loss.every_step else (0, 0))
    return theta, states_, functional.pad(delta, pad)[None], E.detach(), Omega_, outputs


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

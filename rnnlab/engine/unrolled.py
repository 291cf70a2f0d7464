"""Backpropagation through time by autograd, over networks unrolled step by step: for every cell, and easy to check."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from rnnlab.descent.omega import Omega
from rnnlab.engine.contract import Gradients, Rules, alive, counted
from rnnlab.engine.phases import start
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch


def states(network: Parameters, batch: Batch, rules: Rules) -> list[Tensor]:
    """The states from the first to the last, each `M B width`; beyond a sequence's length they stay as they were."""
    u = batch.inputs
    u = u if u.is_floating_point() else functional.one_hot(u.long(), network.sizes.inputs)
    within = alive(batch.lengths, u.shape[1], device=u.device)[..., None]  # M T B 1
    u = u.to(network.theta.dtype).where(within, 0.0)
    drive = u @ network.W_in[:, None].mT + network.b[:, None, None]  # M T B, and a pre-activation each
    if rules.noise is not None:
        drive = drive + rules.noise.to(drive.dtype)
    found = [start(network, u.shape[2], rules).clone()]
    if not found[0].requires_grad:
        found[0].requires_grad_()
    for t in range(u.shape[1]):
        stepped = rules.cell.step(network.views, found[-1], drive[:, t])
        found.append(torch.where(within[:, t], stepped, found[-1]))
    return found


def gradients(network: Parameters, batch: Batch, rules: Rules) -> Gradients:
    """Gradients of every member, omega included, in theta's dtype.

    What autograd says of a state is its total derivative, since all that comes later is computed from it.
    """
    loss, omega = rules.loss, rules.algorithm.omega
    limit = math.inf if rules.signal_threshold is None else rules.signal_threshold
    with torch.enable_grad():
        network = Parameters(network.theta.detach().clone().requires_grad_(), network.sizes)
        found = states(network, batch, rules)
        for x in found[1:]:
            x.register_hook(lambda delta: delta.clamp(-limit, limit))
        y = read(network, found, loss)
        targets, within = batch.targets, counted(batch, loss)
        E = loss.value(y, targets.to(y.dtype) if targets.is_floating_point() else targets.long(), within)
        theta, *deltas = torch.autograd.grad(E.sum(), [network.theta, *found], materialize_grads=True)
    kept, delta = torch.stack(found, dim=1).detach(), torch.stack(deltas, dim=1)  # M T+1 B width
    delta[:, 1:].clamp_(-limit, limit)  # the hooks limit what travels on, and not always what is asked for
    delta[:, 1:].masked_fill_(~alive(batch.lengths, delta.shape[1] - 1, device=delta.device)[..., None], 0.0)
    Omega_ = E.new_zeros(E.shape)
    if omega is not None:
        slope = rules.sigma.derivative(kept[:, 1:])
        Omega_, W_rec_grad = _omega(omega, network.W_rec.detach(), delta[:, 1:], slope)
        Parameters(theta, network.sizes).W_rec.add_(W_rec_grad, alpha=rules.alphas[0])
    return Gradients(theta, kept, delta, E.detach(), Omega_.detach(), y.detach().where(within[..., None], 0.0))


def _omega(omega: Omega, W_rec: Tensor, delta: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Omega and its derivative for W_rec, with delta and the states held constant, from the form's value alone."""
    with torch.enable_grad():
        W = W_rec.clone().requires_grad_()
        n = (delta * slope) @ W[:, None]  # M T B N
        d2 = delta.square().sum(dim=-1)
        value = omega.value(d2, n.square().sum(dim=-1), d2 >= omega.bound)
        (W_grad,) = torch.autograd.grad(value.sum(), W)
    return value, W_grad


def outputs(network: Parameters, batch: Batch, rules: Rules) -> tuple[Tensor, Tensor]:
    """What the networks answer, `M S B O`, and the states they end in, `M B width`."""
    found = states(network, batch, rules)
    return read(network, found, rules.loss), found[-1]


def read(network: Parameters, found: list[Tensor], loss: Loss) -> Tensor:
    """What is read from the states, `M S B O`: from the last, or from all but the first."""
    h = torch.stack(found[1:] if loss.every_step else found[-1:], dim=1)[..., : network.sizes.units]  # M S B N
    return h @ network.W_out[:, None].mT + network.b_out[:, None, None]

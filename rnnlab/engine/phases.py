"""What the batched engine does one after the other: forward, outputs, backward, omega's pull, gradients.

Histories are step first (`T M B N`), so that a step of all members is one contiguous block. `within`, `M T B` or
`M T 1`, says which steps lie within each sequence's length; None: all do.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab.descent.omega import Omega
from rnnlab.engine.contract import Rules
from rnnlab.network.parameters import Parameters

Space = dict[str, Tensor]  # memory for histories, kept: fresh pages cost more than the arithmetic done on them
_TILE = 2**16  # numbers of a history that are worked on at once: they stay in a core's second cache


def _taken(space: Space, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Uninitialized memory of this shape; the last holder of the name loses it."""
    size = math.prod(shape)
    if name not in space or space[name].numel() < size:
        space[name] = like.new_empty(size)
    return space[name][:size].view(shape)


def _tiles(history: Tensor) -> list[slice]:
    """The steps of a history, `T M B N`, in tiles: fewer operations where a step is small, little memory for each."""
    T, size = history.shape[0], max(1, _TILE // history[0].numel())
    return [slice(t, min(t + size, T)) for t in range(0, T, size)]


def _drive(parameters: Parameters, inputs: Tensor, out: Tensor) -> None:
    """Write W_in u_t + b of every step to `out`, `T M B N`: a gather of rows for symbols, a product for real inputs."""
    if inputs.is_floating_point():
        flat = torch.baddbmm(parameters.b[:, None], inputs.to(out.dtype).flatten(1, 2), parameters.W_in.mT)
        out.copy_(flat.unflatten(1, inputs.shape[1:3]).transpose(0, 1))
        return
    rows = (parameters.W_in.mT + parameters.b[:, None]).flatten(0, 1)  # MI N
    torch.index_select(rows, 0, _rows(inputs, parameters.sizes.inputs), out=out.flatten(0, 2))


def _rows(inputs: Tensor, I: int) -> Tensor:
    """Where each symbol's row stands in a table of all members' rows, `MI N`; flat, in the order `T M B`."""
    first = torch.arange(0, inputs.shape[0] * I, I, dtype=torch.int64, device=inputs.device)
    return (inputs.transpose(0, 1).long() + first[:, None]).flatten()


def start(parameters: Parameters, B: int, rules: Rules) -> Tensor:
    """Where sequences start, `M B width`: where they were left, or where the cell has them begin."""
    theta, shape = parameters.theta, (parameters.members, B, parameters.sizes.width)
    begin = parameters.views["h_0"][:, None].expand(shape) if rules.cell.learned_start else theta.new_zeros(shape)
    if rules.h_0 is None:
        return begin
    h_0 = rules.h_0.to(theta.dtype)
    return h_0 if rules.begins is None else torch.where(rules.begins.to(theta.device)[..., None], begin, h_0)


def begun(delta: Tensor, rules: Rules) -> Tensor:
    """delta at step 0, `M B N`, of the sequences that start where the cell has them begin; 0 for the others."""
    if rules.h_0 is None:
        return delta
    return torch.zeros_like(delta) if rules.begins is None else delta * rules.begins.to(delta.device)[..., None]


def forward(parameters: Parameters, inputs: Tensor, rules: Rules, within: Tensor | None, space: Space) -> Tensor:
    """h_0 .. h_T, step first: `T+1 M B N`; a state beyond a member's length stays as it was."""
    M, T, B = inputs.shape[:3]
    h = _taken(space, "h", (T + 1, M, B, parameters.sizes.units), parameters.theta)
    h[0] = start(parameters, B, rules)
    _drive(parameters, inputs, h[1:])
    if rules.noise is not None:
        h[1:] += rules.noise.transpose(0, 1)
    W_T = parameters.W_rec.mT
    steps = h.unbind(0)
    for t in range(T):
        rules.sigma.apply_(steps[t + 1].baddbmm_(steps[t], W_T))  # M B N
        if within is not None:
            steps[t + 1].copy_(torch.where(within[:, t, :, None], steps[t + 1], steps[t]))
    return h


def read(parameters: Parameters, h: Tensor) -> Tensor:
    """W_out h + b_out: `M S B O` from `S M B N`."""
    flat = h.transpose(0, 1).flatten(1, 2)  # M SB N
    y = torch.baddbmm(parameters.b_out[:, None], flat, parameters.W_out.mT)
    return y.unflatten(1, (h.shape[0], h.shape[2]))


class Sweep(NamedTuple):
    """The backward sweep, step first: delta is `T+1 M B N`, v and n are `T M B N`."""

    delta: Tensor
    v: Tensor
    n: Tensor


def backward(
    parameters: Parameters, h: Tensor, immediate: Tensor, rules: Rules, within: Tensor | None, space: Space
) -> Sweep:
    """Carry dE/dh from step T to 0; `immediate`, `S M B N`, is dE/dh through the outputs of the last S steps."""
    T, S, threshold = h.shape[0] - 1, immediate.shape[0], rules.signal_threshold
    delta, v = _taken(space, "delta", h.shape, h), _taken(space, "v", h[1:].shape, h)
    # With a loss at the last step alone, nothing is added or clipped on the way: n_t is delta_{t-1} itself.
    carried = S == 1 and threshold is None and within is None
    n = delta[:-1] if carried else _taken(space, "n", v.shape, h)
    delta[T] = immediate[-1]
    deltas, vs, ns, immediates = delta.unbind(0), v.unbind(0), n.unbind(0), immediate.unbind(0)
    limit = min(threshold or 0.0, torch.finfo(delta.dtype).max)
    tiles, derivative = reversed(_tiles(v)), rules.sigma.derivative
    slopes = (slope for tile in tiles for slope in reversed(derivative(h[1:][tile]).unbind(0)))  # M B N
    for t, slope in zip(range(T, 0, -1), slopes, strict=True):
        if threshold is not None:
            deltas[t].clamp_(-limit, limit)
        torch.mul(deltas[t], slope, out=vs[t - 1])
        if within is not None:
            vs[t - 1].masked_fill_(~within[:, t - 1, :, None], 0.0)
        torch.bmm(vs[t - 1], parameters.W_rec, out=ns[t - 1])
        if not carried:
            past = ns[t - 1] if within is None else torch.where(within[:, t - 1, :, None], ns[t - 1], deltas[t])
            if S > 1 and t > 1:
                torch.add(past, immediates[t - 2], out=deltas[t - 1])
            else:
                deltas[t - 1].copy_(past)
    if within is not None:
        delta[1:].masked_fill_(~within.transpose(0, 1)[..., None], 0.0)
    return Sweep(delta, v, n)


def _squared_norms(x: Tensor) -> Tensor:
    """|x|^2 of every step and sequence, `M T B` from `T M B N`."""
    return torch.linalg.vecdot(x, x).transpose(0, 1)


def pull(omega: Omega, sweep: Sweep) -> tuple[Tensor, Tensor]:
    """Omega of each member, and the weight of each pair's v^T n in its derivative, `T M B`."""
    d2, n2 = _squared_norms(sweep.delta[1:]), _squared_norms(sweep.n)
    live = d2 >= omega.bound  # delta is 0 beyond a member's length
    weight = torch.where(live, omega.coefficient(d2, n2), 0.0) * omega.scale(live).to(d2)[:, None, None]
    return omega.value(d2, n2, live), weight.transpose(0, 1)


def input_gradients(gradient: Parameters, v: Tensor, inputs: Tensor) -> None:
    """Fill W_in's and b's gradients from v, `T M B N`."""
    M, I = gradient.members, gradient.sizes.inputs
    if inputs.is_floating_point():
        flat = v.transpose(0, 1).flatten(1, 2)  # M TB N
        gradient.W_in.copy_(torch.bmm(flat.mT, inputs.to(v.dtype).flatten(1, 2)))
        gradient.b.copy_(flat.sum(dim=1))
        return
    if v.is_cuda:  # an indexed sum is not reproducible there
        one_hot = torch.nn.functional.one_hot(inputs.long(), I).to(v.dtype)
        rows = torch.einsum("mtbi,tmbn->min", one_hot, v)
    else:
        rows = v.new_zeros(M * I, v.shape[-1]).index_add_(0, _rows(inputs, I), v.flatten(0, 2)).unflatten(0, (M, I))
    gradient.W_in.copy_(rows.mT)
    gradient.b.copy_(rows.sum(dim=1))  # every step holds exactly one symbol


def recurrent_gradient(gradient: Parameters, sweep: Sweep, h: Tensor, weight: Tensor | None) -> None:
    """Fill W_rec's gradient, the sum over steps of v_t^T (h_{t-1} + weight_t n_t)."""
    W_rec, past = torch.zeros_like(gradient.W_rec), h[:-1]
    for tile in _tiles(sweep.v):
        x = past[tile] if weight is None else torch.addcmul(past[tile], sweep.n[tile], weight[tile, ..., None])
        v, x = (each.transpose(0, 1).flatten(1, 2) for each in (sweep.v[tile], x))  # M TB N
        W_rec.baddbmm_(v.mT, x)
    gradient.W_rec.copy_(W_rec)

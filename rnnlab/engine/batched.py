"""Backpropagation through time in closed form, over all members at once, by batched matrix products.

Works on any device, at any size, in any floating dtype. Inside, histories are step first (`T M B N`), so that a step
of all members is one contiguous block.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlab import clipping
from rnnlab.cells import Parameters, Sigma
from rnnlab.engine.contract import Algorithm, Gradients, Trace, alive, check, counted
from rnnlab.engine.graphs import Replay
from rnnlab.losses import Loss
from rnnlab.omega import Omega
from rnnlab.sequences import Batch, Chunk


class _Workspace:
    """Memory for histories, kept from update to update: fresh pages cost more than the arithmetic done on them."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Uninitialized memory of this shape; the last holder of the name loses it."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < size:
            held = self._held[name] = self._like.new_empty(size)
        return held[:size].view(shape)


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
    symbols = inputs.transpose(0, 1).long()
    return (symbols + torch.arange(0, inputs.shape[0] * I, I, device=inputs.device)[:, None]).flatten()


def _forward(
    parameters: Parameters,
    inputs: Tensor,
    space: _Workspace,
    *,
    sigma: Sigma,
    h_0: Tensor | None,
    within: Tensor | None,
) -> Tensor:
    """h_0 .. h_T, step first: `T+1 M B N`; where `within` (`M T`) is false a state stays as it was."""
    M, T, B = inputs.shape[:3]
    h = space.take("h", (T + 1, M, B, parameters.sizes.units))
    h[0] = 0 if h_0 is None else h_0
    _drive(parameters, inputs, h[1:])
    W_T = parameters.W_rec.mT
    steps = h.unbind(0)
    for t in range(T):
        sigma.apply_(steps[t + 1].baddbmm_(steps[t], W_T))  # M B N
        if within is not None:
            steps[t + 1].copy_(torch.where(within[:, t, None, None], steps[t + 1], steps[t]))
    return h


def _read(parameters: Parameters, h: Tensor) -> Tensor:
    """W_out h + b_out: `M S B O` from `S M B N`."""
    flat = h.transpose(0, 1).flatten(1, 2)  # M SB N
    y = torch.baddbmm(parameters.b_out[:, None], flat, parameters.W_out.mT)
    return y.unflatten(1, (h.shape[0], h.shape[2]))


@dataclass(frozen=True)
class _Sweep:
    """The backward sweep, step first: delta is `T+1 M B N`, v and n are `T M B N`."""

    delta: Tensor
    v: Tensor
    n: Tensor


def _backward(
    parameters: Parameters,
    h: Tensor,
    immediate: Tensor,
    space: _Workspace,
    *,
    sigma: Sigma,
    signal_threshold: float | None,
    within: Tensor | None,
) -> _Sweep:
    """Carry dE/dh from step T to 0; `immediate`, `S M B N`, is dE/dh through the outputs of the last S steps."""
    T, S = h.shape[0] - 1, immediate.shape[0]
    delta, v = space.take("delta", h.shape), space.take("v", h[1:].shape)
    # With a loss at the last step alone, nothing is added or clipped on the way: n_t is delta_{t-1} itself.
    carried = S == 1 and signal_threshold is None and within is None
    n = delta[:-1] if carried else space.take("n", v.shape)
    delta[T] = immediate[-1]
    hs, deltas, vs, ns = h.unbind(0), delta.unbind(0), v.unbind(0), n.unbind(0)
    for t in range(T, 0, -1):
        if signal_threshold is not None:
            deltas[t].clamp_(-signal_threshold, signal_threshold)
        torch.mul(deltas[t], sigma.derivative(hs[t]), out=vs[t - 1])  # M B N
        if within is not None:
            vs[t - 1].masked_fill_(~within[:, t - 1, None, None], 0.0)
        torch.bmm(vs[t - 1], parameters.W_rec, out=ns[t - 1])
        if not carried:
            deltas[t - 1].copy_(ns[t - 1])
            if within is not None:
                deltas[t - 1].copy_(torch.where(within[:, t - 1, None, None], ns[t - 1], deltas[t]))
            if S > 1 and t > 1:
                deltas[t - 1].add_(immediate[t - 2])
    if within is not None:
        delta[1:].masked_fill_(~within.mT[:, :, None, None], 0.0)
    return _Sweep(delta, v, n)


def _squared_norms(x: Tensor) -> Tensor:
    """|x|^2 of every step and sequence, `M T B` from `T M B N`."""
    return torch.linalg.vecdot(x, x).transpose(0, 1)


def _pull(omega: Omega, sweep: _Sweep) -> tuple[Tensor, Tensor]:
    """Omega of each member, and the weight of each pair's v^T n in its derivative, `T M B`."""
    d2, n2 = _squared_norms(sweep.delta[1:]), _squared_norms(sweep.n)
    live = d2 >= omega.bound  # delta is 0 beyond a member's length
    weight = torch.where(live, omega.coefficient(d2, n2), 0.0) * omega.scale(live).to(d2)[:, None, None]
    return omega.value(d2, n2, live), weight.transpose(0, 1)


def _input_gradients(gradient: Parameters, v: Tensor, inputs: Tensor) -> None:
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


def _recurrent_gradient(gradient: Parameters, sweep: _Sweep, h: Tensor, weight: Tensor | None) -> None:
    """Fill W_rec's gradient, the sum over steps of v_t^T (h_{t-1} + weight_t n_t)."""
    W_rec = torch.zeros_like(gradient.W_rec)
    vs, ns, hs = sweep.v.unbind(0), sweep.n.unbind(0), h.unbind(0)
    for t, v_t in enumerate(vs):
        x_t = hs[t] if weight is None else torch.addcmul(hs[t], ns[t], weight[t, ..., None])  # M B N
        W_rec.baddbmm_(v_t.mT, x_t)
    gradient.W_rec.copy_(W_rec)


def describe() -> str:
    """Name for records."""
    return "batched"


def gradients(
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
    """Gradients of every member's loss, omega included, and the total derivative of every step.

    Args:
        parameters: of M networks.
        batch: symbols `M T B` or real inputs `M T B I`, targets, lengths.
        sigma: non-linearity.
        loss: what is descended.
        omega: form of the regularizer, or None.
        alpha: weight of omega.
        signal_threshold: largest absolute entry of delta at any step from 1 to T, or None.
        h_0: states `M B N` to start from, or None for zeros.

    Raises:
        ValueError: a shape or dtype does not fit.

    Source:
        Pascanu et al. 2013, eqs. (3) to (5), (9), (10), in the post-activation form; omega as in `rnnlab.omega`.
    """
    check(parameters, batch, loss=loss, h_0=h_0)
    with torch.no_grad():
        return _gradients(
            parameters,
            batch,
            _Workspace(parameters.theta),
            sigma=sigma,
            loss=loss,
            omega=omega,
            alpha=alpha,
            signal_threshold=signal_threshold,
            within=_within(batch, parameters.theta.device),
            h_0=h_0,
        )


def _within(batch: Batch, device: torch.device) -> Tensor | None:
    """Which steps lie within each member's length, `M T`; None where all do."""
    T = batch.inputs.shape[1]
    return alive(batch.lengths, T, device=device) if int(batch.lengths.min()) < T else None


def _gradients(
    parameters: Parameters,
    batch: Batch,
    space: _Workspace,
    *,
    sigma: Sigma,
    loss: Loss,
    omega: Omega | None,
    alpha: float | Tensor,
    signal_threshold: float | None,
    within: Tensor | None,
    h_0: Tensor | None = None,
) -> Gradients:
    """`gradients` without its checks; states and delta are views into `space`."""
    h = _forward(parameters, batch.inputs, space, sigma=sigma, h_0=h_0, within=within)
    read = h[1:] if loss.every_step else h[-1:]
    y = _read(parameters, read)  # M S B O
    targets = batch.targets.to(y.dtype) if batch.targets.is_floating_point() else batch.targets
    scored = counted(batch, loss)
    dy = loss.gradient(y, targets, scored).flatten(1, 2)  # M SB O
    immediate = torch.bmm(dy, parameters.W_out).unflatten(1, y.shape[1:3]).transpose(0, 1)  # S M B N
    sweep = _backward(parameters, h, immediate, space, sigma=sigma, signal_threshold=signal_threshold, within=within)
    gradient = Parameters(torch.empty_like(parameters.theta), parameters.sizes)
    Omega_, weight = torch.zeros(parameters.members, dtype=y.dtype, device=y.device), None
    if omega is not None:
        Omega_, weight = _pull(omega, sweep)
        weight = alpha * weight
    _recurrent_gradient(gradient, sweep, h, weight)
    _input_gradients(gradient, sweep.v, batch.inputs)
    gradient.W_out.copy_(torch.bmm(dy.mT, read.transpose(0, 1).flatten(1, 2)))
    gradient.b_out.copy_(dy.sum(dim=1))
    E = loss.value(y, targets, scored)
    return Gradients(gradient.theta, h.transpose(0, 1), sweep.delta.transpose(0, 1), E, Omega_, y)


def sgd(
    parameters: Parameters,
    chunk: Chunk,
    *,
    sigma: Sigma,
    loss: Loss,
    algorithm: Algorithm,
    first_update: int = 0,
) -> Trace:
    """K whole updates of every member, in place: forward, backward, omega, clip with guard, step.

    Args:
        parameters: of M networks; changed.
        chunk: the batches of K updates.
        sigma: non-linearity.
        loss: what is descended.
        algorithm: learning rate, clipping, omega and the schedule of its weight.
        first_update: number of the chunk's first update, read by the schedule.

    Raises:
        ValueError: a shape or dtype does not fit.
    """
    check(parameters, chunk[0], loss=loss, h_0=None)
    space = _Workspace(parameters.theta)

    def update(batch: Batch, alpha: float | Tensor, within: Tensor | None) -> tuple[Tensor, ...]:
        g = _gradients(
            parameters,
            batch,
            space,
            sigma=sigma,
            loss=loss,
            omega=algorithm.omega,
            alpha=alpha,
            signal_threshold=algorithm.clip.signal_threshold,
            within=within,
        )
        step, norm, events = clipping.apply(algorithm.clip, g.theta, parameters.W_rec)
        parameters.theta.sub_(step, alpha=algorithm.learning_rate)
        return g.loss, norm, g.omega, events

    alphas = [algorithm.alpha(first_update + k) for k in range(len(chunk))]
    with torch.no_grad():
        if _captured(parameters.theta, len(chunk)):
            traces = _replayed(update, parameters.theta, chunk, alphas)
        else:
            device = parameters.theta.device
            traces = [update(batch, a, _within(batch, device)) for batch, a in zip(chunk, alphas, strict=True)]
    return Trace(*(torch.stack(parts) for parts in zip(*traces, strict=True)))


def _captured(theta: Tensor, updates: int) -> bool:
    """Whether to capture an update as a graph: on a GPU, from as many updates on as repay the capture."""
    return theta.is_cuda and updates >= 8


def _replayed(
    update: Callable[..., tuple[Tensor, ...]], theta: Tensor, chunk: Chunk, alphas: list[float]
) -> list[tuple[Tensor, ...]]:
    """The updates of a chunk, all by one graph: every batch as long as the longest, what lies beyond masked."""
    T = int(chunk.lengths.max())
    mixed = int(chunk.lengths.min()) < T

    def on_device(inputs: Tensor, targets: Tensor, lengths: Tensor, alpha: Tensor) -> tuple[Tensor, ...]:
        return update(Batch(inputs, targets, lengths), alpha, alive(lengths, T, device=theta.device) if mixed else None)

    inputs, targets = chunk.inputs[:, :, :T], chunk.targets[:, :, :T]
    arguments = (
        inputs,
        targets,
        chunk.lengths.to(theta.device),
        torch.tensor(alphas, dtype=theta.dtype, device=theta.device),
    )
    once = Replay(on_device, *(argument[0] for argument in arguments), changed=theta)
    return [once(*(argument[k] for argument in arguments)) for k in range(len(chunk))]


def outputs(
    parameters: Parameters, batch: Batch, *, sigma: Sigma, loss: Loss, h_0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What the networks answer, `M S B O`, and the states they end in, `M B N`.

    With `h_0` from an earlier window of the same sequences, long sequences stream through little memory.
    """
    with torch.no_grad():
        within = _within(batch, parameters.theta.device)
        h = _forward(parameters, batch.inputs, _Workspace(parameters.theta), sigma=sigma, h_0=h_0, within=within)
        return _read(parameters, h[1:] if loss.every_step else h[-1:]), h[-1]

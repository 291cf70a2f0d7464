"""Passes through time of the fused engine for GPUs, in Triton: forward, score, backward. `plan` is a `Plan`.

A step's products work on a block of `ROWS` sequences by `NP` units, padded with zeros; W_rec stays in shared memory,
what a sequence carries from step to step in registers, and histories stream through device memory.

In the time loops the product stands last, and what it is added to is fetched a step before: so it waits for nothing,
and the compiler holds its operands in registers.
"""

import math

import triton
import triton.language as tl

from rnnlab import bits
from rnnlab.words import words

_NOISE = tl.constexpr(bits.NOISE)
_TURN = tl.constexpr(2 * math.pi * 2.0**-24)  # an angle's unit


@triton.jit
def matrix(start, row, column, R: tl.constexpr, C: tl.constexpr, RP: tl.constexpr, CP: tl.constexpr):
    """A matrix of R by C numbers with these strides, padded with zeros to RP by CP."""
    i, j = tl.arange(0, RP)[:, None], tl.arange(0, CP)[None, :]
    return tl.load(start + i * row + j * column, mask=(i < R) & (j < C), other=0.0)


@triton.jit
def store(start, x, row, column, R: tl.constexpr, C: tl.constexpr):
    i, j = tl.arange(0, x.shape[0])[:, None], tl.arange(0, x.shape[1])[None, :]
    tl.store(start + i * row + j * column, x, mask=(i < R) & (j < C))


@triton.jit
def zeros(R: tl.constexpr, C: tl.constexpr):
    return tl.zeros((R, C), tl.float32)


@triton.jit
def dot(a, b, plan: tl.constexpr):
    return tl.dot(a, b, input_precision=plan.precision)


@triton.jit
def activation(a, plan: tl.constexpr):
    if plan.sigma == "Tanh":
        return 1 - 2 / (tl.exp(2 * a) + 1)
    if plan.sigma == "Sigmoid":
        return 1 / (tl.exp(-a) + 1)
    return a


@triton.jit
def slope(h, plan: tl.constexpr):
    if plan.sigma == "Tanh":
        return 1 - h * h
    if plan.sigma == "Sigmoid":
        return h * (1 - h)
    return tl.full(h.shape, 1.0, tl.float32)


@triton.jit
def lay_out(theta, inputs, weights, states, L, plan: tl.constexpr):
    """W_rec^T, and W_in u + b: a row for each symbol, or, for real inputs, each step's in the place of its state."""
    units, channels = tl.arange(0, plan.NP), tl.arange(0, plan.IP)[None, :]
    store(weights, matrix(theta, 1, plan.N, plan.N, plan.N, plan.NP, plan.NP), plan.NP, 1, plan.NP, plan.NP)
    W_in_T = matrix(theta + plan.W_in, 1, plan.I, plan.I, plan.N, plan.IP, plan.NP)
    b = tl.load(theta + plan.b + units, mask=units < plan.N, other=0.0)[None, :]
    if plan.symbols:
        store(weights + plan.NP * plan.NP, W_in_T + b, plan.NP, 1, plan.I, plan.NP)
    else:
        for first in range(0, L * plan.B, plan.ROWS):
            rows = (first + tl.arange(0, plan.ROWS))[:, None]
            inside = rows < L * plan.B
            u = tl.load(inputs + rows * plan.I + channels, mask=inside & (channels < plan.I), other=0.0)
            tl.store(states + (rows + plan.B) * plan.NP + units[None, :], dot(u, W_in_T, plan) + b, mask=inside)
    tl.debug_barrier()


@triton.jit
def cosine(turn, quarters):
    """Cosine of a turn's 2^-24 parts and of so many quarters, by Taylor's series beside the nearest quarter.

    The library's has a way for large angles, of which there are none, and memory for it.
    """
    nearest = (turn + (1 << 21)) >> 22
    x, quarters = (turn - (nearest << 22)).to(tl.float32) * _TURN, nearest + quarters
    x2 = x * x
    cos = 1 + x2 * (-1 / 2 + x2 * (1 / 24 + x2 * (-1 / 720 + x2 * (1 / 40320))))
    sin = x * (1 + x2 * (-1 / 6 + x2 * (1 / 120 + x2 * (-1 / 5040 + x2 * (1 / 362880)))))
    y = tl.where((quarters & 1) != 0, sin, cos)
    return tl.where(((quarters + 1) & 2) != 0, -y, y)


@triton.jit
def disturb(states, seed, update, deviation, L, plan: tl.constexpr):
    """Add `bits.disturbances` to what real inputs drive; with symbols, write them where states will be.

    A counter's four words are two radii and two angles, so each makes four numbers in a row.
    """
    quads = (L * plan.B * plan.N + 3) // 4
    for first in range(0, quads, plan.FLAT // 4):
        q = first + tl.arange(0, plan.FLAT // 4)
        drawn = words(seed, update, _NOISE, q, 0)
        for j in tl.static_range(4):
            u, turn = ((drawn[j // 2 * 2] >> 8) + 1).to(tl.float32), (drawn[j // 2 * 2 + 1] >> 8).to(tl.int32)
            z = deviation * tl.sqrt(-2 * tl.log(u * 2.0**-24)) * cosine(turn, -(j % 2))
            at = (4 * q + j) // plan.N * plan.NP + (4 * q + j) % plan.N + plan.B * plan.NP
            inside = (q < quads) & (4 * q + j < L * plan.B * plan.N)
            if not plan.symbols:
                z += tl.load(states + at, mask=inside, other=0.0)
            tl.store(states + at, z, mask=inside)
    tl.debug_barrier()


@triton.jit
def drive_of(inputs, weights, states, t, rows, plan: tl.constexpr):
    """What step t + 1 adds to W_rec h_t."""
    units = tl.arange(0, plan.NP)[None, :]
    inside = rows < plan.B
    written = states + ((t + 1) * plan.B + rows[:, None]) * plan.NP + units
    if plan.symbols:
        symbols = tl.load(inputs + t * plan.B + rows, mask=inside, other=0).to(tl.int32)
        drive = tl.load(weights + (plan.NP + symbols[:, None]) * plan.NP + units)
        if plan.noise:
            drive += tl.load(written, mask=inside[:, None] & (units < plan.N), other=0.0)
        return drive
    return tl.load(written, mask=inside[:, None], other=0.0)


@triton.jit
def forward(inputs, weights, h_0, begins, each, states, first, L, plan: tl.constexpr):
    """h_0 .. h_L of ROWS sequences from number `first`; beyond a sequence's own length its state stays as it was."""
    rows, units = first + tl.arange(0, plan.ROWS), tl.arange(0, plan.NP)[None, :]
    inside = (rows < plan.B)[:, None]
    at = rows[:, None] * plan.NP + units
    W_T = matrix(weights, plan.NP, 1, plan.NP, plan.NP, plan.NP, plan.NP)
    h = zeros(plan.ROWS, plan.NP)
    if h_0 is not None:
        h = tl.load(h_0 + rows[:, None] * plan.N + units, mask=inside & (units < plan.N), other=0.0)
        if begins is not None:
            h = tl.where(tl.load(begins + rows, mask=rows < plan.B, other=0)[:, None] != 0, 0.0, h)
    if each is not None:
        own = tl.load(each + rows, mask=rows < plan.B, other=0)[:, None]
    tl.store(states + at, h, mask=inside)
    drive, carried = drive_of(inputs, weights, states, 0, rows, plan), dot(h, W_T, plan)
    for t in range(L):
        following = drive_of(inputs, weights, states, tl.minimum(t + 1, L - 1), rows, plan)
        new = activation(drive + carried, plan)  # in padded columns finite, and multiplied by zeros from here on
        h = new if each is None else tl.where(t < own, new, h)
        tl.store(states + (t + 1) * plan.B * plan.NP + at, h, mask=inside)
        drive, carried = following, dot(h, W_T, plan)
    if begins is not None and not plan.keep:
        tl.store(h_0 + rows[:, None] * plan.N + units, h, mask=inside & (units < plan.N))
    tl.debug_barrier()


@triton.jit
def score(theta, targets, each, pairs, states, outputs, errors, loss_out, L, plan: tl.constexpr):
    """The loss, summed over steps and sequences and divided by `pairs`, and its derivative for the outputs."""
    ROWS: tl.constexpr = plan.ROWS
    columns, units = tl.arange(0, plan.OP)[None, :], tl.arange(0, plan.NP)[None, :]
    answer = columns < plan.O
    W_out_T = matrix(theta + plan.W_out, 1, plan.N, plan.N, plan.O, plan.NP, plan.OP)
    b_out = tl.load(theta + plan.b_out + columns, mask=answer, other=0.0)
    skipped = 0 if plan.every else (L - 1) * plan.B
    count = L * plan.B - skipped
    losses = tl.zeros((ROWS,), tl.float32)
    for first in range(0, count, plan.ROWS):
        rows = first + tl.arange(0, plan.ROWS)
        inside, row = rows < count, rows[:, None]
        scored = inside
        if each is not None and plan.every:
            scored = inside & (rows // plan.B < tl.load(each + rows % plan.B))
        h = tl.load(states + (row + skipped + plan.B) * plan.NP + units, mask=inside[:, None], other=0.0)
        y = dot(h, W_out_T, plan) + b_out
        if plan.keep:
            tl.store(outputs + row * plan.O + columns, y, mask=scored[:, None] & answer)
        if plan.loss != "Softmax":
            target = tl.load(targets + row * plan.O + columns, mask=inside[:, None] & answer, other=0.0)
        if plan.loss == "SquaredError":
            error = tl.where(answer, y - target, 0.0)
            loss = tl.sum(error * error, 1)
            error = 2 * error
        elif plan.loss == "Bernoulli":
            e = tl.exp(-tl.abs(y))
            loss = tl.sum(tl.where(answer, tl.maximum(y, 0.0) - y * target + tl.log(1 + e), 0.0), 1)
            error = tl.where(answer, tl.where(y < 0, e, 1.0) / (1 + e) - target, 0.0)
        else:
            target = tl.load(targets + rows, mask=inside, other=0).to(tl.int32)
            right = columns == target[:, None]
            y = tl.where(answer, y, -float("inf"))
            y = y - tl.max(y, 1)[:, None]
            e = tl.exp(y)
            total = tl.sum(e, 1)
            loss = tl.log(total) - tl.sum(tl.where(right, y, 0.0), 1)
            others = tl.sum(tl.where(right, 0.0, e), 1)  # the right class's p - 1, without the cancellation
            error = tl.where(right, -others[:, None], e) / total[:, None]
        losses += tl.where(scored, loss, 0.0)
        if each is not None:
            error = tl.where(scored[:, None], error, 0.0)
        tl.store(errors + row * plan.OP + columns, error / pairs, mask=inside[:, None])
    tl.store(loss_out, tl.sum(losses, 0) / pairs)
    tl.debug_barrier()


@triton.jit
def _pull(d2, n2, bound, inside, plan: tl.constexpr):
    """For each pair: whether it is live, its part of Omega, and its c, the weight of v^T n in Omega's derivative."""
    live = inside & (d2 >= bound)
    d2 = tl.where(live, d2, 1.0)
    q = tl.where(live, n2, 1.0) / d2
    if plan.omega == "Code":
        value, c = (q - 1) * (q - 1), (q - 1) / d2
    elif plan.omega == "Eq9":
        ratio = tl.sqrt(q)
        value, c = (ratio - 1) * (ratio - 1), tl.where(ratio > 0, (1 - 1 / ratio) / d2, 0.0)
    else:
        value, c = q - 1, 1 / d2
    return live.to(tl.int32), value, tl.where(live, c, 0.0)


@triton.jit
def backward(theta, each, states, errors, delta, n_out, c_out, first, L, bound, signal, plan: tl.constexpr):
    """delta_L .. delta_0 of ROWS sequences from number `first`; how many live pairs are among them; Omega's sum.

    Beyond a sequence's own length delta is 0, and what its last state is due travels on to it.
    """
    ROWS: tl.constexpr = plan.ROWS
    step: tl.constexpr = plan.B * plan.NP
    rows, columns = first + tl.arange(0, plan.ROWS), tl.arange(0, plan.OP)
    inside = (rows < plan.B)[:, None]
    at, output = rows[:, None] * plan.NP + tl.arange(0, plan.NP)[None, :], rows[:, None] * plan.OP + columns[None, :]
    W = matrix(theta, plan.N, 1, plan.N, plan.N, plan.NP, plan.NP)
    W_out = matrix(theta + plan.W_out, plan.N, 1, plan.O, plan.N, plan.OP, plan.NP)
    last = (L - 1) * plan.B * plan.OP if plan.every else 0
    d = dot(tl.load(errors + last + output, mask=inside, other=0.0), W_out, plan)
    h = tl.load(states + L * step + at, mask=inside, other=0.0)
    live, Omega = tl.zeros((ROWS,), tl.int32), tl.zeros((ROWS,), tl.float32)
    if each is not None:
        own = tl.load(each + rows, mask=rows < plan.B, other=0)
    for back in range(L):
        t = L - back
        before = tl.load(states + (t - 1) * step + at, mask=inside, other=0.0)
        if plan.signal:
            d = tl.where(d > signal, signal, tl.where(d < -signal, -signal, d))
        due, past, within = d, d, rows < plan.B
        if each is not None:
            within = within & (t <= own)
            due = tl.where(within[:, None], d, 0.0)
        tl.store(delta + t * step + at, due, mask=inside)
        n = dot(due * slope(h, plan), W, plan)
        if plan.omega != "NoneType":
            alive, value, c = _pull(tl.sum(due * due, 1), tl.sum(n * n, 1), bound, within, plan)
            live += alive
            Omega += value
            tl.store(c_out + (t - 1) * plan.B + rows, c, mask=rows < plan.B)
        d = n if each is None else tl.where(within[:, None], n, past)
        if plan.apart and plan.omega != "NoneType":
            tl.store(n_out + (t - 1) * step + at, n, mask=inside)
        if plan.every:
            error = tl.load(errors + (t - 2) * plan.B * plan.OP + output, mask=inside & (t > 1), other=0.0)
            d += dot(error, W_out, plan)
        h = before
    tl.store(delta + at, d, mask=inside)
    return tl.sum(live, 0), tl.sum(Omega, 0)

"""The fused engine's kernels, in Triton: one program trains one network, K whole updates a launch.

A step's products work on a block of `ROWS` sequences by `NP` units, padded with zeros; W_rec stays in shared memory,
what a sequence carries from step to step in registers, and histories stream through device memory. Sums over steps
and sequences have no order in time, so their blocks are cut from all pairs (step, sequence) in a row.

In the time loops the product stands last, and what it is added to is fetched a step before: so it waits for nothing,
and the compiler holds its operands in registers. `plan` is a `Plan`.
"""

import triton
import triton.language as tl

from rnnlab.descent.clipping import Event

_CLIPPED = tl.constexpr(int(Event.CLIPPED))
_GUARDED = tl.constexpr(int(Event.GUARDED))
_DIVERGED = tl.constexpr(int(Event.DIVERGED))
_TINY = tl.constexpr(2.0**-126)  # the least normal number of float32


@triton.jit
def _matrix(start, row, column, R: tl.constexpr, C: tl.constexpr, RP: tl.constexpr, CP: tl.constexpr):
    """A matrix of R by C numbers with these strides, padded with zeros to RP by CP."""
    i, j = tl.arange(0, RP)[:, None], tl.arange(0, CP)[None, :]
    return tl.load(start + i * row + j * column, mask=(i < R) & (j < C), other=0.0)


@triton.jit
def _store(start, x, row, column, R: tl.constexpr, C: tl.constexpr):
    i, j = tl.arange(0, x.shape[0])[:, None], tl.arange(0, x.shape[1])[None, :]
    tl.store(start + i * row + j * column, x, mask=(i < R) & (j < C))


@triton.jit
def _dot(a, b, plan: tl.constexpr):
    return tl.dot(a, b, input_precision=plan.precision)


@triton.jit
def _sigma(a, plan: tl.constexpr):
    if plan.sigma == "Tanh":
        return 1 - 2 / (tl.exp(2 * a) + 1)
    if plan.sigma == "Sigmoid":
        return 1 / (tl.exp(-a) + 1)
    return a


@triton.jit
def _slope(h, plan: tl.constexpr):
    if plan.sigma == "Tanh":
        return 1 - h * h
    if plan.sigma == "Sigmoid":
        return h * (1 - h)
    return tl.full(h.shape, 1.0, tl.float32)


@triton.jit
def _prepare(theta, inputs, weights, states, L, plan: tl.constexpr):
    """W_rec^T, and W_in u + b: a row for each symbol, or, for real inputs, each step's in the place of its state."""
    NP: tl.constexpr = plan.NP
    units, channels = tl.arange(0, NP), tl.arange(0, plan.IP)[None, :]
    _store(weights, _matrix(theta, 1, plan.N, plan.N, plan.N, NP, NP), NP, 1, NP, NP)
    W_in_T = _matrix(theta + plan.W_in, 1, plan.I, plan.I, plan.N, plan.IP, NP)
    b = tl.load(theta + plan.b + units, mask=units < plan.N, other=0.0)[None, :]
    if plan.symbols:
        _store(weights + NP * NP, W_in_T + b, NP, 1, plan.I, NP)
    else:
        for first in range(0, L * plan.B, plan.ROWS):
            rows = (first + tl.arange(0, plan.ROWS))[:, None]
            inside = rows < L * plan.B
            u = tl.load(inputs + rows * plan.I + channels, mask=inside & (channels < plan.I), other=0.0)
            tl.store(states + (rows + plan.B) * NP + units[None, :], _dot(u, W_in_T, plan) + b, mask=inside)
    tl.debug_barrier()


@triton.jit
def _drive(inputs, weights, states, t, rows, plan: tl.constexpr):
    """What step t + 1 adds to W_rec h_t."""
    units = tl.arange(0, plan.NP)[None, :]
    inside = rows < plan.B
    if plan.symbols:
        symbols = tl.load(inputs + t * plan.B + rows, mask=inside, other=0).to(tl.int32)
        return tl.load(weights + (plan.NP + symbols[:, None]) * plan.NP + units)
    return tl.load(states + ((t + 1) * plan.B + rows[:, None]) * plan.NP + units, mask=inside[:, None], other=0.0)


@triton.jit
def _forward(inputs, weights, h_0, states, first, L, plan: tl.constexpr):
    """h_0 .. h_L of ROWS sequences from number `first`."""
    ROWS: tl.constexpr = plan.ROWS
    NP: tl.constexpr = plan.NP
    rows, units = first + tl.arange(0, plan.ROWS), tl.arange(0, NP)[None, :]
    inside = (rows < plan.B)[:, None]
    at = rows[:, None] * NP + units
    W_T = _matrix(weights, NP, 1, NP, NP, NP, NP)
    h = tl.zeros((ROWS, NP), tl.float32)
    if h_0 is not None:
        h = tl.load(h_0 + rows[:, None] * plan.N + units, mask=inside & (units < plan.N), other=0.0)
    tl.store(states + at, h, mask=inside)
    drive, carried = _drive(inputs, weights, states, 0, rows, plan), _dot(h, W_T, plan)
    for t in range(L):
        following = _drive(inputs, weights, states, tl.minimum(t + 1, L - 1), rows, plan)
        h = _sigma(drive + carried, plan)  # in padded columns finite, and multiplied by zeros from here on
        tl.store(states + (t + 1) * plan.B * NP + at, h, mask=inside)
        drive, carried = following, _dot(h, W_T, plan)
    tl.debug_barrier()


@triton.jit
def _score(theta, targets, states, outputs, errors, loss_out, L, plan: tl.constexpr):
    """The loss, and its derivative for the outputs."""
    ROWS: tl.constexpr = plan.ROWS
    columns, units = tl.arange(0, plan.OP)[None, :], tl.arange(0, plan.NP)[None, :]
    answer = columns < plan.O
    W_out_T = _matrix(theta + plan.W_out, 1, plan.N, plan.N, plan.O, plan.NP, plan.OP)
    b_out = tl.load(theta + plan.b_out + columns, mask=answer, other=0.0)
    skipped = 0 if plan.every else (L - 1) * plan.B
    count = L * plan.B - skipped
    losses = tl.zeros((ROWS,), tl.float32)
    for first in range(0, count, plan.ROWS):
        rows = first + tl.arange(0, plan.ROWS)
        inside, row = rows < count, rows[:, None]
        h = tl.load(states + (row + skipped + plan.B) * plan.NP + units, mask=inside[:, None], other=0.0)
        y = _dot(h, W_out_T, plan) + b_out
        if plan.keep:
            tl.store(outputs + row * plan.O + columns, y, mask=inside[:, None] & answer)
        if plan.loss == "LastSquaredError":
            target = tl.load(targets + row * plan.O + columns, mask=inside[:, None] & answer, other=0.0)
            error = tl.where(answer, y - target, 0.0)
            loss = tl.sum(error * error, 1)
            error = 2 * error
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
        losses += tl.where(inside, loss, 0.0)
        tl.store(errors + row * plan.OP + columns, error / count, mask=inside[:, None])
    tl.store(loss_out, tl.sum(losses, 0) / count)
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
def _backward(theta, states, errors, delta, n_out, c_out, first, L, bound, plan: tl.constexpr):
    """delta_L .. delta_0 of ROWS sequences from number `first`; how many live pairs are among them; Omega's sum."""
    ROWS: tl.constexpr = plan.ROWS
    NP: tl.constexpr = plan.NP
    step: tl.constexpr = plan.B * NP
    rows, columns = first + tl.arange(0, plan.ROWS), tl.arange(0, plan.OP)
    inside = (rows < plan.B)[:, None]
    at, output = rows[:, None] * NP + tl.arange(0, NP)[None, :], rows[:, None] * plan.OP + columns[None, :]
    W = _matrix(theta, plan.N, 1, plan.N, plan.N, NP, NP)
    W_out = _matrix(theta + plan.W_out, plan.N, 1, plan.O, plan.N, plan.OP, NP)
    last = (L - 1) * plan.B * plan.OP if plan.every else 0
    d = _dot(tl.load(errors + last + output, mask=inside, other=0.0), W_out, plan)
    h = tl.load(states + L * step + at, mask=inside, other=0.0)
    live, Omega = tl.zeros((ROWS,), tl.int32), tl.zeros((ROWS,), tl.float32)
    for back in range(L):
        t = L - back
        before = tl.load(states + (t - 1) * step + at, mask=inside, other=0.0)
        tl.store(delta + t * step + at, d, mask=inside)
        n = _dot(d * _slope(h, plan), W, plan)
        if plan.omega != "NoneType":
            alive, value, c = _pull(tl.sum(d * d, 1), tl.sum(n * n, 1), bound, rows < plan.B, plan)
            live += alive
            Omega += value
            tl.store(c_out + (t - 1) * plan.B + rows, c, mask=rows < plan.B)
        d = n
        if plan.every:
            if plan.omega != "NoneType":
                tl.store(n_out + (t - 1) * step + at, n, mask=inside)
            error = tl.load(errors + (t - 2) * plan.B * plan.OP + output, mask=inside & (t > 1), other=0.0)
            d = n + _dot(error, W_out, plan)
        h = before
    tl.store(delta + at, d, mask=inside)
    return tl.sum(live, 0), tl.sum(Omega, 0)


@triton.jit
def _collect(inputs, states, delta, n_in, c_in, gradient, pull, L, plan: tl.constexpr):
    """Gradients of W_rec, W_in and b: sums over pairs of v^T (h_{t-1} + pull c n), of v^T u and of v."""
    ROWS: tl.constexpr = plan.ROWS
    IP: tl.constexpr = plan.IP
    NP: tl.constexpr = plan.NP
    units, channels = tl.arange(0, NP), tl.arange(0, plan.IP)[None, :]
    gW, gW_in_T = tl.zeros((NP, NP), tl.float32), tl.zeros((IP, NP), tl.float32)
    gb = tl.zeros((1 if plan.symbols else ROWS, NP), tl.float32)
    for first in range(0, L * plan.B, plan.ROWS):
        rows = first + tl.arange(0, plan.ROWS)
        row, inside = rows[:, None], (rows < L * plan.B)[:, None]
        at = row * NP + units[None, :]
        h = tl.load(states + plan.B * NP + at, mask=inside, other=0.0)
        v = tl.load(delta + plan.B * NP + at, mask=inside, other=0.0) * _slope(h, plan)
        x = tl.load(states + at, mask=inside, other=0.0)
        if plan.omega != "NoneType":
            c = pull * tl.load(c_in + row, mask=inside, other=0.0)
            x = tl.where(c != 0, x + c * tl.load(n_in + at, mask=inside, other=0.0), x)
        if plan.symbols:
            u = tl.where(tl.load(inputs + row, mask=inside, other=0).to(tl.int32) == channels, 1.0, 0.0)
        else:
            u = tl.load(inputs + row * plan.I + channels, mask=inside & (channels < plan.I), other=0.0)
        gW += _dot(tl.trans(v), x, plan)
        gW_in_T += _dot(tl.trans(u), v, plan)
        if not plan.symbols:
            gb += v
    _store(gradient, gW, plan.N, 1, plan.N, plan.N)
    _store(gradient + plan.W_in, gW_in_T, 1, plan.I, plan.I, plan.N)
    if plan.symbols:  # every step holds exactly one symbol
        gb = gW_in_T
    tl.store(gradient + plan.b + units, tl.sum(gb, 0), mask=units < plan.N)


@triton.jit
def _collect_outputs(states, errors, gradient, L, plan: tl.constexpr):
    """Gradients of W_out and b_out."""
    ROWS: tl.constexpr = plan.ROWS
    NP: tl.constexpr = plan.NP
    OP: tl.constexpr = plan.OP
    columns, units = tl.arange(0, plan.OP), tl.arange(0, plan.NP)[None, :]
    skipped = 0 if plan.every else (L - 1) * plan.B
    gW_out, gb_out = tl.zeros((OP, NP), tl.float32), tl.zeros((ROWS, OP), tl.float32)
    for first in range(0, L * plan.B - skipped, plan.ROWS):
        row = (first + tl.arange(0, plan.ROWS))[:, None]
        inside = row < L * plan.B - skipped
        h = tl.load(states + (row + skipped + plan.B) * plan.NP + units, mask=inside, other=0.0)
        error = tl.load(errors + row * plan.OP + columns[None, :], mask=inside, other=0.0)
        gW_out += _dot(tl.trans(error), h, plan)
        gb_out += error
    _store(gradient + plan.W_out, gW_out, plan.N, 1, plan.O, plan.N)
    tl.store(gradient + plan.b_out + columns, tl.sum(gb_out, 0), mask=columns < plan.O)
    tl.debug_barrier()


@triton.jit
def _norm(gradient, plan: tl.constexpr):
    """Joint norm of all parameters' gradients, summed in float64, where squares neither over- nor underflow.

    And that times 2^-10, which is finite if the gradients are.
    """
    FLAT: tl.constexpr = plan.FLAT
    squares = tl.zeros((FLAT,), tl.float64)
    for first in range(0, plan.P, plan.FLAT):
        p = first + tl.arange(0, plan.FLAT)
        g = tl.load(gradient + p, mask=p < plan.P, other=0.0).to(tl.float64)
        squares += g * g
    norm = tl.sqrt(tl.sum(squares, 0))
    return norm.to(tl.float32), (norm * 0.0009765625).to(tl.float32)


@triton.jit
def _descend(theta, gradient, norm, smaller, rate, threshold, guard_limit, guard_factor, plan: tl.constexpr):
    """The clipped and guarded step; an `Event`."""
    FLAT: tl.constexpr = plan.FLAT
    finite = smaller < float("inf")
    guarded = (((norm <= guard_limit) & finite) == 0) & (plan.guard != "NoneType")
    clipped = (norm >= threshold) & (threshold < float("inf")) & (plan.clip == "Norm")
    scale = tl.where(clipped, threshold / norm, 1.0)
    # A factor that no float holds, of a step that may be one: its root, twice.
    small, root = clipped & (guarded == 0) & finite & (scale < _TINY), tl.sqrt(threshold) / (32 * tl.sqrt(smaller))
    scale, rate = tl.where(small, root, scale), tl.where(small, rate * root, rate)
    beyond = tl.zeros((FLAT,), tl.int32)
    for first in range(0, plan.P, plan.FLAT):
        p = first + tl.arange(0, plan.FLAT)
        w = tl.load(theta + p, mask=p < plan.P, other=0.0)
        g = tl.load(gradient + p, mask=p < plan.P, other=0.0)
        if plan.clip == "Elementwise":
            beyond = tl.maximum(beyond, (tl.abs(g) > threshold).to(tl.int32))
            g = tl.where(g > threshold, threshold, tl.where(g < -threshold, -threshold, g))
        new = w - rate * (scale * g)
        if plan.guard == "Shrink":
            new = tl.where(guarded, tl.where(p < plan.W_in, w - rate * (guard_factor * w), w), new)
        elif plan.guard == "Skip":
            new = tl.where(guarded, w, new)
        tl.store(theta + p, new, mask=p < plan.P)
    event = tl.where(clipped | (tl.max(beyond, 0) > 0), _CLIPPED, 0)
    if plan.guard == "NoneType":
        return tl.where(finite, event, _DIVERGED)
    return tl.where(guarded, _GUARDED, event)


# Nothing is compiled for the values of these: how many members and updates there are, and where a member's data lie,
# must not change a member's bits.
_GIVEN = ["theta", "inputs", "targets", "lengths", "alphas", "h_0", "outputs", "losses", "norms", "omegas", "events"]
_NUMBERS = ["K", "M", "T", "rate", "threshold", "guard_limit", "guard_factor", "bound"]


@triton.jit(do_not_specialize=_NUMBERS, do_not_specialize_on_alignment=_GIVEN)
def train(
    theta, inputs, targets, lengths, alphas, h_0,
    weights, states, delta, n, c, errors, gradient, outputs, losses, norms, omegas, events,
    K, M, T, rate, threshold, guard_limit, guard_factor, bound, plan: tl.constexpr,
):  # fmt: skip
    """K updates of one network; with `plan.keep`, its gradient alone."""
    m = tl.program_id(0).to(tl.int64)
    step: tl.constexpr = plan.B * plan.NP
    S = T if plan.every else 1
    theta += m * plan.P
    gradient += m * plan.P
    weights += m * (plan.NP + plan.I) * plan.NP
    states += m * (T + 1) * step
    delta += m * (T + 1) * step
    n += m * (T if plan.every else T + 1) * step
    c += m * T * plan.B
    errors += m * S * plan.B * plan.OP
    outputs += m * S * plan.B * plan.O
    if h_0 is not None:
        h_0 += m * plan.B * plan.N
    for k in range(K):
        i = k * M + m
        L = tl.load(lengths + i)
        u = inputs + i * T * plan.input_size
        target = targets + i * S * plan.target_size
        _prepare(theta, u, weights, states, L, plan)
        for first in range(0, plan.B, plan.ROWS):
            _forward(u, weights, h_0, states, first, L, plan)
        _score(theta, target, states, outputs, errors, losses + i, L, plan)
        live, Omega = 0, 0.0
        for first in range(0, plan.B, plan.ROWS):
            alive, value = _backward(theta, states, errors, delta, n, c, first, L, bound, plan)
            live += alive
            Omega += value
        tl.debug_barrier()
        pairs = tl.maximum(live, 1).to(tl.float32) if plan.omega == "Code" else plan.B * 1.0
        tl.store(omegas + i, Omega / pairs)
        pull = tl.load(alphas + k) * ((4 if plan.omega == "Code" else 2) / pairs)
        _collect(u, states, delta, n, c, gradient, pull, L, plan)
        _collect_outputs(states, errors, gradient, L, plan)
        norm, smaller = _norm(gradient, plan)
        tl.store(norms + i, norm)
        if not plan.keep:
            event = _descend(theta, gradient, norm, smaller, rate, threshold, guard_limit, guard_factor, plan)
            tl.store(events + i, event.to(tl.uint8))
        tl.debug_barrier()


@triton.jit(do_not_specialize=["T"], do_not_specialize_on_alignment=_GIVEN)
def prepare(theta, inputs, lengths, weights, states, T, plan: tl.constexpr):
    """What `respond` reads: each network's transposed weights, and its drive."""
    m = tl.program_id(0).to(tl.int64)
    weights += m * (plan.NP + plan.I) * plan.NP
    states += m * (T + 1) * plan.B * plan.NP
    inputs += m * T * plan.input_size
    _prepare(theta + m * plan.P, inputs, weights, states, tl.load(lengths + m), plan)


@triton.jit(do_not_specialize=["T"], do_not_specialize_on_alignment=_GIVEN)
def respond(theta, inputs, lengths, h_0, weights, states, outputs, T, plan: tl.constexpr):
    """States and outputs of ROWS sequences of one network."""
    m, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * plan.ROWS
    theta += m * plan.P
    weights += m * (plan.NP + plan.I) * plan.NP
    states += m * (T + 1) * plan.B * plan.NP
    inputs += m * T * plan.input_size
    outputs += m * (T if plan.every else 1) * plan.B * plan.O
    if h_0 is not None:
        h_0 += m * plan.B * plan.N
    L = tl.load(lengths + m)
    _forward(inputs, weights, h_0, states, first, L, plan)
    rows, columns = (first + tl.arange(0, plan.ROWS))[:, None], tl.arange(0, plan.OP)[None, :]
    units = tl.arange(0, plan.NP)[None, :]
    W_out_T = _matrix(theta + plan.W_out, 1, plan.N, plan.N, plan.O, plan.NP, plan.OP)
    b_out = tl.load(theta + plan.b_out + columns, mask=columns < plan.O, other=0.0)
    for t in range(0 if plan.every else L - 1, L):
        h = tl.load(states + ((t + 1) * plan.B + rows) * plan.NP + units, mask=rows < plan.B, other=0.0)
        row = (t if plan.every else 0) * plan.B + rows
        y = _dot(h, W_out_T, plan) + b_out
        tl.store(outputs + row * plan.O + columns, y, mask=(rows < plan.B) & (columns < plan.O))

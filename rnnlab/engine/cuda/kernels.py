"""The fused engine's kernels for GPUs, in Triton: one program trains one network, K whole updates a launch.

Sums over steps and sequences have no order in time, so their blocks are cut from all pairs (step, sequence) in a row.
"""

import triton
import triton.language as tl

from rnnlab.descent.clipping import Event
from rnnlab.engine.cuda.passes import backward, dot, forward, lay_out, matrix, score, slope, store, zeros

_CLIPPED = tl.constexpr(int(Event.CLIPPED))
_GUARDED = tl.constexpr(int(Event.GUARDED))
_DIVERGED = tl.constexpr(int(Event.DIVERGED))
_TINY = tl.constexpr(2.0**-126)  # the least normal number of float32


@triton.jit
def _collect(inputs, states, delta, n_in, c_in, gradient, pull, L, plan: tl.constexpr):
    """Gradients of W_rec, W_in and b: sums over pairs of v^T (h_{t-1} + pull c n), of v^T u and of v."""
    units, channels = tl.arange(0, plan.NP), tl.arange(0, plan.IP)[None, :]
    gW, gW_in_T = zeros(plan.NP, plan.NP), zeros(plan.IP, plan.NP)
    gb = zeros(1 if plan.symbols else plan.ROWS, plan.NP)
    for first in range(0, L * plan.B, plan.ROWS):
        rows = first + tl.arange(0, plan.ROWS)
        row, inside = rows[:, None], (rows < L * plan.B)[:, None]
        at = row * plan.NP + units[None, :]
        h = tl.load(states + plan.B * plan.NP + at, mask=inside, other=0.0)
        v = tl.load(delta + plan.B * plan.NP + at, mask=inside, other=0.0) * slope(h, plan)
        x = tl.load(states + at, mask=inside, other=0.0)
        if plan.omega != "NoneType":
            c = pull * tl.load(c_in + row, mask=inside, other=0.0)
            x = tl.where(c != 0, x + c * tl.load(n_in + at, mask=inside, other=0.0), x)
        if plan.symbols:
            u = tl.where(tl.load(inputs + row, mask=inside, other=0).to(tl.int32) == channels, 1.0, 0.0)
        else:
            u = tl.load(inputs + row * plan.I + channels, mask=inside & (channels < plan.I), other=0.0)
        gW += dot(tl.trans(v), x, plan)
        gW_in_T += dot(tl.trans(u), v, plan)
        if not plan.symbols:
            gb += v
    store(gradient, gW, plan.N, 1, plan.N, plan.N)
    store(gradient + plan.W_in, gW_in_T, 1, plan.I, plan.I, plan.N)
    if plan.symbols:  # every step holds exactly one symbol
        gb = gW_in_T
    tl.store(gradient + plan.b + units, tl.sum(gb, 0), mask=units < plan.N)


@triton.jit
def _collect_outputs(states, errors, gradient, L, plan: tl.constexpr):
    """Gradients of W_out and b_out."""
    columns, units = tl.arange(0, plan.OP), tl.arange(0, plan.NP)[None, :]
    skipped = 0 if plan.every else (L - 1) * plan.B
    gW_out, gb_out = zeros(plan.OP, plan.NP), zeros(plan.ROWS, plan.OP)
    for first in range(0, L * plan.B - skipped, plan.ROWS):
        row = (first + tl.arange(0, plan.ROWS))[:, None]
        inside = row < L * plan.B - skipped
        h = tl.load(states + (row + skipped + plan.B) * plan.NP + units, mask=inside, other=0.0)
        error = tl.load(errors + row * plan.OP + columns[None, :], mask=inside, other=0.0)
        gW_out += dot(tl.trans(error), h, plan)
        gb_out += error
    store(gradient + plan.W_out, gW_out, plan.N, 1, plan.O, plan.N)
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
        lay_out(theta, u, weights, states, L, plan)
        for first in range(0, plan.B, plan.ROWS):
            forward(u, weights, h_0, states, first, L, plan)
        score(theta, target, states, outputs, errors, losses + i, L, plan)
        live, Omega = 0, 0.0
        for first in range(0, plan.B, plan.ROWS):
            alive, value = backward(theta, states, errors, delta, n, c, first, L, bound, plan)
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
    lay_out(theta + m * plan.P, inputs, weights, states, tl.load(lengths + m), plan)


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
    forward(inputs, weights, h_0, states, first, L, plan)
    rows, columns = (first + tl.arange(0, plan.ROWS))[:, None], tl.arange(0, plan.OP)[None, :]
    units = tl.arange(0, plan.NP)[None, :]
    W_out_T = matrix(theta + plan.W_out, 1, plan.N, plan.N, plan.O, plan.NP, plan.OP)
    b_out = tl.load(theta + plan.b_out + columns, mask=columns < plan.O, other=0.0)
    for t in range(0 if plan.every else L - 1, L):
        h = tl.load(states + ((t + 1) * plan.B + rows) * plan.NP + units, mask=rows < plan.B, other=0.0)
        row = (t if plan.every else 0) * plan.B + rows
        y = dot(h, W_out_T, plan) + b_out
        tl.store(outputs + row * plan.O + columns, y, mask=(rows < plan.B) & (columns < plan.O))

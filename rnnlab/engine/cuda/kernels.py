"""The fused engine's kernels for GPUs, in Triton: one program trains one network, K whole updates a launch.

Sums over steps and sequences have no order in time, so their blocks are cut from all pairs (step, sequence) in a row.
"""

import triton
import triton.language as tl

from rnnlab.descent.clipping import Event
from rnnlab.engine.cuda.passes import backward, disturb, dot, forward, lay_out, matrix, score, slope, store, zeros

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
def _entries(start, still, p, plan: tl.constexpr):
    """Entries `p`, or 0 for parameters that stay as they are."""
    x = tl.load(start + p, mask=p < plan.P, other=0.0)
    return x if still is None else tl.where(tl.load(still + p, mask=p < plan.P, other=1) == 0, x, 0.0)


@triton.jit
def _norm(gradient, still, plan: tl.constexpr):
    """Joint norm of all parameters' gradients, summed in float64, where squares neither over- nor underflow.

    And that times 2^-10, which is finite if the gradients are.
    """
    FLAT: tl.constexpr = plan.FLAT
    squares = tl.zeros((FLAT,), tl.float64)
    for first in range(0, plan.P, plan.FLAT):
        p = first + tl.arange(0, plan.FLAT)
        g = _entries(gradient, still, p, plan).to(tl.float64)
        squares += g * g
    norm = tl.sqrt(tl.sum(squares, 0))
    return norm.to(tl.float32), (norm * 0.0009765625).to(tl.float32)


@triton.jit
def _power(x, n):
    """x to the power n, a whole number."""
    result = 1 + 0 * x
    while n > 0:
        result = tl.where(n % 2 == 1, result * x, result)
        x, n = x * x, n // 2
    return result


@triton.jit
def _adam(g, w, moment1, moment2, p, n, adam, plan: tl.constexpr):
    """The direction of Adam's step number n, weight decay included; moments change. `adam` is in float64."""
    beta1, beta2 = tl.load(adam), tl.load(adam + 1)
    eps, decay = tl.load(adam + 2).to(tl.float32), tl.load(adam + 3).to(tl.float32)
    first = beta1.to(tl.float32) * tl.load(moment1 + p, mask=p < plan.P, other=0.0) + (1 - beta1).to(tl.float32) * g
    second = tl.load(moment2 + p, mask=p < plan.P, other=0.0)
    second = beta2.to(tl.float32) * second + (1 - beta2).to(tl.float32) * (g * g)
    tl.store(moment1 + p, first, mask=p < plan.P)
    tl.store(moment2 + p, second, mask=p < plan.P)
    bias1, bias2 = (1 - _power(beta1, n)).to(tl.float32), (1 - _power(beta2, n)).to(tl.float32)
    return first / bias1 / (tl.sqrt(second / bias2) + eps) + decay * w


@triton.jit
def _descend(
    theta, gradient, still, moment1, moment2, n, adam,
    norm, smaller, rate, threshold, guard_limit, guard_factor, plan: tl.constexpr,
):  # fmt: skip
    """The clipped and guarded step; an `Event`."""
    FLAT: tl.constexpr = plan.FLAT
    finite = smaller < float("inf")
    guarded = (((norm <= guard_limit) & finite) == 0) & (plan.guard != "NoneType")
    clipped = (norm >= threshold) & (threshold < float("inf")) & (plan.clip == "Norm")
    scale = tl.where(clipped, threshold / norm, 1.0)
    # A factor that no float holds, of a step that may be one: its root, twice.
    small, root = clipped & (guarded == 0) & finite & (scale < _TINY), tl.sqrt(threshold) / (32 * tl.sqrt(smaller))
    scale, again = tl.where(small, root, scale), tl.where(small, root, 1.0)
    if plan.method != "AdamW":
        rate, again = rate * again, 1.0
    beyond = tl.zeros((FLAT,), tl.int32)
    for first in range(0, plan.P, plan.FLAT):
        p = first + tl.arange(0, plan.FLAT)
        w = tl.load(theta + p, mask=p < plan.P, other=0.0)
        free = w if still is None else _entries(theta, still, p, plan)
        g = _entries(gradient, still, p, plan)
        if plan.clip == "Elementwise":
            beyond = tl.maximum(beyond, (tl.abs(g) > threshold).to(tl.int32))
            g = tl.where(g > threshold, threshold, tl.where(g < -threshold, -threshold, g))
        g = scale * g
        if plan.guard == "Shrink":
            g = tl.where(guarded, tl.where(p < plan.W_in, guard_factor * free, 0.0), g)
        elif plan.guard == "Skip":
            g = tl.where(guarded, 0.0, g)
        if plan.method == "AdamW":
            g = _adam(again * g, free, moment1, moment2, p, n, adam, plan)
        tl.store(theta + p, w - rate * g, mask=p < plan.P)
    event = tl.where(clipped | (tl.max(beyond, 0) > 0), _CLIPPED, 0)
    if plan.guard == "NoneType":
        return tl.where(finite, event, _DIVERGED)
    return tl.where(guarded, _GUARDED, event)


# Nothing is compiled for the values of these: how many members and updates there are, and where a member's data lie,
# must not change a member's bits.
_GIVEN = ["theta", "inputs", "targets", "lengths", "each", "begins", "h_0"]
_GIVEN += ["outputs", "losses", "norms", "omegas", "events"]
_TOLD = [*_GIVEN, "pairs", "alphas", "still", "moment1", "moment2", "steps", "adam", "seeds", "updates"]
_NUMBERS = ["K", "M", "T", "rate", "threshold", "guard_limit", "guard_factor", "bound", "noise", "signal"]


@triton.jit(do_not_specialize=_NUMBERS, do_not_specialize_on_alignment=_TOLD)
def train(
    theta, inputs, targets, lengths, each, begins, h_0,
    pairs, alphas, still, moment1, moment2, steps, adam, seeds, updates,
    weights, states, delta, n, c, errors, gradient, outputs, losses, norms, omegas, events,
    K, M, T, rate, threshold, guard_limit, guard_factor, bound, noise, signal, plan: tl.constexpr,
):  # fmt: skip
    """K updates of one network; with `plan.keep`, its gradient alone.

    `each` is the length of each sequence, where it has its own; `begins`, where states are carried, which begin;
    `still`, which parameters stay as they are. What is not asked for is None.
    """
    m = tl.program_id(0).to(tl.int64)
    step: tl.constexpr = plan.B * plan.NP
    S = T if plan.every else 1
    theta += m * plan.P
    gradient += m * plan.P
    weights += m * (plan.NP + plan.I) * plan.NP
    states += m * (T + 1) * step
    delta += m * (T + 1) * step
    n += m * (T if plan.apart else T + 1) * step
    c += m * T * plan.B
    errors += m * S * plan.B * plan.OP
    outputs += m * S * plan.B * plan.O
    if h_0 is not None:
        h_0 += m * plan.B * plan.N
    if plan.method == "AdamW":
        moment1 += m * plan.P
        moment2 += m * plan.P
    for k in range(K):
        i = k * M + m
        L = tl.load(lengths + i)
        u = inputs + i * T * plan.input_size
        target = targets + i * S * plan.target_size
        own = each if each is None else each + i * plan.B
        begun = begins if begins is None else begins + i * plan.B
        lay_out(theta, u, weights, states, L, plan)
        if plan.noise:
            disturb(states, tl.load(seeds + m), tl.load(updates + k), noise, L, plan)
        for first in range(0, plan.B, plan.ROWS):
            forward(u, weights, h_0, begun, own, states, first, L, plan)
        score(theta, target, own, tl.load(pairs + i), states, outputs, errors, losses + i, L, plan)
        live, Omega = 0, 0.0
        for first in range(0, plan.B, plan.ROWS):
            alive, value = backward(theta, own, states, errors, delta, n, c, first, L, bound, signal, plan)
            live += alive
            Omega += value
        tl.debug_barrier()
        over = tl.maximum(live, 1).to(tl.float32) if plan.omega == "Code" else plan.B * 1.0
        tl.store(omegas + i, Omega / over)
        pull = tl.load(alphas + k) * ((4 if plan.omega == "Code" else 2) / over)
        _collect(u, states, delta, n, c, gradient, pull, L, plan)
        _collect_outputs(states, errors, gradient, L, plan)
        norm, smaller = _norm(gradient, still, plan)
        tl.store(norms + i, norm)
        if not plan.keep:
            n_adam = tl.load(steps + m) + k + 1 if plan.method == "AdamW" else 0
            event = _descend(
                theta, gradient, still, moment1, moment2, n_adam, adam,
                norm, smaller, rate, threshold, guard_limit, guard_factor, plan,
            )  # fmt: skip
            tl.store(events + i, event.to(tl.uint8))
        tl.debug_barrier()
    if plan.method == "AdamW":
        tl.store(steps + m, tl.load(steps + m) + K)


@triton.jit(do_not_specialize=["T"], do_not_specialize_on_alignment=_GIVEN)
def prepare(theta, inputs, lengths, weights, states, T, plan: tl.constexpr):
    """What `respond` reads: each network's transposed weights, and its drive."""
    m = tl.program_id(0).to(tl.int64)
    weights += m * (plan.NP + plan.I) * plan.NP
    states += m * (T + 1) * plan.B * plan.NP
    inputs += m * T * plan.input_size
    lay_out(theta + m * plan.P, inputs, weights, states, tl.load(lengths + m), plan)


@triton.jit(do_not_specialize=["T"], do_not_specialize_on_alignment=_GIVEN)
def respond(theta, inputs, lengths, each, begins, h_0, weights, states, outputs, T, plan: tl.constexpr):
    """States and outputs of ROWS sequences of one network."""
    m, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * plan.ROWS
    theta += m * plan.P
    weights += m * (plan.NP + plan.I) * plan.NP
    states += m * (T + 1) * plan.B * plan.NP
    inputs += m * T * plan.input_size
    outputs += m * (T if plan.every else 1) * plan.B * plan.O
    if h_0 is not None:
        h_0 += m * plan.B * plan.N
    if each is not None:
        each += m * plan.B
    if begins is not None:
        begins += m * plan.B
    L = tl.load(lengths + m)
    forward(inputs, weights, h_0, begins, each, states, first, L, plan)
    rows, columns = (first + tl.arange(0, plan.ROWS))[:, None], tl.arange(0, plan.OP)[None, :]
    units = tl.arange(0, plan.NP)[None, :]
    W_out_T = matrix(theta + plan.W_out, 1, plan.N, plan.N, plan.O, plan.NP, plan.OP)
    b_out = tl.load(theta + plan.b_out + columns, mask=columns < plan.O, other=0.0)
    for t in range(0 if plan.every else L - 1, L):
        h = tl.load(states + ((t + 1) * plan.B + rows) * plan.NP + units, mask=rows < plan.B, other=0.0)
        row = (t if plan.every else 0) * plan.B + rows
        y = dot(h, W_out_T, plan) + b_out
        inside = rows < plan.B
        if each is not None and plan.every:
            inside = inside & (t < tl.load(each + rows, mask=inside, other=0))
        tl.store(outputs + row * plan.O + columns, y, mask=inside & (columns < plan.O))

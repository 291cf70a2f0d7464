"""Every cell in both engines against torch.nn.LSTM and loops by hand, each sequence alone for its own length."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from rnnlab.engine import batched, reference
from rnnlab.network.cells import LSTM, Cell, Leaky, Sigmoid, Simple, Tanh
from rnnlab.network.inits import BasicTanh
from rnnlab.network.losses import Softmax
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch

M, T, B, I, N, O = 2, 4, 3, 4, 3, 2
ENGINES = {"reference": reference, "batched": batched}
CELLS = [LSTM(), LSTM(forget=False), Leaky(0.3), Leaky(1.0, Sigmoid()), Simple(), Simple(Sigmoid())]
LENGTHS = {
    "full": torch.tensor([T, T]),
    "of members": torch.tensor([T, 2]),
    "of sequences": torch.tensor([[1, T, 3], [2, 1, 3]]),
}
SAME = {"rtol": 1e-10, "atol": 1e-12}
BEGINS = torch.tensor([[True, False, False], [False, True, False]])


def case(cell, *, every, lengths, real=False):
    """Networks of this cell, a batch, and states to go on from."""
    generator = torch.Generator().manual_seed(4)
    sizes = Sizes(I, N, O, cell)
    theta = torch.randn(M, sizes.P, dtype=torch.float64, generator=generator)
    inputs = torch.randint(0, I, (M, T, B), generator=generator)
    numbers = torch.randn(M, T, B, I, dtype=torch.float64, generator=generator)
    targets = torch.randint(0, O, (M, T if every else 1, B), generator=generator)
    start = torch.randn(M, B, sizes.width, dtype=torch.float64, generator=generator)
    return Parameters(theta, sizes), Batch(numbers if real else inputs, targets, lengths), start


def opened(x, cell, fill=0.0):
    """Rows of i, f, g, o, where those of 1997 are i, g, o: a forget gate of weight 0 and bias 1000 is 1 in float64."""
    i, *f, g, o = x.chunk(4 if cell.forget else 3)
    return torch.cat((i, *(f or [torch.full_like(i, fill)]), g, o))


def closed(x, cell):
    """The rows that the cell has."""
    i, _, g, o = x.chunk(4)
    return x if cell.forget else torch.cat((i, g, o))


def torchs_lstm(network, m):
    """torch.nn.LSTM with these weights; of its two biases one is 0."""
    lstm, cell = nn.LSTM(I, N, dtype=torch.float64), network.sizes.cell
    with torch.no_grad():
        lstm.weight_hh_l0.copy_(opened(network.W_rec[m], cell))
        lstm.weight_ih_l0.copy_(opened(network.W_in[m], cell))
        lstm.bias_ih_l0.copy_(opened(network.b[m], cell, 1e3))
        lstm.bias_hh_l0.zero_()
    return lstm


def leaves(network, m):
    """A member's parameters to differentiate for, by our names, and what makes a step of a sequence from them."""
    p, cell = {name: x[m].clone().requires_grad_() for name, x in network.views.items()}, network.sizes.cell
    if isinstance(cell, LSTM):
        lstm = torchs_lstm(network, m)
        p |= {"W_rec": lstm.weight_hh_l0, "W_in": lstm.weight_ih_l0, "b": lstm.bias_ih_l0}

        def step(u, state):
            h, c = state[None, :N], state[None, N:]
            return torch.cat([x[0] for x in lstm(u[None], (h, c))[1]])
    else:
        f = torch.tanh if cell.sigma == Tanh() else torch.sigmoid

        def step(u, h):
            new = f(p["W_rec"].mv(h) + p["W_in"].mv(u) + p["b"])
            return (1 - cell.leak) * h + cell.leak * new if isinstance(cell, Leaky) else new

    return p, step


def loss_from(step, p, u, targets, state, begun=0):
    """Cross-entropies of a sequence from a state at a step on, read as often as there are targets; and the states."""
    found, nats = [state], []
    for t in range(begun, len(u)):
        found.append(step(u[t], found[-1]))
        if len(targets) > 1 or t == len(u) - 1:
            y = p["W_out"].mv(found[-1][:N]) + p["b_out"]
            nats.append(-y.log_softmax(0)[targets[t if len(targets) > 1 else 0]])
    return sum(nats), found


def sequence(batch, m, b):
    """Inputs and targets of one sequence as far as it goes."""
    L = int(batch.lengths[m].expand(B)[b])
    u = batch.inputs[m, :L, b]
    u = u if u.is_floating_point() else torch.eye(I, dtype=torch.float64)[u]
    return u, batch.targets[m, : L if batch.targets.shape[1] > 1 else 1, b]


def check(engine, network, batch, *, every, start=None, begins=None):
    """Loss, states, total derivatives and gradients are those of the witnesses."""
    loss = Softmax(every_step=every)
    g = engine.gradients(network, replace(batch, begins=begins), loss=loss, h_0=start)
    for m in range(M):
        p, step = leaves(network, m)
        nats, paths = [], []
        for b in range(B):
            goes_on = start is not None and (begins is None or not begins[m, b])
            zero = torch.zeros(network.sizes.width, dtype=torch.float64, requires_grad=True)
            first = start[m, b].clone().requires_grad_() if goes_on else p["h_0"] + 0 if "h_0" in p else zero
            E, found = loss_from(step, p, *sequence(batch, m, b), first)
            nats.append(E)
            paths.append(found)
        pairs = sum(len(found) - 1 for found in paths) if every else B
        E = sum(nats) / pairs
        wanted = [*p.values(), *(x for found in paths for x in found)]
        slopes = torch.autograd.grad(E, wanted, materialize_grads=True)
        cell = network.sizes.cell
        for name, slope in zip(p, slopes, strict=False):
            gates = isinstance(cell, LSTM) and name in ("W_rec", "W_in", "b")
            want = closed(slope, cell) if gates else slope
            torch.testing.assert_close(Parameters(g.theta, network.sizes).views[name][m], want, **SAME)
        torch.testing.assert_close(g.loss[m], E.detach(), **SAME)
        deltas = iter(slopes[len(p) :])
        for b, found in enumerate(paths):
            for t in range(T + 1):
                torch.testing.assert_close(g.states[m, t, b], found[min(t, len(found) - 1)].detach(), **SAME)
                want = next(deltas) if t < len(found) else torch.zeros_like(found[0])
                torch.testing.assert_close(g.delta[m, t, b], want, **SAME)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_states_total_derivatives_and_gradients_are_those_of_torchs_own_or_a_loop(cell, learned, lengths, engine):
    cell = replace(cell, learned_start=learned)
    for every, begins in ((False, None), (True, BEGINS)):
        network, batch, start = case(cell, every=every, lengths=LENGTHS[lengths], real=every)
        check(ENGINES[engine], network, batch, every=every)
        check(ENGINES[engine], network, batch, every=every, start=start, begins=begins)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_reference_and_batched_agree_for_every_cell(cell):
    cell = replace(cell, learned_start=True)
    network, batch, start = case(cell, every=True, lengths=LENGTHS["of sequences"])
    batch = replace(batch, begins=BEGINS)
    given = {"loss": Softmax(every_step=True), "signal_threshold": 0.02, "h_0": start}
    want, got = (engine.gradients(network, batch, **given) for engine in ENGINES.values())
    assert want.delta[:, 1:].abs().max() == 0.02
    for name in ("theta", "states", "delta", "loss", "omega"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-10)
    for engine in ENGINES.values():
        y, h = engine.outputs(network, batch, loss=given["loss"], h_0=start)
        torch.testing.assert_close(h, want.states[:, -1], **SAME)
        read = want.states[:, 1:, :, :N] @ network.W_out[:, None].mT + network.b_out[:, None, None]
        torch.testing.assert_close(y, read, **SAME)


@pytest.mark.parametrize("cell", [LSTM(), LSTM(forget=False)], ids=str)
def test_a_whole_pass_of_torchs_lstm_ends_where_ours_does(cell):
    network, batch, start = case(cell, every=True, lengths=LENGTHS["full"], real=True)
    for engine in ENGINES.values():
        states = engine.gradients(network, batch, loss=Softmax(every_step=True), h_0=start).states
        y, ends = engine.outputs(network, batch, loss=Softmax(every_step=True), h_0=start)
        for m in range(M):
            first = start[m, None, :, :N].contiguous(), start[m, None, :, N:].contiguous()
            h, last = torchs_lstm(network, m)(batch.inputs[m], first)
            torch.testing.assert_close(states[m, 1:, :, :N], h.detach(), **SAME)
            torch.testing.assert_close(ends[m], torch.cat(last, dim=-1)[0].detach(), **SAME)
            want = h.detach() @ network.W_out[m].T + network.b_out[m]
            torch.testing.assert_close(y[m], want, **SAME)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", [LSTM(), Leaky(0.3)], ids=str)
def test_delta_is_the_slope_of_the_loss_by_differences(cell, engine):
    network, batch, _ = case(cell, every=True, lengths=LENGTHS["of sequences"])
    g = ENGINES[engine].gradients(network, batch, loss=Softmax(every_step=True))
    m, step = 1, 1e-5
    p, make = leaves(network, m)
    pairs = int(batch.lengths[m].sum())
    with torch.no_grad():
        for b in range(B):
            u, targets = sequence(batch, m, b)
            for t in range(len(u) + 1):
                shifts = step * torch.eye(network.sizes.width, dtype=torch.float64)
                # A loss at the state's own step is part of the total derivative.
                read = t > 0 and len(targets) > 1
                ends = []
                for shift in (*shifts, *-shifts):
                    state = g.states[m, t, b] + shift
                    E = loss_from(make, p, u, targets, state, t)[0] if t < len(u) else 0.0
                    if read or t == len(u):
                        y = p["W_out"].mv(state[:N]) + p["b_out"]
                        E = E - y.log_softmax(0)[targets[t - 1]]
                    ends.append(float(E))
                up, down = torch.tensor(ends, dtype=torch.float64).chunk(2)
                # central differences: truncation step^2 = 1e-10, rounding 1e-16/step = 1e-11
                torch.testing.assert_close(g.delta[m, t, b], (up - down) / (2 * step * pairs), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_states_streamed_in_windows_are_those_of_one_pass(cell):
    loss = Softmax(every_step=True)
    network, batch, _ = case(replace(cell, learned_start=True), every=True, lengths=LENGTHS["of sequences"])
    for engine in ENGINES.values():
        y, h = engine.outputs(network, batch, loss=loss)
        parts, state = [], None
        for first, stop in ((0, 1), (1, T)):
            window = batch.inputs[:, first:stop], batch.targets[:, first:stop]
            lengths = (batch.lengths - first).clamp(0, stop - first)
            part, state = engine.outputs(network, Batch(*window, lengths), loss=loss, h_0=state)
            parts.append(part)
        torch.testing.assert_close(torch.cat(parts, dim=1), y, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(state, h, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_leaky_unit_that_leaks_all_is_a_simple_one(engine):
    simple, batch, _ = case(Simple(), every=True, lengths=LENGTHS["of members"])
    leaky = Parameters(simple.theta, Sizes(I, N, O, Leaky(1.0)))
    a, b = (ENGINES[engine].gradients(one, batch, loss=Softmax(every_step=True)) for one in (simple, leaky))
    for name in ("theta", "states", "delta", "loss"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), **SAME)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell_trains_in_float32_as_in_float64(cell):
    network, batch, _ = case(cell, every=False, lengths=LENGTHS["full"])
    exact = reference.gradients(network, batch, loss=Softmax())
    rounded = batched.gradients(network.to(torch.float32), batch, loss=Softmax())
    assert rounded.theta.dtype == rounded.states.dtype == torch.float32
    torch.testing.assert_close(rounded.theta.double(), exact.theta, rtol=0, atol=1e-6)


@dataclass(frozen=True)
class GRU:
    """A user's cell: torch.nn.GRU with one bias; gates r, z, n."""

    learned_start: bool = False

    def shapes(self, I, N):
        return {"W_rec": (3 * N, N), "W_in": (3 * N, I), "b": (3 * N,)}

    def width(self, N):
        return N

    def begin_(self, views):
        views["b"].fill_(0.5)

    def step(self, views, state, drive):
        r, z, n = drive.chunk(3, dim=-1)
        r_, z_, n_ = (state @ views["W_rec"].mT).chunk(3, dim=-1)
        new = (n + (r + r_).sigmoid() * n_).tanh()
        return new + (z + z_).sigmoid() * (state - new)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_users_cell_is_taken_wherever_one_of_ours_is(engine):
    network, batch, start = case(GRU(), every=False, lengths=LENGTHS["full"], real=True)
    assert isinstance(GRU(), Cell)
    g = ENGINES[engine].gradients(network, batch, loss=Softmax(), h_0=start)
    for m in range(M):
        gru = nn.GRU(I, N, dtype=torch.float64)
        with torch.no_grad():
            for mine, theirs in (("W_rec", gru.weight_hh_l0), ("W_in", gru.weight_ih_l0), ("b", gru.bias_ih_l0)):
                theirs.copy_(network.views[mine][m])
            gru.bias_hh_l0.zero_()
        first = start[m, None].clone().requires_grad_()
        h, last = gru(batch.inputs[m], first)
        y = last[0] @ network.W_out[m].T + network.b_out[m]
        E = nn.functional.cross_entropy(y, batch.targets[m, 0])
        wanted = torch.autograd.grad(E, [gru.weight_hh_l0, gru.weight_ih_l0, gru.bias_ih_l0, first])
        found = Parameters(g.theta, network.sizes)
        got = found.W_rec[m], found.W_in[m], found.b[m], g.delta[m, :1]
        for mine, want in zip(got, wanted, strict=True):
            torch.testing.assert_close(mine, want, **SAME)
        torch.testing.assert_close(g.states[m, 1:], h.detach(), **SAME)
    assert BasicTanh().parameters(network.sizes, [0]).b.unique().tolist() == [0.5]

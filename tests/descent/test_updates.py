"""Whole updates in both engines against loops by hand: Adam's steps, rules with state, noise, and carried states."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from rnnlab import bits
from rnnlab.descent.algorithm import AdamW, Algorithm, check_steady
from rnnlab.descent.clipping import Clip, Event, NoClip, Norm, Shrink, Skip
from rnnlab.descent.penalties import L1, L2, LargestSingularValue
from rnnlab.engine import batched, reference
from rnnlab.network.cells import LSTM, Linear, Simple, Tanh
from rnnlab.network.losses import Softmax, SquaredError
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Chunk
from tests.descent.loops import NAMES, B, N, T, batches, begun, run, slope, split

ENGINES = {"reference": reference, "batched": batched}
SAME = {"rtol": 1e-9, "atol": 1e-11}
SEEDS = torch.tensor([3, 2**40, 7])


def descend(engine, network, chunk, algorithm, **given):
    """Updates of a simple network of tanh units, or of a cell of its own."""
    sigma = Tanh() if network.sizes.cell is None else None
    return ENGINES[engine].sgd(network, chunk, sigma=sigma, loss=Softmax(), algorithm=algorithm, **given)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("clip", [NoClip(), Norm(0.3)])
@pytest.mark.parametrize(
    ("how", "frozen"),
    [
        ({}, ()),
        ({"learning_rate": 0.02, "beta1": 0.5, "beta2": 0.7, "eps": 1e-3, "decay": 0.3}, ("b", "W_out")),
        ({"beta1": 0.0, "beta2": 0.0, "decay": 0.0}, ("W_rec",)),
    ],
)
def test_adamw_makes_the_steps_of_torchs_own(how, frozen, clip, engine):
    K, M = 50 if engine == "batched" else 10, 2
    network, chunk, algorithm = begun(M), batches(K, M), AdamW(clip=clip, frozen=frozen, **how)
    start = network.clone()
    trace = descend(engine, network, chunk, algorithm)
    for m in range(M):
        parts = [part.clone().requires_grad_() for part in split(start.theta[m])]
        free = [part for part, name in zip(parts, NAMES, strict=True) if name not in frozen]
        torchs = torch.optim.AdamW(
            free,
            lr=algorithm.learning_rate,
            betas=(algorithm.beta1, algorithm.beta2),
            eps=algorithm.eps,
            weight_decay=algorithm.decay,
        )
        for k in range(K):
            torchs.zero_grad()
            E, _ = run(torch.cat([part.flatten() for part in parts]), chunk.inputs[k, m], chunk.targets[k, m])
            E.backward()
            norm = torch.cat([part.grad.flatten() for part in free]).norm()
            if clip != NoClip() and norm > 0.3:
                for part in free:
                    part.grad *= 0.3 / norm
            torchs.step()
            torch.testing.assert_close(trace.loss[k, m], E.detach(), **SAME)
            torch.testing.assert_close(trace.norm[k, m], norm, **SAME)
        torch.testing.assert_close(network.theta[m], torch.cat([part.detach().flatten() for part in parts]), **SAME)
    for name in frozen:
        assert torch.equal(network.views[name], start.views[name])
    assert (trace.events == Event.CLIPPED).any() == (clip != NoClip())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("guard", [Skip(), Shrink(0.5)])
def test_a_guards_gradient_enters_adams_moments_as_any_other_does(guard, engine):
    network, chunk = begun(2), batches(4, 2)
    chunk.inputs[1, 1] = math.inf  # no gradient: 0 times infinity
    start = network.clone()
    trace = descend(engine, network, chunk, AdamW(0.1, Norm(1e6, guard)))
    assert trace.events.tolist() == [[0, 0], [0, int(Event.GUARDED)], [0, 0], [0, 0]]
    for m in range(2):
        theta = start.theta[m].clone().requires_grad_()
        torchs = torch.optim.AdamW([theta], lr=0.1)
        for k in range(4):
            g = torch.zeros_like(theta)
            if (k, m) != (1, 1):
                g, _, _ = slope(theta.detach(), chunk.inputs[k, m], chunk.targets[k, m])
            elif guard != Skip():
                g[: N * N] = 0.5 * theta.detach()[: N * N]
            theta.grad = g
            torchs.step()
        torch.testing.assert_close(network.theta[m], theta.detach(), **SAME)


@dataclass(frozen=True)
class AutoClip(Clip):
    """A rule from outside: each norm is held at a quantile of the last ones, itself among them."""

    share: float = 0.5
    kept: int = 4
    guard = signal_threshold = None

    def init(self, network):
        history = torch.full((network.members, self.kept), math.nan, dtype=network.theta.dtype)
        return {"history": history, "seen": torch.zeros(network.members, dtype=torch.int64)}

    def shorten(self, g, norm, network, state):
        place = (state["seen"] % self.kept)[:, None]
        history = state["history"].scatter(1, place, norm[:, None].to(state["history"].dtype))
        factor = (history.nanquantile(self.share, dim=1) / norm).clamp(max=1)
        return g * factor[:, None], factor < 1, {"history": history, "seen": state["seen"] + 1}


@dataclass(frozen=True)
class MeanClip(Clip):
    """Another: at half of an exponential average of the norms before, which it changes where it stands."""

    keep: float = 0.75
    guard = signal_threshold = None

    def init(self, network):
        return {"mean": network.theta.new_ones(network.members)}

    def shorten(self, g, norm, network, state):
        limit = state["mean"] / 2
        factor = (limit / norm).clamp(max=1)
        clipped = g * factor[:, None]
        state["mean"].mul_(self.keep).add_((1 - self.keep) * norm)
        return clipped, factor < 1, state


def held_at_quantile(norms):
    return np.quantile(norms[-4:], 0.5)


def held_at_mean(norms):
    mean = 1.0
    for norm in norms[:-1]:
        mean = 0.75 * mean + 0.25 * norm
    return mean / 2


RULES = [(AutoClip(), held_at_quantile), (MeanClip(), held_at_mean)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("clip", "limit"), RULES)
def test_a_rule_that_remembers_trains_like_the_loop_that_keeps_a_list(clip, limit, engine):
    K, M = 9, 3
    network, chunk, algorithm = begun(M), batches(K, M), Algorithm(0.5, clip)
    start, state = network.clone(), algorithm.state(network)
    check_steady(algorithm, network)
    trace = descend(engine, network, chunk, algorithm, state=state)
    for m in range(M):
        theta, norms = start.theta[m], []
        for k in range(K):
            g, _, _ = slope(theta, chunk.inputs[k, m], chunk.targets[k, m])
            norms.append(float(g.norm()))
            factor = min(1.0, limit(norms) / norms[-1])
            theta = theta - 0.5 * factor * g
            assert trace.events[k, m] == (Event.CLIPPED if factor < 1 else Event.NONE)
        torch.testing.assert_close(network.theta[m], theta, **SAME)
        if isinstance(clip, AutoClip):
            last = torch.tensor(norms[-1:] + norms[-4:-1], dtype=torch.float64)  # number 8 stands at place 0
            torch.testing.assert_close(state["clip.history"][m], last, **SAME)
            assert state["clip.seen"].tolist() == [K] * M
        else:
            torch.testing.assert_close(state["clip.mean"][m].item(), 2 * held_at_mean([*norms, 0.0]), **SAME)
    assert set(trace.events.flatten().tolist()) == {Event.NONE, Event.CLIPPED}


EVERYTHING = [
    (AdamW(0.05, AutoClip(), noise=0.1, frozen=("b_out",), penalties=(L2(0.01),)), None),
    (
        Algorithm(0.2, MeanClip(), noise=0.2, penalties=(L1(0.01), LargestSingularValue(0.7))),
        Simple(learned_start=True),
    ),
    (AdamW(0.05, MeanClip(), penalties=(LargestSingularValue(0.7),)), LSTM(learned_start=True)),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("algorithm", "cell"), EVERYTHING)
def test_three_updates_and_four_are_seven_bit_by_bit(algorithm, cell, dtype, engine):
    whole, parts = begun(3, cell=cell, dtype=dtype), begun(3, cell=cell, dtype=dtype)
    chunk, state, once = batches(7, 3, begins=True, dtype=dtype), algorithm.state(parts), algorithm.state(whole)
    want = descend(engine, whole, chunk, algorithm, first_update=2, seeds=SEEDS, state=once)
    traces = []
    for first, stop in ((0, 3), (3, 7)):
        piece = Chunk(**{name: x[first:stop] for name, x in chunk.parts.items()})
        given = {"first_update": 2 + first, "seeds": SEEDS, "state": state}
        traces.append(descend(engine, parts, piece, algorithm, **given))
    assert torch.equal(parts.theta, whole.theta)
    assert whole.theta.isfinite().all()
    for name, x in want.parts.items():
        assert torch.equal(torch.cat([trace.parts[name] for trace in traces]), x)
    assert state.keys() == once.keys()
    assert all(torch.equal(state[name], x) for name, x in once.items())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("algorithm", "cell"), EVERYTHING)
def test_a_member_alone_is_what_it_is_among_others(algorithm, cell, engine):
    """Bit by bit where members are computed one by one; products of many matrices at once may be rounded otherwise."""
    together, alone = begun(3, cell=cell), begun(3, cell=cell).select([1])
    chunk, states = batches(6, 3, begins=True), [algorithm.state(one) for one in (together, alone)]
    descend(engine, together, chunk, algorithm, seeds=SEEDS, state=states[0])
    own = Chunk(**{name: x[:, 1:2] for name, x in chunk.parts.items()})
    descend(engine, alone, own, algorithm, seeds=SEEDS[1:2], state=states[1])
    near = {"rtol": 0, "atol": 0 if engine == "reference" else 1e-12}
    torch.testing.assert_close(alone.theta[0], together.theta[1], **near)
    for name, x in states[1].items():
        torch.testing.assert_close(x[0], states[0][name][1], **near)


@pytest.mark.parametrize(("algorithm", "cell"), EVERYTHING)
def test_both_engines_make_the_same_updates_with_all_that_can_be_asked_for(algorithm, cell):
    ends = []
    for engine in ENGINES:
        network = begun(3, cell=cell)
        state = algorithm.state(network)
        trace = descend(engine, network, batches(6, 3, begins=True), algorithm, seeds=SEEDS, state=state)
        ends.append({"theta": network.theta, **state, **trace.parts})
    for name, x in ends[0].items():
        torch.testing.assert_close(ends[1][name], x, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("engine", ENGINES)
def test_noise_is_drawn_for_each_seed_update_step_sequence_and_unit_and_added_before_sigma(engine):
    K, M, first = 4, 3, 11
    network, chunk = begun(M), batches(K, M)
    start = network.clone()
    trace = descend(engine, network, chunk, Algorithm(0.3, noise=0.5), first_update=first, seeds=SEEDS)
    for m in range(M):
        theta = start.theta[m]
        for k in range(K):
            drawn = bits.disturbances(SEEDS[m : m + 1], torch.tensor([first + k]), count=T * B * N)
            how = {"noise": 0.5 * drawn.reshape(T, B, N)}
            g, E, _ = slope(theta, chunk.inputs[k, m], chunk.targets[k, m], **how)
            theta = theta - 0.3 * g
            torch.testing.assert_close(trace.loss[k, m], E, **SAME)
        torch.testing.assert_close(network.theta[m], theta, **SAME)


@pytest.mark.parametrize("engine", ENGINES)
def test_noise_does_not_depend_on_padding_and_is_none_in_what_networks_answer(engine):
    chunk = batches(3, 3)
    longer = torch.cat((chunk.inputs, torch.ones_like(chunk.inputs)), dim=2)
    ends = [begun(3), begun(3)]
    for network, inputs in zip(ends, (chunk.inputs, longer), strict=True):
        descend(engine, network, replace(chunk, inputs=inputs), Algorithm(0.3, noise=0.5), seeds=SEEDS)
    assert torch.equal(ends[0].theta, ends[1].theta)
    given = {"sigma": Tanh(), "loss": Softmax()}
    _, h = ENGINES[engine].outputs(ends[0], chunk[0], **given)
    g = ENGINES[engine].gradients(ends[0], chunk[0], **given)
    for m in range(3):
        slope_, E, last = slope(ends[0].theta[m], chunk.inputs[0, m], chunk.targets[0, m])
        torch.testing.assert_close(h[m], last, **SAME)
        torch.testing.assert_close(g.theta[m], slope_, **SAME)
        torch.testing.assert_close(g.loss[m], E, **SAME)


def test_each_gate_of_an_lstm_has_noise_of_its_own():
    network, chunk = begun(2, cell=LSTM()), batches(1, 2)
    trace = descend("batched", network.clone(), chunk, Algorithm(noise=0.5), first_update=3, seeds=SEEDS[:2])
    drawn = 0.5 * bits.disturbances(SEEDS[:2], torch.tensor([3]), count=T * B * 4 * N).reshape(2, T, B, 4 * N)
    for m in range(2):
        W_rec, W_in, b, W_out, b_out = (x[m] for x in network.views.values())
        h = c = torch.zeros(B, N, dtype=torch.float64)
        for t in range(T):
            i, f, g, o = (h @ W_rec.T + chunk.inputs[0, m, t] @ W_in.T + b + drawn[m, t]).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        E = torch.nn.functional.cross_entropy(h @ W_out.T + b_out, chunk.targets[0, m, 0])
        torch.testing.assert_close(trace.loss[0, m], E, **SAME)


@pytest.mark.parametrize("engine", ENGINES)
def test_states_that_go_on_are_carried_and_no_gradient_crosses_the_border_of_a_batch(engine):
    K, M = 6, 2
    network, chunk = begun(M), batches(K, M, begins=True)
    assert not chunk.begins[0].all()
    assert all(chunk.begins[1:].any(dim=2).any(dim=0))
    start, state, algorithm = network.clone(), {}, Algorithm(0.4)
    trace = descend(engine, network, chunk, algorithm, state=state)
    assert state.keys() == {"h"}
    for m in range(M):
        theta, h = start.theta[m], torch.zeros(B, N, dtype=torch.float64)
        for k in range(K):
            first = torch.stack([0 * row if new else row for row, new in zip(h, chunk.begins[k, m], strict=True)])
            g, E, h = slope(theta, chunk.inputs[k, m], chunk.targets[k, m], h=first)
            theta = theta - 0.4 * g
            torch.testing.assert_close(trace.loss[k, m], E, **SAME)
        torch.testing.assert_close(network.theta[m], theta, **SAME)
        torch.testing.assert_close(state["h"][m], h, **SAME)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sequence_that_ends_within_a_batch_is_carried_from_its_end_and_begins_at_a_learned_start(engine):
    """Of one unit without input: h_t = w h_{t-1} with w = 1/2, from h_0 = 8 where a sequence begins."""
    network = Parameters.zeros(Sizes(1, 1, 1, Simple(Linear(), learned_start=True)), 1, dtype=torch.float64)
    network.W_rec.fill_(0.5)
    network.W_out.fill_(1.0)
    network.views["h_0"].fill_(8.0)
    lengths, begins = torch.tensor([[[1, 3]], [[2, 1]]]), torch.tensor([[[True, True]], [[False, True]]])
    zeros = torch.zeros(2, 1, 3, 2, 1, dtype=torch.float64)
    chunk, state = Chunk(zeros, zeros[:, :, :1], lengths, begins), {}
    algorithm = Algorithm(1.0, frozen=("W_rec", "W_in", "b", "W_out", "b_out"))
    trace = ENGINES[engine].sgd(network, chunk, loss=SquaredError(), algorithm=algorithm, state=state)
    # Ends 4 and 1; d/dh_0 of (h_0/2)^2/2 + (h_0/8)^2/2 is h_0/4 + h_0/64 = 2.125, and so h_0 = 5.875.
    # Then 4 goes on to 1, and the other begins anew and ends at 5.875/2; its part alone changes h_0, by h_0/4.
    assert trace.loss[:, 0].tolist() == [8.5, (1 + 2.9375**2) / 2]
    assert state["h"].flatten().tolist() == [1.0, 2.9375]
    assert network.views["h_0"].item() == 5.875 - 5.875 / 4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [Algorithm, AdamW])
@pytest.mark.parametrize("guard", [None, Shrink(0.5), Skip()])
def test_frozen_parameters_stay_whatever_comes(guard, kind, engine):
    """A gradient that is no number, a decay, and a penalty that holds W_rec."""
    for frozen, broken in itertools.product((("W_rec",), tuple(NAMES)), (False, True)):
        network, chunk = begun(2), batches(3, 2)
        if broken:
            network.b_out[1] = math.nan
        start = network.clone()
        penalties = LargestSingularValue(0.1), L2(0.1, of=("W_rec", "W_in")), L1(0.1)
        trace = descend(engine, network, chunk, kind(0.1, Norm(1.0, guard), frozen=frozen, penalties=penalties))
        for name in frozen:
            assert torch.equal(network.views[name].nan_to_num(7), start.views[name].nan_to_num(7))
        assert frozen != ("W_rec",) or not torch.equal(network.W_in[0], start.W_in[0])
        if frozen == tuple(NAMES):
            assert not trace.norm.any()
        elif broken:
            assert set(trace.events[:, 1].tolist()) == {Event.DIVERGED if guard is None else Event.GUARDED}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_frozen_does_not_enter_the_norm_that_is_clipped(engine):
    network, chunk = begun(1), batches(1, 1)
    start = network.clone()
    trace = descend(engine, network, chunk, Algorithm(1.0, Norm(0.1), frozen=("W_rec", "b")))
    g, _, _ = slope(start.theta[0], chunk.inputs[0, 0], chunk.targets[0, 0])
    free = [0 * part if name in ("W_rec", "b") else part for name, part in zip(NAMES, split(g), strict=True)]
    rest = torch.cat([part.flatten() for part in free])
    assert rest.norm() > 0.1
    torch.testing.assert_close(trace.norm[0, 0], rest.norm(), **SAME)
    torch.testing.assert_close(network.theta[0], start.theta[0] - 0.1 * rest / rest.norm(), **SAME)

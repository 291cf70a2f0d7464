"""The fused kernel: right against the reference, and the same bits in any company, order and number of threads."""

import functools
import itertools
import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from rnnlab import bits
from rnnlab.descent.adaptive import Percentile, UnitWise
from rnnlab.descent.algorithm import AdamW, Algorithm
from rnnlab.descent.clipping import Elementwise, ElementwiseSignal, Event, NoClip, Norm, Shrink, Skip
from rnnlab.descent.omega import Code
from rnnlab.descent.penalties import L1, L2
from rnnlab.descent.schedules import Constant, InverseTime
from rnnlab.engine import batched, known, reference
from rnnlab.engine.choosing import choose
from rnnlab.engine.contract import Rules
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cpu import kernel
from rnnlab.network.cells import LSTM, Linear, Sigmoid, Simple, Tanh
from rnnlab.network.inits import BasicTanh, SmartTanh
from rnnlab.network.losses import Bernoulli, Softmax, SquaredError
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.pathological import Addition, NoiselessMemorization, RandomPermutation, TemporalOrder
from rnnlab.tasks.task import Batch, Chunk
from tests.engine.test_gradients import LOSSES, OMEGAS, SHAPES, SIGMAS, random_case

EPSILON = 2.0**-24  # half a unit in the last place of 1, in float32


def in_float32(network, batch):
    """The case as float32 holds it, and the same numbers in float64 for the reference."""
    rounded = network.to(torch.float32)
    real = [x.float() if x.is_floating_point() else x for x in (batch.inputs, batch.targets)]
    return rounded, rounded.to(torch.float64), Batch(*real, batch.lengths)


@pytest.mark.parametrize("shape", [*SHAPES, "wide"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("sigma", SIGMAS, ids=lambda sigma: type(sigma).__name__)
def test_the_kernel_agrees_with_the_reference_to_rounding(shape, loss, sigma):
    """The matrix of cell, loss, form of omega, edge size, input and length.

    A state is a sum of N + I + 1 products, and each of T steps adds its rounding errors, in absolute terms since
    sigma' = 1 - h^2 loses relative accuracy; derivatives are sums over T B such terms. So errors are bounded by
    EPSILON times the number of terms, times the largest entry, with a factor for the conditioning of omega's quotient.
    """
    M, T, B, N = {**SHAPES, "wide": (2, 4, 7, 33)}[shape]  # 33: one over two or four vectors
    kinds = [(True, False, None), (False, True, None), (True, True, 0.01), (True, False, 0.01)]
    for omega, (symbols, mixed, signal) in itertools.product(OMEGAS, kinds):
        case = random_case(M, T, B, N, loss=loss, symbols=symbols, mixed=mixed)
        network, exact, batch = in_float32(*case)
        h_0 = torch.full((M, B, N), 0.25) if mixed else None
        given = {"sigma": sigma, "loss": loss, "omega": omega, "alpha": 0.7, "signal_threshold": signal}
        want = reference.gradients(exact, batch, h_0=None if h_0 is None else h_0.double(), **given)
        got = cpu.gradients(network, batch, h_0=h_0, **given)
        for name in ("theta", "states", "delta", "loss", "omega", "outputs"):
            right, ours = getattr(want, name), getattr(got, name).double()
            bound = EPSILON * (N + 6) * (T + 1) * max(1.0, right.abs().max().item())
            assert (ours - right).abs().max().item() <= bound, (name, omega, symbols, mixed, signal)


READ = [{}, {"every_step": True}, {"every_step": True, "over_steps": "sum"}]
NINE = [kind(**read) for kind in (Softmax, SquaredError, Bernoulli) for read in READ]


def some(K, M, T, B, N, *, loss, symbols=True, I=5, O=3):
    """Networks and a chunk in float32, whose sequences have lengths of their own, and do not all begin."""
    generator = torch.Generator().manual_seed(M + 10 * T + 100 * B + 1000 * N + 7 * K)
    sizes, steps = Sizes(I, N, O), (K, M, T if loss.every_step else 1, B)
    network = Parameters(torch.randn(M, sizes.P, generator=generator) * 1.2 / N**0.5, sizes)
    targets = {
        Softmax: torch.randint(0, O, steps, generator=generator),
        SquaredError: torch.randn(*steps, O, generator=generator),
        Bernoulli: torch.randint(0, 2, (*steps, O), generator=generator).float(),
    }
    chunk = Chunk(
        torch.randint(0, I, (K, M, T, B), generator=generator, dtype=torch.uint8)
        if symbols
        else torch.randn(K, M, T, B, I, generator=generator),
        targets[type(loss)],
        torch.randint(1, T + 1, (K, M, B), generator=generator),
        torch.rand(K, M, B, generator=generator) < 0.4,
    )
    return network, chunk


def in_float64(batch):
    """The same numbers in float64."""
    return replace(batch, **{k: x.double() for k, x in batch.parts.items() if x.is_floating_point()})


@pytest.mark.parametrize("shape", [*SHAPES, "wide"])
@pytest.mark.parametrize("loss", NINE, ids=repr)
def test_sequences_of_their_own_lengths_that_go_on_agree_with_the_reference_to_rounding(shape, loss):
    """To the same bounds, of every loss; what is beyond a sequence's length may be anything."""
    M, T, B, N = {**SHAPES, "wide": (2, 4, 7, 33)}[shape]
    for sigma, (omega, symbols) in itertools.product(SIGMAS, [*zip(OMEGAS, [True, False] * 2, strict=True)]):
        network, chunk = some(1, M, T, B, N, loss=loss, symbols=symbols)
        batch = Batch(**{name: x[0] for name, x in chunk.parts.items()})
        h_0, given = torch.full((M, B, N), 0.25), {"sigma": sigma, "loss": loss}
        more = {"omega": omega, "alpha": 0.7, "signal_threshold": 0.01 if sigma != Tanh() else None}
        want = reference.gradients(network.to(torch.float64), in_float64(batch), h_0=h_0.double(), **given, **more)
        if not symbols:
            batch.inputs[torch.arange(T)[:, None] >= batch.lengths[:, None]] = math.inf
        got = cpu.gradients(network, batch, h_0=h_0, **given, **more)
        for name in ("theta", "states", "delta", "loss", "omega", "outputs"):
            right, ours = getattr(want, name), getattr(got, name).double()
            bound = EPSILON * (N + 6) * (T + 1) * max(1.0, right.abs().max().item())
            assert (ours - right).abs().max().item() <= bound, (name, sigma, omega, symbols)
        y, h = cpu.outputs(network, batch, h_0=h_0, **given)
        torch.testing.assert_close(y.double(), got.outputs.double(), rtol=0, atol=0)
        assert torch.equal(h, got.states[:, -1])


@pytest.mark.parametrize("loss", NINE, ids=repr)
@pytest.mark.parametrize("O", [1, 16, 37, 88])
def test_a_loss_of_many_outputs_far_from_zero_agrees_too(loss, O):
    """Rows of whole vectors and of others; outputs so large that a class, or off, is certain."""
    network, chunk = some(1, 2, 3, 4, 6, loss=loss, O=O)
    network.b_out.copy_(torch.linspace(-60, 60, O))
    batch, given = chunk[0], {"sigma": Tanh(), "loss": loss}
    want = reference.gradients(network.to(torch.float64), in_float64(batch), **given)
    got = cpu.gradients(network, batch, **given)
    torch.testing.assert_close(got.loss.double(), want.loss, rtol=1e-6, atol=1e-6)
    scale = want.theta.abs().max().item()
    torch.testing.assert_close(got.theta.double(), want.theta, rtol=0, atol=1e-6 * max(1.0, scale))


def test_a_bernoulli_loss_keeps_the_digits_of_what_is_all_but_certain():
    network = Parameters.zeros(Sizes(1, 1, 1), 1)
    network.b_out.fill_(-20.0)  # off, which is right: the loss is ln(1 + e^-20)
    batch = Batch(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.ones(1, dtype=torch.int64))
    g = cpu.gradients(network, batch, sigma=Tanh(), loss=Bernoulli())
    assert g.loss.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)
    assert g.theta[0, -1].item() == pytest.approx(1 / (1 + math.exp(20)), rel=1e-6)


def test_large_networks_agree_too():
    network, exact, batch = in_float32(*random_case(1, 6, 9, 128, loss=Softmax(), I=128, O=128))
    given = {"sigma": Tanh(), "loss": Softmax(), "omega": Code(), "alpha": 1.0}
    want, got = reference.gradients(exact, batch, **given), cpu.gradients(network, batch, **given)
    torch.testing.assert_close(got.theta.double(), want.theta, rtol=0, atol=1e-5 * want.theta.abs().max().item())


@pytest.mark.parametrize(("I", "O"), [(256, 256), (257, 3), (3, 300), (700, 257)])
@pytest.mark.parametrize("loss", [Softmax(), Softmax(every_step=True)])
def test_many_symbols_and_classes_agree_too(I, O, loss):
    """More than a byte can number, and the last of them among what is read."""
    network, exact, batch = in_float32(*random_case(2, 5, 45, 9, loss=loss, I=I, O=O, mixed=True))
    batch.inputs[0, 1, 2], batch.targets[0, 0, 3] = I - 1, O - 1
    batch.inputs[1, 1, 2], batch.targets[1, 0, 3] = min(I - 1, 255), min(O - 1, 255)
    given = {"sigma": Tanh(), "loss": loss}
    want = reference.gradients(exact, batch, omega=Code(), alpha=1.0, **given)
    got = cpu.gradients(network, batch, omega=Code(), alpha=1.0, **given)
    torch.testing.assert_close(got.theta.double(), want.theta, rtol=0, atol=1e-5 * want.theta.abs().max().item())
    torch.testing.assert_close(got.loss.double(), want.loss, rtol=1e-5, atol=0)
    y, _ = cpu.outputs(network, batch, **given)
    torch.testing.assert_close(y.double(), want.outputs, rtol=0, atol=1e-5)
    ends, chunk = [], Chunk(*(torch.stack([x, x.flip(-1)]) for x in batch.parts.values()))
    for engine in (cpu, batched):
        trained = network.clone()
        engine.sgd(trained, chunk, algorithm=Algorithm.named("MSGD-CR", learning_rate=0.1), **given)
        ends.append(trained.theta)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [Tanh(), Sigmoid()])
def test_units_are_right_in_saturation_and_keep_what_is_not_a_number(sigma):
    network = Parameters.zeros(Sizes(1, 1, 2), 1)
    network.W_in.fill_(1.0)  # h_1 = sigma(u_1)
    u = torch.cat([torch.linspace(-120, 120, 24_001), torch.tensor([-math.inf, math.inf, math.nan])])
    batch = Batch(u[None, None, :, None], torch.zeros(1, 1, len(u)).long(), torch.tensor([1]))
    _, h = cpu.outputs(network, batch, sigma=sigma, loss=Softmax())
    right = sigma(u.double())
    torch.testing.assert_close(h[0, :, 0].double(), right, rtol=0, atol=5 * 2 * EPSILON, equal_nan=True)
    assert h[0, :-1].abs().max() <= 1
    if sigma == Tanh():
        far = u.abs() > 9.02  # where tanh rounds to 1
        assert torch.equal(h[0, far, 0], u[far].sign())


@pytest.mark.parametrize("omega", [None, Code()])
def test_where_all_units_are_saturated_no_gradient_is_left_to_be_amplified(omega):
    network, exact, batch = in_float32(*random_case(2, 4, 5, 40, loss=Softmax()))
    for one in (network, exact):
        one.W_rec.mul_(1e5)
        one.b.fill_(30.0)
    given = {"sigma": Tanh(), "loss": Softmax(), "omega": omega, "alpha": 1.0}
    want, got = reference.gradients(exact, batch, **given), cpu.gradients(network, batch, **given)
    assert want.states[:, 1:].abs().eq(1).all()
    torch.testing.assert_close(got.theta.double(), want.theta, rtol=0, atol=1e-6)
    torch.testing.assert_close(got.omega.double(), want.omega, rtol=1e-6, atol=0)


@dataclass(frozen=True)
class OwnSignal(ElementwiseSignal):
    """A rule that the kernel does not know, whose signals it has to limit all the same."""


CLIPS = [NoClip(), Norm(0.1), Norm(0.1, Skip()), Elementwise(0.01), Elementwise(0.01, None), ElementwiseSignal(0.003)]
CLIPS += [OwnSignal(0.003), UnitWise(0.1)]


@pytest.mark.parametrize("task", [TemporalOrder((10, 15)), Addition(12), NoiselessMemorization((3, 6), 2, 2)])
@pytest.mark.parametrize("clip", CLIPS)
def test_its_updates_are_those_of_the_batched_engine(task, clip):
    algorithm = Algorithm(learning_rate=0.1, clip=clip, omega=Code(), alpha=InverseTime(0.5, period=2))
    sizes = Sizes(task.inputs, 6, task.outputs)
    start = torch.randn(3, sizes.P, generator=torch.Generator().manual_seed(1)) * 0.4
    chunk = task.chunk(torch.arange(3), torch.arange(5), batch=4)
    ends, traces = [], []
    for engine in (batched, cpu):
        network = Parameters(start.clone(), sizes)
        traces.append(engine.sgd(network, chunk, sigma=Tanh(), loss=task.loss, algorithm=algorithm, first_update=1))
        ends.append(network.theta)
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-5)
    assert torch.equal(traces[1].events, traces[0].events)
    for name in ("loss", "norm", "omega"):
        torch.testing.assert_close(getattr(traces[1], name), getattr(traces[0], name), rtol=1e-4, atol=1e-6)


DEMANDING = {
    "noise": Algorithm(learning_rate=0.01, noise=0.3),
    "frozen": Algorithm(learning_rate=0.1, frozen=("b", "W_out"), clip=Norm(0.05), omega=Code(), alpha=Constant(0.5)),
    "adam": AdamW(
        learning_rate=0.02, eps=1e-3, clip=Norm(0.05), omega=Code(), alpha=Constant(0.5), frozen=("W_in", "b_out")
    ),
    "adam, elementwise, noise": AdamW(learning_rate=0.02, eps=1e-3, clip=Elementwise(0.01), noise=0.3, decay=0.1),
    "percentile, penalties, frozen": Algorithm(
        learning_rate=0.1, clip=Percentile(0.5), penalties=(L2(0.1), L1(0.01)), frozen=("b",), omega=Code()
    ),
    "adam, unit-wise, noise": AdamW(learning_rate=0.02, eps=1e-3, clip=UnitWise(0.1, guard=Skip()), noise=0.3),
}


@pytest.mark.parametrize("loss", NINE, ids=repr)
@pytest.mark.parametrize("algorithm", DEMANDING.values(), ids=DEMANDING)
@pytest.mark.parametrize("goes_on", [False, True])
def test_demanding_updates_are_those_of_the_reference(loss, algorithm, goes_on):
    """With all that goes on from update to update; what is frozen stays to the bit."""
    for N, symbols in ((6, True), (33, False)):
        network, chunk = some(5, 3, 7, 4, N, loss=loss, symbols=symbols)
        chunk = chunk if goes_on else replace(chunk, begins=None)
        given = {"sigma": Tanh(), "loss": loss, "algorithm": algorithm, "first_update": 2**32 - 2}
        given["seeds"] = torch.tensor([2**62 + 1, 7, 2**33])
        exact, ours = network.to(torch.float64), network.clone()
        states = [algorithm.state(one) for one in (exact, ours)]
        if goes_on:
            drawn = torch.rand(3, 4, N, generator=torch.Generator().manual_seed(5))
            states[0]["h"], states[1]["h"] = drawn.double(), drawn.clone()
        want = reference.sgd(exact, in_float64(chunk), state=states[0], **given)
        got = cpu.sgd(ours, chunk, state=states[1], **given)
        torch.testing.assert_close(ours.theta.double(), exact.theta, rtol=0, atol=2e-5)
        assert states[0].keys() == states[1].keys()
        for name, x in states[0].items():
            near = 1e-5 if name.startswith("clip.") else 0  # norms, which are large
            torch.testing.assert_close(states[1][name].to(x.dtype), x, rtol=near, atol=2e-5, equal_nan=True)
        assert torch.equal(got.events, want.events)
        for name in ("loss", "norm", "omega"):
            torch.testing.assert_close(getattr(got, name).double(), getattr(want, name), rtol=1e-4, atol=1e-5)
        for name, x in network.views.items():
            assert torch.equal(ours.views[name], x) == (name in algorithm.frozen)


@pytest.mark.parametrize("update", [0, 5, 2**32 + 3, 2**55])
@pytest.mark.parametrize("N", [1, 7, 40])
def test_noise_is_what_bits_says_at_every_position(update, N):
    """A linear unit without weights ends in the noise of its last step."""
    M, T, B = 2, 3, 5
    network, seeds = Parameters.zeros(Sizes(1, N, 1), M), torch.tensor([3, 2**62 + 2**33 + 5])
    lengths = torch.tensor([1, 2, 3, 3, 1]).expand(1, M, B)
    zeros = torch.zeros(1, M, T, B, dtype=torch.int64)
    chunk = Chunk(zeros, zeros[:, :, :1], lengths, torch.ones(1, M, B, dtype=torch.bool))
    state = {"h": torch.zeros(M, B, N)}
    given = {"sigma": Linear(), "loss": Softmax(), "first_update": update, "seeds": seeds, "state": state}
    cpu.sgd(network, chunk, algorithm=Algorithm(noise=1.0), **given)
    z = bits.disturbances(seeds, torch.tensor([update]), count=T * B * N)[0].unflatten(1, (T, B, N))
    want = torch.stack([z[:, int(lengths[0, 0, b]) - 1, b] for b in range(B)], dim=1)
    torch.testing.assert_close(state["h"].double(), want, rtol=1e-6, atol=1e-6)


def test_noise_is_right_to_the_last_places_in_a_million_draws():
    """Of standard deviation 1, also where a logarithm is all but 0, and where a sine or a cosine is."""
    N, B = 25, 40_000
    network, seeds = Parameters.zeros(Sizes(1, N, 1), 1), torch.tensor([11])
    zeros = torch.zeros(1, 1, 1, B, dtype=torch.int64)
    begins = torch.ones(1, 1, B, dtype=torch.bool)
    chunk = Chunk(zeros, zeros, torch.ones(1, 1, dtype=torch.int64), begins)
    state = {"h": torch.zeros(1, B, N)}
    given = {"sigma": Linear(), "loss": Softmax(), "seeds": seeds, "state": state}
    cpu.sgd(network, chunk, algorithm=Algorithm(noise=1.0), **given)
    z = bits.disturbances(seeds, torch.tensor([0]), count=N * B)[0].unflatten(1, (B, N))
    assert z.abs().max() > 4.5
    assert z.abs().min() < 1e-5
    torch.testing.assert_close(state["h"].double(), z, rtol=4e-7, atol=2e-7)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adams_steps_are_those_of_torchs_own(decay):
    """Along the kernel's own gradients, which a clipping rule leaves alone."""
    network, chunk = some(6, 2, 5, 3, 37, loss=Softmax(), symbols=False)
    chunk = replace(chunk, begins=None)
    ours, theirs = network.clone(), network.theta.clone().requires_grad_()
    settings = {"eps": 1e-6, "betas": (0.8, 0.95)}
    peer = torch.optim.AdamW([theirs], lr=0.01, weight_decay=decay, **settings)
    algorithm = AdamW(0.01, beta1=0.8, beta2=0.95, eps=1e-6, decay=decay)
    state, given = algorithm.state(ours), {"sigma": Tanh(), "loss": Softmax()}
    for k in range(len(chunk)):
        batch = Batch(*(x[k] for x in chunk.parts.values()))
        theirs.grad = cpu.gradients(Parameters(theirs.detach(), network.sizes), batch, **given).theta
        peer.step()
        alone = Chunk(**{name: x[k : k + 1] for name, x in chunk.parts.items()})
        cpu.sgd(ours, alone, algorithm=algorithm, state=state, **given)
        torch.testing.assert_close(ours.theta, theirs.detach(), rtol=1e-6, atol=2e-7)
    assert state["steps"].tolist() == [6, 6]


@pytest.mark.parametrize("guard", [Shrink(0.5), Skip()])
@pytest.mark.parametrize("frozen", [(), ("W_rec",)])
def test_adam_takes_the_guards_gradient_in_place_of_one_that_is_not_finite(guard, frozen):
    network, chunk = some(4, 2, 5, 3, 6, loss=Softmax(), symbols=False)
    chunk.inputs[3, 0] = math.inf  # by then there are moments
    algorithm = AdamW(0.01, eps=1e-3, clip=Norm(100.0, guard), frozen=frozen)
    given = {"sigma": Tanh(), "loss": Softmax(), "algorithm": algorithm}
    network.W_in.abs_()
    exact, ours = network.to(torch.float64), network.clone()
    states = [algorithm.state(one) for one in (exact, ours)]
    chunk = replace(chunk, begins=None)
    reference.sgd(exact, in_float64(chunk), state=states[0], **given)
    trace = cpu.sgd(ours, chunk, state=states[1], **given)
    assert trace.events[3].tolist() == [Event.GUARDED, Event.NONE]
    for name in set(exact.views).difference(frozen):
        torch.testing.assert_close(ours.views[name].double(), exact.views[name], rtol=0, atol=1e-5)
    torch.testing.assert_close(states[1]["first_moment"].double(), states[0]["first_moment"], rtol=0, atol=1e-5)
    assert torch.equal(ours.W_rec, network.W_rec) == bool(frozen)


@pytest.mark.parametrize("frozen", ["W_rec", "W_in", "b", "W_out", "b_out"])
@pytest.mark.parametrize("method", [Algorithm, AdamW])
def test_what_is_frozen_is_no_part_of_the_norm(frozen, method):
    network, chunk = some(1, 2, 5, 3, 9, loss=SquaredError(), symbols=False)
    chunk, given = replace(chunk, begins=None), {"sigma": Tanh(), "loss": SquaredError()}
    g = Parameters(cpu.gradients(network, chunk[0], **given).theta, network.sizes)
    g.views[frozen].zero_()
    trace = cpu.sgd(network.clone(), chunk, algorithm=method(frozen=(frozen,)), **given)
    torch.testing.assert_close(trace.norm[0], g.theta.norm(dim=1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("loss", NINE, ids=repr)
@pytest.mark.parametrize("name", [*DEMANDING][-3:])
def test_nothing_demanding_depends_on_company_threads_or_chunks_to_the_bit(loss, name):
    """With Adam's moments, noise, lengths of their own, and states that go on."""
    K, M, algorithm = 6, 5, DEMANDING[name]
    network, chunk = some(K, M, 7, 3, 37, loss=loss)
    network.W_out[3] = math.inf
    seeds = torch.arange(M) + 2**40

    def ends(members, steps, threads=1):
        ours, before = network.select(members), torch.get_num_threads()
        state = algorithm.state(ours) | {"h": torch.full((len(members), 3, 37), 0.5)}
        torch.set_num_threads(threads)
        try:
            for k in range(0, K, steps):
                part = Chunk(**{name: x[k : k + steps, members] for name, x in chunk.parts.items()})
                given = {"sigma": Tanh(), "loss": loss, "algorithm": algorithm, "state": state}
                cpu.sgd(ours, part, first_update=k, seeds=seeds[members], **given)
        finally:
            torch.set_num_threads(before)
        return [ours.theta, *state.values()]

    together = ends([*range(M)], K, threads=2)
    for m, steps in itertools.product(range(M), (1, 4, K)):
        assert same_bits(ends([m], steps), [x[m : m + 1] for x in together])


def test_a_sequence_that_goes_on_ends_where_it_would_have_in_one_pass_to_the_bit():
    network, whole = some(1, 3, 4, 5, 6, loss=Softmax())
    halves = whole.inputs[0].unflatten(1, (2, 2)).transpose(0, 1)  # K M T B
    begins = torch.tensor([True, False])[:, None, None].expand(2, 3, 5)
    targets, lengths = whole.targets.expand(2, -1, -1, -1), torch.full((2, 3), 2)
    given = {"sigma": Tanh(), "loss": Softmax(), "algorithm": Algorithm(learning_rate=1e-30)}
    state = {"h": torch.full((3, 5, 6), 7.0)}  # of sequences that came before
    cpu.sgd(network, Chunk(halves, targets, lengths, begins), state=state, **given)
    batch = Batch(whole.inputs[0], whole.targets[0], torch.full((3,), 4))
    _, h = cpu.outputs(network, batch, sigma=Tanh(), loss=Softmax())
    assert torch.equal(state["h"], h)


def test_states_in_another_layout_come_back_in_it():
    network, chunk = some(2, 3, 4, 5, 6, loss=Softmax())
    algorithm = AdamW()
    given, ends = {"sigma": Tanh(), "loss": Softmax(), "algorithm": algorithm}, []
    for layout in (lambda x: x, lambda x: x.mT.contiguous().mT if x.ndim > 1 else x, lambda x: x.double()):
        ours = network.clone()
        state = {name: layout(x) for name, x in (algorithm.state(ours) | {"h": torch.zeros(3, 5, 6)}).items()}
        cpu.sgd(ours, chunk, state=state, **given)
        ends.append([ours.theta, *(x.contiguous() for x in state.values())])
    assert same_bits(ends[0], ends[1])
    for ours, other in zip(ends[0], ends[2], strict=True):
        assert torch.equal(ours.double(), other.double())
    with pytest.raises(ValueError, match="state must be as it began, with 'h' of shape"):
        cpu.sgd(network, chunk, state=algorithm.state(network) | {"h": torch.zeros(3, 4, 6)}, **given)


def test_all_losses_and_both_methods_fit_and_what_is_not_known_does_not():
    for loss, method in itertools.product(NINE, (Algorithm, AdamW)):
        fitting = method(noise=0.1, frozen=("b",))
        assert not known.unknown(Rules(Simple(Tanh()), loss, fitting))

    class Mine(Bernoulli):
        pass

    class Own(AdamW):
        pass

    assert known.unknown(Rules(Simple(Tanh()), Mine()))
    for own in (Own(), Algorithm(penalties=(L2(0.1),)), Algorithm(clip=Percentile())):  # the gradient of each is known
        rules = Rules(Simple(Tanh()), Softmax(), own)
        assert known.unknown(rules)
        assert not known.unknown(known.sweep(rules))
    for rules in (Rules(Simple(Tanh(), learned_start=True), Softmax()), Rules(LSTM(), Softmax())):
        assert known.unknown(known.sweep(rules))


MIXED = TemporalOrder((45, 56))
UPDATES = 1_300


def naming_the_last_symbol(chunk):
    """The same sequences with an easier question, which a network learns in a few hundred updates."""
    K, M, _, B = chunk.inputs.shape
    last = (chunk.lengths - 1)[:, :, None, None].expand(K, M, 1, B)
    return replace(chunk, targets=chunk.inputs.gather(2, last) % 4)


def pieces(task, seeds, updates, chunk):
    """The first update of each chunk, and its batches; they are drawn for many updates at a time."""
    for begin in range(0, updates, 64):
        drawn = naming_the_last_symbol(task.chunk(seeds, torch.arange(begin, min(begin + 64, updates)), batch=5))
        for first in range(0, len(drawn.inputs), chunk):
            yield begin + first, Chunk(**{name: x[first : first + chunk] for name, x in drawn.parts.items()})


def trained(members, *, algorithm, threads=1, chunk=64, task=MIXED, updates=UPDATES):
    """Parameters and traces of some of three hundred networks, which solve their task, diverge or need the guard."""
    sizes = Sizes(task.inputs, 20, task.outputs)
    network = SmartTanh().parameters(sizes, members)
    wild = torch.tensor([m % 3 == 1 for m in members])
    network.W_rec[wild] *= 40  # explodes where unclipped, and fires the guard where not
    sick = torch.tensor([m % 7 == 5 for m in members])
    network.W_out[sick] = math.inf
    seeds, before = torch.tensor(members), torch.get_num_threads()
    torch.set_num_threads(threads)
    losses, events = [], []
    try:
        for first, batches in pieces(task, seeds, updates, chunk):
            trace = cpu.sgd(network, batches, sigma=Tanh(), loss=task.loss, algorithm=algorithm, first_update=first)
            losses.append(trace.loss)
            events.append(trace.events)
    finally:
        torch.set_num_threads(before)
    return network.theta, torch.cat(losses), torch.cat(events)


def same_bits(a, b):
    return all(torch.equal(x.view(torch.uint8), y.view(torch.uint8)) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ["MSGD", "MSGD-CR"])
def test_a_member_ends_with_the_same_bits_alone_and_in_company_by_any_threads_and_chunks(name):
    algorithm = Algorithm.named(name, learning_rate=0.1)
    members = list(range(8))
    theta, losses, events = trained(members, algorithm=algorithm, threads=2)
    assert losses[-100:, 0].mean() < 0.01  # it has learned
    seen = set(events.unique().tolist())
    assert ({Event.NONE, Event.DIVERGED} if name == "MSGD" else {Event.CLIPPED, Event.GUARDED}) <= seen
    assert same_bits(trained(members, algorithm=algorithm, threads=1), (theta, losses, events))
    for m, chunk in ((0, 64), (1, 1), (5, 64)):
        alone = trained([m], algorithm=algorithm, chunk=chunk)
        assert same_bits(alone, (theta[m : m + 1], losses[:, m : m + 1], events[:, m : m + 1]))


def test_a_member_among_405_others_ends_with_its_own_bits():
    algorithm = Algorithm.named("MSGD-CR", learning_rate=0.1)
    short = {"algorithm": algorithm, "updates": 20, "task": TemporalOrder((10, 13))}
    theta, losses, _ = trained(list(range(406)), **short)
    for m in (3, 404):
        alone = trained([m], **short)
        assert same_bits(alone[:2], (theta[m : m + 1], losses[:, m : m + 1]))


@pytest.mark.parametrize("task", [Addition((10, 20)), NoiselessMemorization((4, 9), 2, 2), RandomPermutation(9)])
def test_outputs_streamed_in_windows_are_those_of_one_pass_to_the_bit(task):
    network = BasicTanh().parameters(Sizes(task.inputs, 11, task.outputs), [0, 1])
    batch = task.chunk(torch.arange(2), torch.arange(1), batch=45)[0]
    given = {"sigma": Tanh(), "loss": task.loss}
    y, h = cpu.outputs(network, batch, **given)
    torch.testing.assert_close(y, batched.outputs(network, batch, **given)[0] * (y != 0), rtol=0, atol=1e-5)
    parts, state, T = [], None, batch.inputs.shape[1]
    for start, stop in ((0, 4), (4, 5), (5, T)):
        lengths = (batch.lengths - start).clamp(0, stop - start)
        part, state = cpu.outputs(
            network, Batch(batch.inputs[:, start:stop], batch.targets, lengths), h_0=state, **given
        )
        parts.append(part)
    assert torch.equal(state, h)
    assert torch.equal(torch.cat(parts, dim=1) if task.loss.every_step else parts[-1], y)


def test_a_gradient_that_is_not_a_number_fires_the_guard():
    task, sizes = TemporalOrder(10), Sizes(6, 5, 4)
    chunk = task.chunk(torch.arange(3), torch.arange(1), batch=3)
    network = BasicTanh().parameters(sizes, [0, 1, 2])
    network.b_out[0] = math.nan
    network.W_rec[1] = math.inf
    before = network.theta.clone()
    algorithm = Algorithm(learning_rate=0.5, clip=Norm(1.0, Shrink(0.02)))
    trace = cpu.sgd(network, chunk, sigma=Sigmoid(), loss=task.loss, algorithm=algorithm)
    assert trace.events[0, :2].tolist() == [Event.GUARDED] * 2
    n = sizes.units**2
    torch.testing.assert_close(network.theta[0, :n], before[0, :n] * (1 - 0.5 * 0.02))
    assert torch.equal(network.theta[0, n:].nan_to_num(7), before[0, n:].nan_to_num(7))
    assert bool(network.theta[2].isfinite().all())


@pytest.mark.parametrize(("guard", "event"), [(Shrink(), Event.GUARDED), (Skip(), Event.CLIPPED)])
def test_a_gradient_beyond_the_guards_limit_is_not_trusted(guard, event):
    task, sizes = Addition(10), Sizes(2, 5, 1)
    network = BasicTanh().parameters(sizes, [0])
    network.b_out[0] = 1e11  # so the loss's derivative is about 2e11, and finite
    before = network.theta.clone()
    chunk = task.chunk(torch.arange(1), torch.arange(1), batch=3)
    algorithm = Algorithm(learning_rate=0.5, clip=Norm(1.0, guard))
    trace = cpu.sgd(network, chunk, sigma=Tanh(), loss=task.loss, algorithm=algorithm)
    assert 1e10 < trace.norm.item() < math.inf
    assert trace.events.item() == event
    moved = before - network.theta
    if event == Event.GUARDED:
        torch.testing.assert_close(moved[:, :25], 0.5 * 0.02 * before[:, :25], rtol=0, atol=1e-7)
        assert not moved[:, 25:].any()
    else:  # a step of norm 0.5, of which b_out's part is too small beside b_out to be seen
        assert 0 < moved.norm().item() <= 0.5


def test_the_kernel_leaves_subnormal_numbers_alone_in_the_process():
    kernel.library(50)
    tiny = torch.tensor([1e-40])
    assert (tiny * 0.5).item() > 0
    assert 1e-310 * 0.5 > 0


def test_the_engine_is_chosen_by_what_fits():
    where = torch.device("cpu")
    given = {"sigma": Tanh(), "loss": Softmax(), "sizes": Sizes(6, 50, 4)}
    assert choose(algorithm=Algorithm.named("MSGD-CR"), device=where, **given) is cpu
    assert choose(algorithm=Algorithm(clip=Percentile()), device=where, **given) is cpu
    gated = given | {"sizes": Sizes(6, 50, 4, LSTM()), "sigma": None}
    assert choose(algorithm=Algorithm(), device=where, **gated) is batched


def test_what_the_kernel_does_not_know_is_refused_by_name():
    network, batch = random_case(1, 3, 2, 4, loss=Softmax())
    with pytest.raises(ValueError, match="theta must be contiguous, in float32, on the CPU"):
        cpu.gradients(network, batch, sigma=Tanh(), loss=Softmax())


# What needs a process of its own

TRAIN = """
import rnnlab
spec = rnnlab.Spec(task=rnnlab.TemporalOrder(12), units=40, updates=20, check_every=20, check_sequences=20)
runs = rnnlab.train(spec, seeds=2)
print(runs.attrs["engine"], float(runs.loss.sum()), sep="|")
"""


def run(**environment: str) -> subprocess.CompletedProcess:
    """`TRAIN` in a process of its own, whose kernel is kept where this one's is unless told."""
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True, env=environment)


@functools.cache
def loss_here() -> float:
    """What `TRAIN` ends with in this process."""
    said: dict = {}
    exec(TRAIN, said)
    assert said["runs"].attrs["engine"].startswith("cpu ")
    return float(said["runs"].loss.sum())


def test_without_a_compiler_one_warning_names_it_and_the_batched_engine_trains(tmp_path):
    (tmp_path / "empty").mkdir()
    without = run(RNNLAB_CACHE=str(tmp_path), PATH=str(tmp_path / "empty"))
    assert without.stdout.startswith("batched|")
    assert without.stderr.count("no C++ compiler (c++, g++ or clang++) is on the PATH") == 1
    assert float(without.stdout.split("|")[1]) == pytest.approx(loss_here(), rel=1e-4)


def test_two_processes_that_compile_at_once_do_not_harm_each_other(tmp_path):
    environment = {**os.environ, "RNNLAB_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", TRAIN], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]
    assert len(list((tmp_path / "rnnlab").iterdir())) == 1


@pytest.mark.parametrize("instructions", ["avx512", "avx512vl", "avx2", "baseline"])
def test_other_instruction_sets_train_alike(instructions):
    here = torch.backends.cpu.get_cpu_capability()
    known = {"AVX512": ["avx512", "avx512vl", "avx2", "baseline"], "AVX2": ["avx2", "baseline"]}
    if instructions not in known.get(here, ["baseline"]):
        pytest.skip(f"needs a processor with {instructions}")
    there = run(RNNLAB_INSTRUCTIONS=instructions)
    assert there.stdout.startswith(f"cpu {instructions} ")
    assert float(there.stdout.split("|")[1]) == pytest.approx(loss_here(), rel=1e-5)


def test_another_instruction_set_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("RNNLAB_INSTRUCTIONS", "avx")
    with pytest.raises(ValueError, match=r"RNNLAB_INSTRUCTIONS must be one of .*'avx2'.*, got 'avx'"):
        kernel.instruction_set()


def test_a_chunk_of_mixed_lengths_trains_as_its_batches_one_by_one():
    task, sizes = TemporalOrder((10, 30)), Sizes(6, 9, 4)
    chunk = task.chunk(torch.arange(2), torch.arange(6), batch=4)
    given = {"sigma": Tanh(), "loss": task.loss, "algorithm": Algorithm.named("MSGD-CR")}
    at_once, one_by_one = (BasicTanh().parameters(sizes, [0, 1]) for _ in range(2))
    cpu.sgd(at_once, chunk, **given)
    for k, batch in enumerate(chunk):
        single = Chunk(batch.inputs[None], batch.targets[None], batch.lengths[None])
        cpu.sgd(one_by_one, single, first_update=k, **given)
    assert torch.equal(at_once.theta, one_by_one.theta)


@pytest.mark.parametrize("method", [Algorithm, AdamW])
def test_what_is_frozen_stays_also_where_a_guard_or_a_moment_would_move_it(method):
    network, chunk = some(2, 2, 5, 3, 6, loss=Softmax(), symbols=False)
    chunk = replace(chunk, begins=None)
    chunk.inputs[1, 0] = math.inf
    network.W_in.abs_()
    algorithm, ours = method(clip=Norm(1.0, Shrink(0.5)), frozen=("W_rec", "b_out")), network.clone()
    state = {name: torch.ones_like(x) for name, x in algorithm.state(ours).items()}  # of times when it was not
    trace = cpu.sgd(ours, chunk, sigma=Tanh(), loss=Softmax(), algorithm=algorithm, state=state)
    assert trace.events[1, 0] == Event.GUARDED
    for name, x in network.views.items():
        assert torch.equal(ours.views[name], x) == (name in algorithm.frozen)

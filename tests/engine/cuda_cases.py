"""The fused GPU engine against the reference: on a GPU, or in Triton's interpreter with TRITON_INTERPRET=1.

`test_cuda` runs these in processes of their own: the interpreter is chosen before Triton is imported, and the type
checks of `conftest`, which wrap every function, would hide the kernels' source from Triton. By hand:
`pytest --noconftest tests/engine/cuda_cases.py`.
"""

import itertools
import math
import os
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

import rnnlab
from rnnlab import bits, words
from rnnlab.descent.algorithm import AdamW, Algorithm
from rnnlab.descent.clipping import Elementwise, ElementwiseSignal, Event, NoClip, Norm, Shrink, Skip
from rnnlab.descent.omega import Code
from rnnlab.descent.penalties import L2
from rnnlab.descent.schedules import InverseTime
from rnnlab.engine import batched, reference
from rnnlab.engine.choosing import choose
from rnnlab.engine.cuda import fused as cuda
from rnnlab.engine.cuda import passes
from rnnlab.engine.cuda.plan import Plan
from rnnlab.network.cells import LSTM, Linear, Sigmoid, Simple, Tanh
from rnnlab.network.inits import BasicTanh, SmartTanh
from rnnlab.network.losses import Bernoulli, Softmax, SquaredError
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.pathological import Addition, NoiselessMemorization, RandomPermutation, TemporalOrder
from rnnlab.tasks.task import Batch, Chunk
from rnnlab.training import ensembles
from tests.engine.test_gradients import (
    EDGES,
    LOSSES,
    OMEGAS,
    SHAPES,
    SIGMAS,
    check_clipping,
    check_edge,
    random_case,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
EPSILON = 2.0**-24  # half a unit in the last place of 1, in float32
# 33 units: one over two blocks of 16; 40 sequences: one block of 32 and a part
ALL_SHAPES = {**SHAPES, "wide": (2, 4, 7, 33), "many": (1, 3, 40, 5)}
KINDS = [(True, False), (False, True), (True, True)]  # symbols, mixed lengths


def covering(cases):
    """Some of these combinations, few, among which any two values of two factors still meet."""
    pairs = {case: set(itertools.combinations(enumerate(case), 2)) for case in cases}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        chosen.append(max(cases, key=lambda case: len(pairs[case] & missing)))
        missing -= pairs[chosen[-1]]
    return chosen


FACTORS = [list(ALL_SHAPES), LOSSES, SIGMAS, OMEGAS, KINDS]
MATRIX = [tuple(case) for case in itertools.product(*(range(len(factor)) for factor in FACTORS))]
SOME = [[values[i] for values, i in zip(FACTORS, case, strict=True)] for case in covering(MATRIX)]
ALL = [[values[i] for values, i in zip(FACTORS, case, strict=True)] for case in MATRIX]


def there(batch):
    """The batch on the device, numbers in float32."""
    moved = [x.to(DEVICE, torch.float32 if x.is_floating_point() else x.dtype) for x in (batch.inputs, batch.targets)]
    return Batch(*moved, batch.lengths, batch.begins)


def chunk_there(chunk):
    return Chunk(chunk.inputs.to(DEVICE), chunk.targets.to(DEVICE), chunk.lengths, chunk.begins)


def agree(network, batch, *, bound, h_0=None, **given):
    """Every field of the gradients is that of the reference, to `bound` times the largest entry, or times 1."""
    rounded, sent = network.to(torch.float32), there(batch)
    exact = Batch(sent.inputs.cpu(), sent.targets.cpu(), sent.lengths, sent.begins)
    want = reference.gradients(rounded.to(torch.float64), exact, h_0=None if h_0 is None else h_0.double(), **given)
    got = cuda.gradients(rounded.to(DEVICE), sent, h_0=None if h_0 is None else h_0.to(DEVICE), **given)
    for name in ("theta", "states", "delta", "loss", "omega", "outputs"):
        right, ours = getattr(want, name), getattr(got, name).cpu().double()
        assert ours.shape == right.shape
        assert (ours - right).abs().max().item() <= bound * max(1.0, right.abs().max().item()), name


def named(value):
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(("shape", "loss", "sigma", "omega", "kind"), SOME if INTERPRETED else ALL, ids=named)
def test_gradients_agree_with_the_reference_to_rounding(shape, loss, sigma, omega, kind):
    """The bound is that of `test_cpu`: rounding of sums of N + I + 1 terms, at each of T steps, in absolute terms."""
    (M, T, B, N), (symbols, mixed) = ALL_SHAPES[shape], kind
    network, batch = random_case(M, T, B, N, loss=loss, symbols=symbols, mixed=mixed)
    h_0 = torch.full((M, B, N), 0.25) if mixed else None
    bound = EPSILON * (N + 6) * (T + 1)
    given = {"omega": omega, "alpha": 0.7, "signal_threshold": 0.01 if all(kind) else None}
    agree(network, batch, bound=bound, h_0=h_0, sigma=sigma, loss=loss, **given)


@pytest.mark.parametrize("loss", [Softmax(), Softmax(every_step=True)], ids=named)
def test_the_largest_networks_agree_too(loss):
    network, batch = random_case(1, 4, 9, 128, loss=loss, symbols=False, I=128, O=128)
    agree(network, batch, bound=1e-5, sigma=Tanh(), loss=loss, omega=Code(), alpha=1.0)


TASKS = [TemporalOrder((10, 13)), Addition(10), NoiselessMemorization((3, 5), 2, 2)]
CLIPS = [NoClip(), Norm(0.1), Norm(0.1, Skip()), Elementwise(0.01), Elementwise(0.01, None), ElementwiseSignal(0.003)]


TRAININGS = [*zip(itertools.cycle(TASKS), CLIPS)] if INTERPRETED else [*itertools.product(TASKS, CLIPS)]


@pytest.mark.parametrize(("task", "clip"), TRAININGS, ids=named)
def test_updates_are_those_of_the_reference(task, clip):
    algorithm = Algorithm(learning_rate=0.1, clip=clip, omega=Code(), alpha=InverseTime(0.5, period=2))
    sizes = Sizes(task.inputs, 6, task.outputs)
    start = torch.randn(1, sizes.P, generator=torch.Generator().manual_seed(1)) * 0.4
    chunk = task.chunk(torch.arange(1), torch.arange(2), batch=3)
    given = {"sigma": Tanh(), "loss": task.loss, "algorithm": algorithm, "first_update": 1}
    exact, ours = Parameters(start.double(), sizes), Parameters(start.clone().to(DEVICE), sizes)
    want, got = reference.sgd(exact, chunk, **given), cuda.sgd(ours, chunk_there(chunk), **given)
    torch.testing.assert_close(ours.theta.cpu().double(), exact.theta, rtol=0, atol=1e-5)
    assert (exact.theta - start).abs().max() > 1e-3
    assert torch.equal(got.events.cpu(), want.events)
    for name in ("loss", "norm", "omega"):
        torch.testing.assert_close(getattr(got, name).cpu().double(), getattr(want, name), rtol=1e-4, atol=1e-6)


def drawn_chunk(K, M, T, B, *, loss, symbols, own, carried, I=4, O=3):
    """Batches without a task; with `own`, a length of each sequence's own; with `carried`, sequences that go on."""
    g, S = torch.Generator().manual_seed(M + 10 * T + 100 * B), T if loss.every_step else 1
    classes, values = torch.randint(0, O, (K, M, S, B), generator=g), torch.rand(K, M, S, B, O, generator=g)
    u = torch.randint(0, I, (K, M, T, B), generator=g) if symbols else torch.randn(K, M, T, B, I, generator=g)
    lengths = torch.randint(1, T + 1, (K, M, B) if own else (K, M), generator=g)
    begins = torch.rand(K, M, B, generator=g) < 0.4 if carried else None
    return Chunk(u, values if loss.real_targets else classes, lengths, begins)


@pytest.mark.parametrize("kind", [Softmax, SquaredError, Bernoulli])
@pytest.mark.parametrize("every_step", [False, True])
def test_sequences_with_lengths_of_their_own_of_which_some_go_on_agree_too(kind, every_step):
    loss, (M, T, B, N), bound = kind(every_step, "sum" if every_step else "mean"), (2, 4, 3, 5), EPSILON * 11 * 5
    network, _ = random_case(M, T, B, N, loss=Softmax(), I=4)
    batch = drawn_chunk(1, M, T, B, loss=loss, symbols=every_step, own=True, carried=True)[0]
    h_0 = torch.randn(M, B, N, generator=torch.Generator().manual_seed(1)) / 2
    given = {"sigma": Sigmoid() if every_step else Tanh(), "loss": loss}
    for signal in (None, 0.01):
        agree(network, batch, bound=bound, h_0=h_0, omega=Code(), alpha=0.7, signal_threshold=signal, **given)
    network, sent, start = network.to(DEVICE, torch.float32), there(batch), h_0.to(DEVICE)
    g, (y, h) = cuda.gradients(network, sent, h_0=start, **given), cuda.outputs(network, sent, h_0=start, **given)
    torch.testing.assert_close(y, g.outputs, rtol=0, atol=bound)  # cut into other blocks
    assert torch.equal(h, g.states[:, -1])


# symbols, lengths of their own, carried, read at every step, over steps, kind of loss, frozen, noise, method, clip
MORE = [[False, True]] * 4 + [["mean", "sum"], [Softmax, SquaredError, Bernoulli], [(), ("W_rec", "b_out")], [0.0, 0.3]]
MORE += [[Algorithm, AdamW], [NoClip(), Norm(0.1), Norm(0.1, Shrink(0.5, limit=1e-3)), Elementwise(0.01)]]
MORE[-1] += [ElementwiseSignal(0.003)]
FEW = covering([*itertools.product(*(range(len(values)) for values in MORE))])
FEW = [[values[i] for values, i in zip(MORE, case, strict=True)] for case in FEW]


@pytest.mark.parametrize("case", FEW, ids=lambda case: named(tuple(case)))
def test_updates_by_all_that_may_be_asked_for_are_those_of_the_reference(case):
    symbols, own, carried, every_step, over_steps, kind, frozen, noise, method, clip = case
    loss, sizes, seeds = kind(every_step, over_steps), Sizes(4, 5, 3), torch.tensor([7, 2**62 + 2**33 + 3])
    algorithm = method(0.01, clip, Code(), 0.5, noise=noise, frozen=frozen)
    start = torch.randn(2, sizes.P, generator=torch.Generator().manual_seed(1)) * 0.4
    chunk = drawn_chunk(2, 2, 4, 3, loss=loss, symbols=symbols, own=own, carried=carried)
    given = {"sigma": Tanh(), "loss": loss, "algorithm": algorithm, "first_update": 2**32 - 1}
    exact, ours = Parameters(start.double(), sizes), Parameters(start.clone().to(DEVICE), sizes)
    states = [algorithm.state(network) for network in (exact, ours)]
    for network, state in zip((exact, ours), states, strict=True):
        if "steps" in state:  # of members that are not as far as each other
            state["steps"] += torch.tensor([0, 1000], device=network.theta.device)
    want = reference.sgd(exact, chunk, seeds=seeds, state=states[0], **given)
    got = cuda.sgd(ours, chunk_there(chunk), seeds=seeds.to(DEVICE), state=states[1], **given)
    torch.testing.assert_close(ours.theta.cpu().double(), exact.theta, rtol=0, atol=1e-5)
    assert torch.equal(got.events.cpu(), want.events)
    for name in ("loss", "norm", "omega"):
        torch.testing.assert_close(getattr(got, name).cpu().double(), getattr(want, name), rtol=1e-4, atol=1e-6)
    assert states[1].keys() == states[0].keys()
    for name, x in states[0].items():
        x, error = x.double(), states[1][name].cpu().double() - x  # of all: a small element rounds as its summands
        assert error.norm() <= 2e-6 * x.norm(), name  # 1 - 0.999 in float32 would be wrong by 1e-5 of itself
    for name in frozen:
        assert torch.equal(ours.views[name].cpu(), Parameters(start, sizes).views[name])


@triton.jit
def _disturbed(states, seeds, updates, plan: tl.constexpr):
    passes.disturb(states, tl.load(seeds), tl.load(updates), 0.5, 3, plan)


@pytest.mark.parametrize(
    ("seed", "update", "symbols"), [(0, 2**32 - 1, True), (7, 2**32, False), (2**63 - 1, 2**56 - 1, True)]
)
def test_noise_is_that_of_the_package(seed, update, symbols):
    told = {"N": 21, "I": 2, "O": 1, "P": 1, "B": 17, **dict.fromkeys(("W_rec", "W_in", "b", "W_out", "b_out"), 0)}
    plan = Plan(**told, symbols=symbols, sigma="Tanh", loss="Softmax", every=False)
    seeds, updates = (torch.tensor([x], dtype=torch.int64) for x in (seed, update))
    states = torch.full((4, 17, plan.NP), 2.0, device=DEVICE)
    _disturbed[(1,)](states, seeds.to(DEVICE), updates.to(DEVICE), plan)
    want, states = 0.5 * bits.disturbances(seeds, updates, count=3 * 17 * 21)[0, 0].view(3, 17, 21), states.cpu()
    torch.testing.assert_close(states[1:, :, :21].double(), want + (0 if symbols else 2), rtol=0, atol=1e-5)
    assert bool((states[0] == 2).all() and (states[:, :, 21:] == 2).all())


@pytest.mark.parametrize(("start", "count"), [(0, 1), (1, 1300), (2**31 - 6, 9), (2**34 + 3, 5), (2**40, 4), (8, 0)])
@pytest.mark.parametrize("stream", [0, bits.NOISE + 7, 2**32 - 1])
def test_words_drawn_by_a_kernel_are_those_of_the_package_to_the_bit(start, count, stream):
    seeds = torch.tensor([0, 2**62 + 2**33 + 3, 2**63 - 1], dtype=torch.int64)
    updates, drawn = torch.tensor([0, 2**32 - 1, 2**32, 2**56 - 1]), {"stream": stream, "start": start, "count": count}
    want = bits.bits(seeds, updates, **drawn)
    assert torch.equal(words.draw(seeds.to(DEVICE), updates.to(DEVICE), **drawn).cpu(), want)
    strided = torch.stack((seeds, seeds), dim=1).to(DEVICE)[:, 0]
    assert torch.equal(bits.bits(strided, updates.to(DEVICE), **drawn).cpu(), want)


def test_a_gradient_that_is_not_a_number_fires_the_guard_or_ends_the_member():
    task, sizes = TemporalOrder(10), Sizes(6, 5, 4)
    chunk = chunk_there(task.chunk(torch.arange(3), torch.arange(1), batch=3))
    for clip, event in ((Norm(1.0, Shrink(0.02)), Event.GUARDED), (Norm(1.0, Skip()), Event.GUARDED), (NoClip(), 3)):
        network = BasicTanh().parameters(sizes, [0, 1, 2])
        network.b_out[0] = math.nan
        network.W_rec[1] = math.inf
        network = network.to(DEVICE)
        before, n = network.theta.clone(), sizes.units**2
        algorithm = Algorithm(learning_rate=0.5, clip=clip)
        trace = cuda.sgd(network, chunk, sigma=Sigmoid(), loss=task.loss, algorithm=algorithm)
        assert trace.events[0, :2].tolist() == [event] * 2
        assert trace.events[0, 2].item() in (Event.NONE, Event.CLIPPED)
        assert bool(network.theta[2].isfinite().all())
        if event == Event.GUARDED:
            kept = 1 - 0.5 * 0.02 if isinstance(clip.guard, Shrink) else 1
            torch.testing.assert_close(network.theta[0, :n], before[0, :n] * kept)
            assert torch.equal(network.theta[0, n:].nan_to_num(7), before[0, n:].nan_to_num(7))


@pytest.mark.parametrize(("guard", "event"), [(Shrink(), Event.GUARDED), (Skip(), Event.CLIPPED)])
def test_a_gradient_beyond_the_guards_limit_is_not_trusted(guard, event):
    task, sizes = Addition(10), Sizes(2, 5, 1)
    network = BasicTanh().parameters(sizes, [0])
    network.b_out[0] = 1e21  # so the loss's derivative is about 2e21, and its square beyond float32's range
    network = network.to(DEVICE)
    before = network.theta.clone()
    chunk = chunk_there(task.chunk(torch.arange(1), torch.arange(1), batch=3))
    algorithm = Algorithm(learning_rate=0.5, clip=Norm(1.0, guard))
    trace = cuda.sgd(network, chunk, sigma=Tanh(), loss=task.loss, algorithm=algorithm)
    assert 1e10 < trace.norm.item() < math.inf
    assert trace.events.item() == event
    moved = before - network.theta
    if event == Event.GUARDED:
        torch.testing.assert_close(moved[:, :25], 0.5 * 0.02 * before[:, :25], rtol=0, atol=1e-7)
        assert not moved[:, 25:].any()
    else:  # a step of norm 0.5, of which b_out's part is too small beside b_out to be seen
        assert 0 < moved.norm().item() <= 0.5


def trained(members, *, algorithm, chunk, updates, task, units):
    """Parameters, state and traces of some networks, which learn, diverge or need the guard.

    Where there is noise, sequences have lengths of their own, and all but a few go on.
    """
    sizes = Sizes(task.inputs, units, task.outputs)
    network = SmartTanh().parameters(sizes, members)
    wild = torch.tensor([m % 3 == 1 for m in members])
    network.W_rec[wild] *= 40  # explodes where unclipped, and fires the guard where not
    network.W_out[torch.tensor([m % 7 == 5 for m in members])] = math.inf
    network, traces = network.to(DEVICE), []
    state = algorithm.state(network) | {"h": torch.zeros(len(members), 5, units, device=DEVICE)}
    for first in range(0, updates, chunk):
        numbers = torch.arange(first, min(first + chunk, updates), device=DEVICE)
        batches = task.chunk(torch.tensor(members, device=DEVICE), numbers, batch=5)
        batches, lengths = Chunk(batches.inputs, batches.targets, batches.lengths.cpu()), batches.lengths.cpu()
        if algorithm.noise:
            own = lengths[..., None] - torch.arange(5)
            batches = replace(batches, lengths=own, begins=own % 4 == 0)
        given = {"sigma": Tanh(), "loss": task.loss, "algorithm": algorithm, "first_update": first}
        traces.append(cuda.sgd(network, batches, seeds=torch.tensor(members), state=state, **given))
    series = (torch.cat([getattr(trace, name) for trace in traces]) for name in ("loss", "norm", "omega", "events"))
    return [network.theta.T, *(x.reshape(len(members), -1).T for x in state.values()), *series]


if INTERPRETED:
    SCALE, COMPANY, ALONE = {"updates": 2, "task": TemporalOrder((10, 12)), "units": 5}, 6, ((1, 1), (5, 1))
else:
    SCALE, COMPANY = {"updates": 300, "task": TemporalOrder((45, 56)), "units": 50}, 406
    ALONE = ((0, 1), (1, 2), (5, 4), (405, 64))


ALGORITHMS = {name: Algorithm.named(name, learning_rate=0.1) for name in ("MSGD", "MSGD-CR")}
ALGORITHMS["AdamW"] = AdamW(0.01, Norm(1.0), noise=0.1, frozen=("b",))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_member_ends_with_the_same_bits_alone_and_in_company_in_chunks_of_any_size(name):
    given = {"algorithm": ALGORITHMS[name], **SCALE}
    together = trained(list(range(COMPANY)), chunk=2, **given)
    seen = set(together[-1].unique().tolist())
    assert ({Event.NONE, Event.DIVERGED} if name == "MSGD" else {Event.CLIPPED, Event.GUARDED}) <= seen
    for m, chunk in ALONE:
        for ours, alone in zip(together, trained([m], chunk=chunk, **given), strict=True):
            assert torch.equal(ours[:, m].contiguous().view(torch.uint8), alone[:, 0].contiguous().view(torch.uint8))


@pytest.mark.parametrize("task", [Addition((10, 20)), NoiselessMemorization((4, 9), 2, 2), RandomPermutation(9)])
def test_outputs_streamed_in_windows_are_those_of_one_pass_to_the_bit_and_right(task):
    network = BasicTanh().parameters(Sizes(task.inputs, 11, task.outputs), [0, 1])
    batch = there(task.chunk(torch.arange(2), torch.arange(1), batch=45)[0])
    given = {"sigma": Tanh(), "loss": task.loss}
    there_, T = network.to(DEVICE), batch.inputs.shape[1]
    y, h = cuda.outputs(there_, batch, **given)
    exact = Batch(batch.inputs.cpu(), batch.targets.cpu(), batch.lengths)
    want = reference.gradients(network.to(torch.float64), exact, **given)
    torch.testing.assert_close(y.cpu().double(), want.outputs, rtol=0, atol=1e-5)
    torch.testing.assert_close(h.cpu().double(), want.states[:, -1], rtol=0, atol=1e-5)
    parts, state = [], None
    for start, stop in ((0, 4), (4, 5), (5, T)):
        lengths = (batch.lengths - start).clamp(0, stop - start)
        part = Batch(batch.inputs[:, start:stop], batch.targets, lengths)
        y_part, state = cuda.outputs(there_, part, h_0=state, **given)
        parts.append(y_part)
    assert torch.equal(state, h)
    assert torch.equal(torch.cat(parts, dim=1) if task.loss.every_step else parts[-1], y)


@pytest.mark.parametrize(("scale", "threshold"), [(1e20, 1.0), (1e20, 1e-25), (3e38, 1.0), (1e-30, 1e-30), (1.0, 9.0)])
def test_a_gradient_of_any_scale_is_clipped(scale, threshold):
    check_clipping(cuda, torch.float32, scale, threshold, DEVICE)


@pytest.mark.parametrize(("form", "w"), EDGES)
def test_forms_of_omega_are_right_where_n_or_d_is_zero_and_at_the_bound(form, w):
    check_edge(cuda, torch.float32, form, w, DEVICE)


def test_a_training_by_it_is_that_of_the_batched_engine(monkeypatch):
    task = NoiselessMemorization((2, 4), 2, 2)
    algorithm = Algorithm.named("MSGD-CR", learning_rate=0.1)
    few = {"check_sequences": 30, "confirm_sequences": 30}  # the interpreter takes a second for a thousand
    spec = rnnlab.Spec(task=task, algorithm=algorithm, units=6, batch=4, updates=3, check_every=2, stop="never", **few)
    with monkeypatch.context() as patch:
        patch.setattr(ensembles, "choose", lambda **_: batched)
        want = rnnlab.train(spec, seeds=1, device="cpu")
    if INTERPRETED:
        monkeypatch.setattr(ensembles, "choose", lambda **_: cuda)
    got = rnnlab.train(spec, seeds=1, device=DEVICE.type)
    assert got.attrs["engine"].startswith("cuda ")
    for name in ("loss", "norm", "omega", "error", "theta"):
        torch.testing.assert_close(torch.tensor(got[name].values), torch.tensor(want[name].values), rtol=0, atol=1e-5)


def test_what_the_kernel_does_not_know_is_refused_by_name():
    network, batch = random_case(1, 3, 2, 4, loss=Softmax())
    given = {"sigma": Linear(), "loss": Softmax()}
    with pytest.raises(ValueError, match="theta must be contiguous, in float32, on"):
        cuda.gradients(network.to(DEVICE), there(batch), **given)
    network = network.to(DEVICE, torch.float32)
    wide, batch = random_case(1, 2, 2, 129, loss=Softmax())
    with pytest.raises(ValueError, match=r"sizes must be at most 128 here, got .*units=129"):
        cuda.gradients(wide.to(DEVICE, torch.float32), there(batch), **given)
    wide, batch = random_case(1, 2, 1, 128, loss=Softmax())
    long = batch.inputs[:, :1].to(DEVICE).expand(1, 2**24, 1)
    with pytest.raises(ValueError, match="inputs must have at most 16777214 steps here, got 16777216"):
        cuda.outputs(wide.to(DEVICE, torch.float32), Batch(long, batch.targets.to(DEVICE), batch.lengths), **given)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("first_moment", lambda x: x.mT.contiguous().mT),
        ("second_moment", torch.Tensor.double),
        ("steps", torch.Tensor.int),
        ("h", lambda x: x.mT.contiguous().mT),
    ],
)
def test_a_state_that_the_kernel_cannot_go_on_from_is_refused_by_name(name, wrong):
    network = Parameters(torch.zeros(2, Sizes(4, 5, 3).P, device=DEVICE), Sizes(4, 5, 3))
    chunk = drawn_chunk(1, 2, 4, 3, loss=Softmax(), symbols=True, own=False, carried=True)
    state = AdamW().state(network) | {"h": torch.zeros(2, 3, 5, device=DEVICE)}
    given = {"sigma": Tanh(), "loss": Softmax(), "algorithm": AdamW(), "state": state | {name: wrong(state[name])}}
    with pytest.raises(ValueError, match=rf"state\['{name}'\] must be contiguous"):
        cuda.sgd(network, chunk_there(chunk), **given)


def test_what_the_kernels_know_is_theirs_and_all_else_is_for_the_batched_engine():
    given = {"sigma": Tanh(), "loss": Bernoulli(True, "sum"), "sizes": Sizes(6, 50, 4), "device": torch.device("cuda")}
    known = AdamW(clip=Norm(1.0), omega=Code(), noise=0.1, frozen=("b",))
    assert choose(algorithm=known, **given) is cuda
    assert choose(algorithm=known, **given | {"sizes": Sizes(6, 50, 4, Simple()), "sigma": None}) is cuda
    assert choose(algorithm=replace(known, penalties=(L2(0.1),)), **given) is batched
    assert choose(algorithm=known, **given | {"sizes": Sizes(6, 129, 4)}) is batched
    for cell in (Simple(learned_start=True), LSTM()):
        assert choose(algorithm=known, **given | {"sizes": Sizes(6, 50, 4, cell), "sigma": None}) is batched

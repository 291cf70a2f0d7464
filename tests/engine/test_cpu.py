"""The fused kernel: right against the reference, and the same bits in any company, order and number of threads."""

import functools
import itertools
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import Elementwise, ElementwiseSignal, Event, NoClip, Norm, Shrink, Skip
from rnnlab.descent.omega import Code
from rnnlab.descent.schedules import InverseTime
from rnnlab.engine import batched, reference
from rnnlab.engine.choosing import choose
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cpu import kernel
from rnnlab.network.cells import Sigmoid, Tanh
from rnnlab.network.inits import BasicTanh, SmartTanh
from rnnlab.network.losses import Softmax
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
    for omega, (symbols, mixed) in itertools.product(OMEGAS, [(True, False), (False, True), (True, True)]):
        case = random_case(M, T, B, N, loss=loss, symbols=symbols, mixed=mixed)
        network, exact, batch = in_float32(*case)
        h_0 = torch.full((M, B, N), 0.25) if mixed else None
        given = {"sigma": sigma, "loss": loss, "omega": omega, "alpha": 0.7}
        want = reference.gradients(exact, batch, h_0=None if h_0 is None else h_0.double(), **given)
        got = cpu.gradients(network, batch, h_0=h_0, **given)
        for name in ("theta", "states", "delta", "loss", "omega", "outputs"):
            right, ours = getattr(want, name), getattr(got, name).double()
            bound = EPSILON * (N + 6) * (T + 1) * max(1.0, right.abs().max().item())
            assert (ours - right).abs().max().item() <= bound, (name, omega, symbols, mixed)


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


@pytest.mark.parametrize("task", [TemporalOrder((10, 15)), Addition(12), NoiselessMemorization((3, 6), 2, 2)])
@pytest.mark.parametrize("clip", [NoClip(), Norm(0.1), Norm(0.1, Skip()), Elementwise(0.01), Elementwise(0.01, None)])
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


MIXED = TemporalOrder((45, 56))
UPDATES = 1_300


def naming_the_last_symbol(chunk):
    """The same sequences with an easier question, which a network learns in a few hundred updates."""
    K, M, _, B = chunk.inputs.shape
    last = (chunk.lengths - 1)[:, :, None, None].expand(K, M, 1, B)
    return replace(chunk, targets=chunk.inputs.gather(2, last) % 4)


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
        for first in range(0, updates, chunk):
            batches = naming_the_last_symbol(
                task.chunk(seeds, torch.arange(first, min(first + chunk, updates)), batch=5)
            )
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
    assert choose(algorithm=Algorithm(clip=ElementwiseSignal(1.0)), device=where, **given) is batched


def test_what_the_kernel_does_not_know_is_refused_by_name():
    network, batch = random_case(1, 3, 2, 4, loss=Softmax())
    with pytest.raises(ValueError, match="theta must be contiguous, in float32, on the CPU"):
        cpu.gradients(network, batch, sigma=Tanh(), loss=Softmax())
    with pytest.raises(ValueError, match="signal_threshold must be None here"):
        cpu.gradients(network.to(torch.float32), batch, sigma=Tanh(), loss=Softmax(), signal_threshold=1.0)


# What needs a process of its own

TRAIN = """
import rnnlab
spec = rnnlab.Spec(task=rnnlab.TemporalOrder(12), units=40, updates=20, check_every=20, check_sequences=20)
runs = rnnlab.train(spec, seeds=2)
print(runs.attrs["engine"], float(runs.loss.sum()), sep="|")
"""


def run(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "RNNLAB_CACHE": str(tmp_path), **environment}
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
    without = run(tmp_path, PATH=str(tmp_path / "empty"))
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
def test_other_instruction_sets_train_alike(instructions, tmp_path):
    here = torch.backends.cpu.get_cpu_capability()
    known = {"AVX512": ["avx512", "avx512vl", "avx2", "baseline"], "AVX2": ["avx2", "baseline"]}
    if instructions not in known.get(here, ["baseline"]):
        pytest.skip(f"needs a processor with {instructions}")
    there = run(tmp_path, RNNLAB_INSTRUCTIONS=instructions)
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

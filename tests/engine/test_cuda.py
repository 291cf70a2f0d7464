"""The fused GPU engine: its cases in Triton's interpreter here, and on a GPU where there is one."""

import importlib.metadata
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from packaging.version import Version

from rnnlab import TASKS, Spec, train
from rnnlab.descent.adaptive import Percentile
from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import Norm, Skip
from rnnlab.descent.omega import Code
from rnnlab.descent.schedules import InverseTime
from rnnlab.engine import batched, graphs
from rnnlab.engine.choosing import choose
from rnnlab.engine.cuda import fused as cuda
from rnnlab.network.cells import Tanh
from rnnlab.network.losses import Softmax
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.training import ensembles

ROOT = Path(__file__).parents[2]
CASES = "tests/engine/cuda_cases.py"
TRITON = importlib.metadata.version("triton") if sys.platform == "linux" else "0"
needs_triton = pytest.mark.skipif(TRITON == "0", reason="needs Triton, which is made for Linux")
# That of 3.6, which PyTorch 2.11 brings along, takes arrays of one number for numbers, as NumPy no longer does.
needs_interpreter = pytest.mark.skipif(Version(TRITON) < Version("3.7"), reason="needs the interpreter of Triton 3.7")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def run(*arguments, **environment):
    """The cases that `-k` chooses, in a pytest of their own; see `cuda_cases`."""
    command = [sys.executable, "-m", "pytest", "--noconftest", "-q", "-W", "ignore::RuntimeWarning", CASES, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def passed(done):
    """How many cases ran, all of which passed."""
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    return int(last.split(" passed")[0].split()[-1])


@needs_interpreter
@pytest.mark.parametrize(("chosen", "cases"), [("gradients_agree", 28), ("not gradients_agree", 60)])
def test_in_the_interpreter_the_kernels_do_what_the_reference_does(chosen, cases):
    assert passed(run("-k", chosen, TRITON_INTERPRET="1")) >= cases


@needs_gpu
def test_on_a_gpu_the_kernels_do_what_the_reference_does_in_all_combinations():
    assert passed(run("-n", "auto", TRITON_INTERPRET="0")) >= 3 * 3 * 4 * 3 * 7


@needs_triton
def test_the_type_checks_of_the_tests_leave_kernels_as_triton_reads_them():
    from triton.runtime import JITFunction

    from rnnlab import words
    from rnnlab.engine.cuda import kernels, passes

    found = [x for module in (words, passes, kernels) for x in vars(module).values() if isinstance(x, JITFunction)]
    assert len(found) > 10
    assert not [kernel for kernel in found if hasattr(kernel.fn, "__wrapped__")]


GIVEN = {"sigma": Tanh(), "loss": Softmax(), "sizes": Sizes(6, 50, 4), "device": torch.device("cuda")}


@needs_gpu
def test_on_a_gpu_the_engine_is_chosen_by_what_fits():
    assert choose(algorithm=Algorithm.named("MSGD-CR"), **GIVEN) is cuda
    assert choose(algorithm=Algorithm(clip=Percentile()), **GIVEN) is batched
    assert choose(algorithm=Algorithm(), **GIVEN | {"sizes": Sizes(6, 129, 4)}) is batched


SAID = """
import sys, warnings
{before}
import torch
from tests.engine.test_cuda import GIVEN, choose, Algorithm
for name in ("MSGD", "MSGD-CR"):
    print(choose(algorithm=Algorithm.named(name), **GIVEN).describe(50))
"""


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("sys.modules['triton'] = None", "Triton is not installed"),
        ("import os; os.environ.update(PATH='', CC='')", "Triton finds no C compiler"),
        ("import torch; torch.cuda.is_available = lambda: False", "PyTorch reaches no GPU"),
    ],
)
def test_without_triton_a_compiler_or_a_gpu_one_warning_names_it_and_the_batched_engine_is_chosen(before, reason):
    code = SAID.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["batched", "batched"]
    assert done.stderr.count(reason) == 1
    assert "training by the batched engine instead of the fused one, slower" in done.stderr


def started(task, members):
    sizes = Sizes(task.inputs, 6, task.outputs)
    return torch.randn(members, sizes.P, generator=torch.Generator().manual_seed(1)) * 0.4, sizes


CHUNKS = [TASKS["temporal order"]((10, 15)), TASKS["addition"](12), TASKS["noiseless memorization"]((3, 6), 2, 2)]


@pytest.mark.parametrize("task", CHUNKS, ids=lambda task: task.name)
def test_an_update_made_for_capture_is_the_batched_engines(task, monkeypatch):
    """What a graph replays: no number read back, one length for all, alpha a tensor. Here it runs uncaptured."""
    algorithm = Algorithm(learning_rate=0.1, clip=Norm(0.1, Skip()), omega=Code(), alpha=InverseTime(0.5, period=2))
    start, sizes = started(task, 3)
    chunk = task.chunk(torch.arange(3), torch.arange(9), batch=4)
    given = {"sigma": Tanh(), "loss": task.loss, "algorithm": algorithm, "first_update": 1}
    plain, captured = Parameters(start.double(), sizes), Parameters(start.double(), sizes)
    want = batched.sgd(plain, chunk, **given)
    monkeypatch.setattr(batched, "_captured", lambda chunk, rules, theta: True)
    monkeypatch.setattr(batched, "Replay", lambda call, *arguments, changed: call)
    got = batched.sgd(captured, chunk, **given)
    torch.testing.assert_close(captured.theta, plain.theta, rtol=1e-12, atol=1e-12)
    for name in ("loss", "norm", "omega", "events"):
        torch.testing.assert_close(getattr(got, name).double(), getattr(want, name).double(), rtol=1e-10, atol=1e-12)


@needs_gpu
@pytest.mark.parametrize("task", CHUNKS, ids=lambda task: task.name)
def test_on_a_gpu_a_captured_update_is_the_batched_engines(task, monkeypatch):
    assert batched.Replay is graphs.Replay
    algorithm = Algorithm(learning_rate=0.1, clip=Norm(0.1), omega=Code(), alpha=InverseTime(0.5, period=2))
    start, sizes = started(task, 3)
    device = torch.device("cuda")
    chunk = task.chunk(torch.arange(3, device=device), torch.arange(9, device=device), batch=4)
    chunk = type(chunk)(chunk.inputs, chunk.targets, chunk.lengths.cpu())
    given = {"sigma": Tanh(), "loss": task.loss, "algorithm": algorithm, "first_update": 1}
    captured, plain = (Parameters(start.double().to(device), sizes) for _ in range(2))
    got = batched.sgd(captured, chunk, **given)
    monkeypatch.setattr(batched, "_captured", lambda chunk, rules, theta: False)
    want = batched.sgd(plain, chunk, **given)
    torch.testing.assert_close(captured.theta, plain.theta, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got.loss, want.loss, rtol=1e-10, atol=1e-12)


def test_captures_by_several_threads_follow_each_other_each_on_a_stream_of_its_own(monkeypatch):
    """As PyTorch asks for: one in a process at a time. Here what stands for a capture looks whether it is alone."""
    alone, streams = threading.Lock(), []

    @contextmanager
    def capture(_, *, stream, capture_error_mode):
        assert alone.acquire(blocking=False), "two captures at once"
        streams.append(stream)
        time.sleep(0.01)
        yield
        alone.release()

    for name in ("Stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: MagicMock())
    for name in ("current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "graph", capture)
    x = torch.zeros(3)
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(graphs.Replay, lambda x: (x + 1,), x, changed=[x]) for _ in range(8)]
    assert all(isinstance(one.result(), graphs.Replay) for one in made)
    assert len(set(map(id, streams))) == 8


@needs_gpu
def test_on_a_gpu_trainings_by_graphs_in_several_threads_are_those_of_one(monkeypatch):
    monkeypatch.setattr(ensembles, "choose", lambda **_: batched)
    specs = [Spec(task=TASKS["temporal order"](10), units=5 + i, updates=200) for i in range(8)]

    def theta(spec):
        with torch.cuda.stream(torch.cuda.Stream()):
            return train(spec, seeds=3, device="cuda", progress=False)["theta"].values

    want = [*map(theta, specs)]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(np.array_equal, pool.map(theta, specs), want))

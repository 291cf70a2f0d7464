"""The fused kernel under AddressSanitizer and UndefinedBehaviorSanitizer, on small jobs of every kind and odd size."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("c++") or shutil.which("g++")
JOBS = 75


def exercise(jobs):
    """Gradients, updates and outputs of random small networks; returns how many sums were finite."""
    import random

    import torch

    from rnnlab import Algorithm, Elementwise, InverseTime, NoClip, Norm, Shrink, Skip
    from rnnlab.engine.cpu import fused as cpu
    from rnnlab.tasks.task import Chunk
    from tests.engine.test_cpu import DEMANDING, NINE, in_float32, some
    from tests.engine.test_gradients import LOSSES, OMEGAS, SIGMAS, random_case

    draw, finite = random.Random(0), 0
    for number in range(jobs):
        # From 32 units on the kernel is another, compiled for the number of units: 33 to 40 share one.
        N = draw.choice([draw.randint(1, 31), draw.randint(33, 40)])
        M, T, B = draw.choice([1, 1, 2]), draw.choice([1, 2, 3, 5, 9]), draw.choice([1, 2, 3, 4, 5, 7, 17])
        loss, sigma, omega = LOSSES[number % 3], SIGMAS[number // 3 % 3], OMEGAS[number // 9 % 4]
        kind = {"symbols": draw.random() < 0.5, "mixed": draw.random() < 0.5, "I": draw.randint(1, 9)}
        network, batch = random_case(M, T, B, N, loss=loss, **kind, O=draw.randint(1, 9))
        network, _, batch = in_float32(network, batch)
        h_0 = torch.rand(M, B, N) if draw.random() < 0.5 else None
        g = cpu.gradients(network, batch, sigma=sigma, loss=loss, omega=omega, alpha=0.5, h_0=h_0)
        cpu.outputs(network, batch, sigma=sigma, loss=loss, h_0=h_0)
        clip = draw.choice([NoClip(), Norm(0.1), Norm(0.1, Skip()), Norm(1.0, Shrink()), Elementwise(0.01)])
        algorithm = Algorithm(learning_rate=draw.choice([0.1, 1e30]), clip=clip, omega=omega, alpha=InverseTime(1.0))
        K = draw.randint(1, 4)
        chunk = Chunk(*(torch.stack([x] * K) for x in (batch.inputs, batch.targets, batch.lengths)))
        cpu.sgd(network, chunk, sigma=sigma, loss=loss, algorithm=algorithm)
        finite += bool(g.theta.isfinite().all())
        # Sequences of their own lengths that go on, and methods that remember.
        loss = NINE[number % 9]
        network, chunk = some(K, M, T, B, N, loss=loss, symbols=kind["symbols"], I=kind["I"], O=draw.randint(1, 20))
        cpu.gradients(network, chunk[0], sigma=sigma, loss=loss, omega=omega, alpha=0.5, h_0=h_0)
        cpu.outputs(network, chunk[0], sigma=sigma, loss=loss, h_0=h_0)
        algorithm, seeds = draw.choice([*DEMANDING.values()]), torch.arange(M) + 2**40
        cpu.sgd(network, chunk, sigma=sigma, loss=loss, algorithm=algorithm, first_update=2**33, seeds=seeds)
    return finite


def overrun():
    """Have the kernel read one step beyond its inputs, which it must not be told to."""

    from rnnlab import Softmax, Tanh
    from rnnlab.engine import contract
    from rnnlab.engine.cpu import fused as cpu
    from tests.engine.test_cpu import in_float32
    from tests.engine.test_gradients import random_case

    for check in [name for name in vars(contract) if name.startswith("check")]:
        setattr(contract, check, lambda *_, **__: None)
    network, _, batch = in_float32(*random_case(1, 4, 3, 5, loss=Softmax(), symbols=False))
    batch.lengths[0] = 5
    cpu.outputs(network, batch, sigma=Tanh(), loss=Softmax())


def sanitized(code, cache):
    """Run Python code with the sanitizers' runtime loaded first, and the kernel compiled with them."""
    wrapper = cache / "c++"
    flags = "-O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover"
    wrapper.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {COMPILER} "$@" {flags}\n')
    wrapper.chmod(0o755)
    runtime = subprocess.run([COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = os.environ | {
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "CXX": str(wrapper),
        "RNNLAB_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", f"from tests.engine.test_sanitizers import *; print({code})"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs GCC or Clang on Linux")
def test_no_job_of_the_kernel_touches_memory_or_computes_what_it_must_not(tmp_path):
    run = sanitized(f"exercise({JOBS})", tmp_path)
    assert run.returncode == 0, run.stderr[-4000:]
    assert int(run.stdout) > JOBS * 0.9
    assert len(list((tmp_path / "rnnlab").glob("kernel-*.so"))) == 2
    caught = sanitized("overrun()", tmp_path)
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in caught.stderr
    assert "kernel.cpp" in caught.stderr

"""The fused kernel on an Arm processor, emulated: some tests of `test_cpu` once more, with NEON's tiles."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from threading import Lock

import pytest

from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cpu import kernel
from rnnlab.network.losses import Bernoulli
from rnnlab.tasks.pathological import NoiselessMemorization, TemporalOrder
from tests.engine import test_cpu
from tests.engine.test_gradients import LOSSES, SIGMAS

COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
POINTERS = [name for name, kind in kernel.Job._fields_ if kind is ctypes.c_void_p and name != "space"]

pytestmark = pytest.mark.skipif(not (COMPILER and EMULATOR), reason="needs aarch64-linux-gnu-g++ and qemu-aarch64")


def extents(job, kind):
    """Bytes behind each pointer of a job; 0 where there is none."""
    whole, outputs = job.K - 1, (job.T if job.every_step else 1) * job.B
    number, target = job.symbols or 4 * job.I, job.classes or 4 * job.O
    theta = 4 * (job.N * (job.N + job.I + 1 + job.O) + job.O)
    states = 4 * job.B * job.N * (job.T + 1 if kind == "train" else 1)
    traces = whole * job.trace_stride + 1
    found = {
        "theta": theta,
        "inputs": whole * job.input_stride * (job.symbols or 4) + job.T * job.B * number,
        "targets": whole * job.target_stride * (job.classes or 4) + outputs * target,
        "lengths": 8 * (whole * job.length_stride + (job.B if job.each_length else 1)),
        "alpha": 4 * job.K,
        "loss_out": 4 * traces,
        "norm_out": 4 * traces,
        "omega_out": 4 * traces,
        "events": traces,
        "h_0": 4 * job.B * job.N,
        "begins": whole * job.begin_stride + job.B,
        "ends": 4 * job.B * job.N,
        "first_moment": theta,
        "second_moment": theta,
        "steps": 8,
        "seed": 8,
        "gradient": theta,
        "states": states,
        "delta": states,
        "outputs": 4 * outputs * job.O,
    }
    return [found[name] if getattr(job, name) else 0 for name in POINTERS]


class Emulated:
    """What `kernel.library` returns, for a processor that is not here."""

    def __init__(self, folder: Path, width: int) -> None:
        made, source = folder / f"kernel-{width}", Path(__file__).with_name("emulated.cpp")
        other = {
            "-mcpu=native": ["-mcpu=neoverse-n1"],
            "-shared": ["-static"],
            "-fPIC": [f'-DKERNEL="{kernel.SOURCE}"'],
        }
        other[str(kernel.SOURCE)] = [str(source)]
        command = [word for part in kernel._command(COMPILER, made, width) for word in other.get(part, [part])]
        subprocess.run(command, check=True)
        self.process = subprocess.Popen([EMULATOR, str(made)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lock, self.jobs = Lock(), 0

    def run(self, kind, reference):
        """Send a job with what it points to, and put what comes back where it was."""
        job = reference._obj
        sizes = extents(job, kind)
        places = [getattr(job, name) for name in POINTERS]
        with self.lock:
            self.jobs += 1
            self.process.stdin.write(kind[:1].encode() + bytes(job) + bytes((ctypes.c_int64 * len(sizes))(*sizes)))
            for place, size in zip(places, sizes, strict=True):
                self.process.stdin.write(ctypes.string_at(place, size) if size else b"")
            self.process.stdin.flush()
            for place, size in zip(places, sizes, strict=True):
                back = self.process.stdout.read(size)
                assert len(back) == size
                ctypes.memmove(place or 0, back, size)

    def rnnlab_train(self, job):
        """Updates, or a gradient."""
        self.run("train", job)

    def rnnlab_respond(self, job):
        """Outputs."""
        self.run("respond", job)

    def rnnlab_train_space(self, job):
        """None here: the workspace is over there."""
        return 0

    rnnlab_respond_space = rnnlab_train_space


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Emulated kernels by the width they are compiled for."""
    started = {}
    yield tmp_path_factory.mktemp("arm"), started
    for machine in started.values():
        machine.process.communicate(timeout=60)
        assert machine.process.returncode == 0


@pytest.fixture(autouse=True)
def emulated(machines, monkeypatch):
    """The fused engine, on the emulated processor."""
    folder, started = machines
    monkeypatch.setenv("RNNLAB_INSTRUCTIONS", "neon")

    def library(units):
        width = kernel.width(units)
        if width not in started:
            started[width] = Emulated(folder, width)
        return started[width]

    monkeypatch.setattr(cpu, "library", library)
    yield started
    assert sum(machine.jobs for machine in started.values())


@pytest.mark.parametrize("shape", ["wide"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("sigma", SIGMAS, ids=lambda sigma: type(sigma).__name__)
def test_on_arm_the_kernel_agrees_with_the_reference_to_rounding(shape, loss, sigma):
    test_cpu.test_the_kernel_agrees_with_the_reference_to_rounding(shape, loss, sigma)


def test_on_arm_large_networks_agree_too():
    test_cpu.test_large_networks_agree_too()


@pytest.mark.parametrize("loss", test_cpu.NINE, ids=repr)
def test_on_arm_sequences_of_their_own_lengths_agree_with_the_reference(loss):
    test_cpu.test_sequences_of_their_own_lengths_that_go_on_agree_with_the_reference_to_rounding("wide", loss)


@pytest.mark.parametrize("algorithm", test_cpu.DEMANDING.values(), ids=test_cpu.DEMANDING)
def test_on_arm_demanding_updates_are_those_of_the_reference(algorithm):
    test_cpu.test_demanding_updates_are_those_of_the_reference(Bernoulli(every_step=True), algorithm, goes_on=True)


@pytest.mark.parametrize("task", [TemporalOrder((10, 15)), NoiselessMemorization((3, 6), 2, 2)])
@pytest.mark.parametrize("clip", [test_cpu.Norm(0.1), test_cpu.Elementwise(0.01, None)])
def test_on_arm_its_updates_are_those_of_the_batched_engine(task, clip):
    test_cpu.test_its_updates_are_those_of_the_batched_engine(task, clip)


@pytest.mark.parametrize("sigma", [test_cpu.Tanh(), test_cpu.Sigmoid()])
def test_on_arm_units_are_right_in_saturation(sigma):
    test_cpu.test_units_are_right_in_saturation_and_keep_what_is_not_a_number(sigma)


def test_on_arm_a_gradient_that_is_not_a_number_fires_the_guard():
    test_cpu.test_a_gradient_that_is_not_a_number_fires_the_guard()


def test_what_runs_is_arms_code(emulated):
    test_cpu.test_outputs_streamed_in_windows_are_those_of_one_pass_to_the_bit(NoiselessMemorization((4, 9), 2, 2))
    for machine in emulated.values():
        header = Path(machine.process.args[1]).read_bytes()[:20]
        assert (header[:4], int.from_bytes(header[18:20], "little")) == (b"\x7fELF", 183)

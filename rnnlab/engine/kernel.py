"""The fused kernel: compiled by the machine's own compiler on first use, kept for the next, and loaded."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernel.cpp")


class NoCompilerError(RuntimeError):
    """The kernel cannot be compiled or loaded here; the message names what is missing."""


class Job(ctypes.Structure):
    """What the kernel is told: the same fields, in the same order, as `Job` in kernel.cpp."""

    _fields_ = (
        [(name, ctypes.c_int32) for name in ("N", "I", "O", "B", "T", "K", "symbols")]
        + [(name, ctypes.c_int32) for name in ("sigma", "loss", "omega", "clip", "guard")]
        + [(name, ctypes.c_float) for name in ("threshold", "guard_factor", "guard_limit", "rate", "bound")]
        + [(name, ctypes.c_int64) for name in ("input_stride", "target_stride", "trace_stride")]
        + [(name, ctypes.c_void_p) for name in ("theta", "inputs", "targets", "lengths", "alpha")]
        + [(name, ctypes.c_void_p) for name in ("loss_out", "norm_out", "omega_out", "events")]
        + [(name, ctypes.c_void_p) for name in ("h_0", "gradient", "states", "delta", "outputs", "space")]
    )


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise NoCompilerError("no C++ compiler (c++, g++ or clang++) is on the PATH")


def instruction_set() -> str:
    """The vector instructions that the kernel is compiled for: "avx512", "avx2", "neon" or "baseline"."""
    asked = os.environ.get("RNNLAB_INSTRUCTIONS", "")
    capability = torch.backends.cpu.get_cpu_capability().lower()
    if platform.machine() in ("aarch64", "arm64"):
        return "neon"
    return asked or {"avx512": "avx512", "avx2": "avx2"}.get(capability, "baseline")


# Lanes of a vector, vectors and rows of a register tile: as many sums at once as registers hold.
_TILES = {"avx512": (16, 4, 5), "avx2": (8, 2, 5), "neon": (4, 4, 5), "baseline": (4, 2, 4)}
_TARGETS = {"avx512": ["-march=native"], "avx2": ["-march=x86-64-v3"], "neon": ["-mcpu=native"], "baseline": []}


def _command(compiler: str, target: Path) -> list[str]:
    instructions = instruction_set()
    lanes, panel, rows = _TILES[instructions]
    return [
        compiler,
        "-std=c++17",
        "-O3",
        *_TARGETS[instructions],
        "-ffp-contract=fast",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-shared",
        "-fPIC",
        f"-DLANES={lanes}",
        f"-DPANEL={panel}",
        f"-DROWS={rows}",
        str(SOURCE),
        "-o",
        str(target),
    ]


def _cache() -> Path:
    base = os.environ.get("RNNLAB_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rnnlab"


@functools.cache
def kernel_hash() -> str:
    """Name of the compiled kernel: a hash of source, command, compiler and machine."""
    compiler = _compiler()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    parts = [SOURCE.read_text(), *_command(compiler, Path("kernel.so")), version, platform.machine(), _processor()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What -march=native may depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


@functools.cache
def library() -> ctypes.CDLL:
    """The kernel, compiled if this machine has not yet done so.

    Processes that compile at once do not harm each other: each writes a file of its own and renames it.

    Raises:
        NoCompilerError: there is no compiler, or it fails; the message says what it said.
    """
    path = _cache() / f"kernel-{kernel_hash()}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / "kernel.so"
            run = subprocess.run(_command(_compiler(), made), capture_output=True, text=True, check=False)
            if run.returncode:
                raise NoCompilerError(f"the C++ compiler failed: {run.stderr.strip()[-500:]}")
            os.replace(made, path)
    loaded = ctypes.CDLL(str(path))
    for name in ("train", "respond"):
        getattr(loaded, f"rnnlab_{name}").restype = None
        getattr(loaded, f"rnnlab_{name}_space").restype = ctypes.c_int64
    return loaded

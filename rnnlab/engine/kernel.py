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


# Lanes of a vector, vectors and rows of a register tile: as many sums at once as registers hold. Zen 4 takes a vector
# of 512 bits in two halves, so that there eight lanes, which pad 50 units to 56 and not to 64, are the faster ones.
_TILES = {"avx512": (16, 4, 5), "avx512vl": (8, 4, 5), "avx2": (8, 2, 5), "neon": (4, 4, 5), "baseline": (4, 2, 4)}
# GCC's own tuning for Zen costs a tenth.
_NATIVE = ["-march=native", "-mtune=generic"]
_TARGETS = {
    "avx512": _NATIVE,
    "avx512vl": [*_NATIVE, "-mprefer-vector-width=256"],
    "avx2": ["-march=x86-64-v3"],
    "neon": ["-mcpu=native"],
    "baseline": [],
}
_SPECIALIZED = 32  # units from which on a kernel is compiled for their number: below, time goes elsewhere


def instruction_set() -> str:
    """The vector instructions that the kernel is compiled for: "avx512", "avx512vl", "avx2", "neon" or "baseline".

    Raises:
        ValueError: the environment's `RNNLAB_INSTRUCTIONS` is none of these.
    """
    asked = os.environ.get("RNNLAB_INSTRUCTIONS")
    if asked and asked not in _TILES:
        raise ValueError(f"RNNLAB_INSTRUCTIONS must be one of {list(_TILES)}, got {asked!r}")
    if asked:
        return asked
    if platform.machine() in ("aarch64", "arm64"):
        return "neon"
    capability = torch.backends.cpu.get_cpu_capability().lower()
    if capability == "avx512" and {"AuthenticAMD", "25"} <= _processor().keys():
        return "avx512vl"
    return capability if capability in _TILES else "baseline"


def width(units: int) -> int:
    """What rows of so many units are padded to in a kernel that is compiled for just that; 0: in the kernel for any."""
    lanes = _TILES[instruction_set()][0]
    return -(-units // lanes) * lanes if units >= _SPECIALIZED else 0


def _command(compiler: str, target: Path, width: int) -> list[str]:
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
        "-fopenmp-simd",
        "-shared",
        "-fPIC",
        f"-DLANES={lanes}",
        f"-DPANEL={panel}",
        f"-DROWS={rows}",
        f"-DWIDTH={width}",
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
    command = [word for word in _command(compiler, Path("kernel.so"), 0) if word != str(SOURCE)]
    parts = [SOURCE.read_text(), *command, version, platform.machine()]
    return hashlib.sha256("\0".join([*parts, *sorted(_processor())]).encode()).hexdigest()[:16]


def _processor() -> dict[str, str]:
    """What -march=native may depend on: values of /proc/cpuinfo, each with its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {platform.processor(): "processor"}
    named = (line.partition(":")[::2] for line in lines)
    kept = ("vendor_id", "cpu family", "model name", "flags", "Features")
    return {value.strip(): name.strip() for name, value in named if name.strip() in kept}


@functools.cache
def _library(width: int) -> ctypes.CDLL:
    path = _cache() / f"kernel-{kernel_hash()}-{width}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / "kernel.so"
            run = subprocess.run(_command(_compiler(), made, width), capture_output=True, text=True, check=False)
            if run.returncode:
                raise NoCompilerError(f"the C++ compiler failed: {run.stderr.strip()[-500:]}")
            os.replace(made, path)
    loaded = ctypes.CDLL(str(path))
    for name in ("train", "respond"):
        getattr(loaded, f"rnnlab_{name}").restype = None
        getattr(loaded, f"rnnlab_{name}_space").restype = ctypes.c_int64
    return loaded


def library(units: int) -> ctypes.CDLL:
    """The kernel for so many units, compiled if this machine has not yet done so.

    Processes that compile at once do not harm each other: each writes a file of its own and renames it.

    Raises:
        NoCompilerError: there is no compiler, or it fails; the message says what it said.
    """
    return _library(width(units))

"""The fused kernel: compiled by the machine's own compiler on first use, kept for the next, and loaded."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import signal
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any

import torch

from rnnlab.machine import processor, say
from rnnlab.naming import digest

SOURCE = Path(__file__).with_name("kernel.cpp")
_PATIENCE = 120  # seconds after which a compiler hangs
_STALE = 3_600  # seconds after which nobody compiles into a temporary folder any more
_SCRATCH = "rnnlab-compiling-"


class NoCompilerError(RuntimeError):
    """The kernel cannot be compiled or loaded here; the message names what is missing."""


class Job(ctypes.Structure):
    """What the kernel is told: the same fields, in the same order, as `Job` in kernel.cpp."""

    _fields_ = (
        [(name, ctypes.c_int32) for name in ("N", "I", "O", "B", "T", "K", "symbols", "classes")]
        + [(name, ctypes.c_int32) for name in ("sigma", "loss", "method", "omega", "clip", "guard")]
        + [(name, ctypes.c_int32) for name in ("every_step", "over_steps", "each_length", "frozen")]
        + [(name, ctypes.c_float) for name in ("threshold", "guard_factor", "guard_limit", "rate", "bound")]
        + [(name, ctypes.c_float) for name in ("noise", "eps", "decay", "signal")]
        + [(name, ctypes.c_double) for name in ("beta1", "beta2")]
        + [(f"{name}_stride", ctypes.c_int64) for name in ("input", "target", "length", "begin", "trace")]
        + [("first_update", ctypes.c_int64)]
        + [(name, ctypes.c_void_p) for name in ("theta", "inputs", "targets", "lengths", "alpha")]
        + [(name, ctypes.c_void_p) for name in ("loss_out", "norm_out", "omega_out", "events")]
        + [(name, ctypes.c_void_p) for name in ("h_0", "begins", "ends")]
        + [(name, ctypes.c_void_p) for name in ("first_moment", "second_moment", "steps", "seed")]
        + [(name, ctypes.c_void_p) for name in ("gradient", "states", "delta", "outputs", "space")]
    )


def _words(command: str) -> list[str]:
    """A compiler and its flags."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise NoCompilerError(f"CXX must be a command, got {command!r}: {error}") from None


def _compiler() -> str:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if shutil.which("".join(_words(name)[:1])):
            return name
    raise NoCompilerError("no C++ compiler (c++, g++ or clang++) is on the PATH")


# Lanes of a vector, vectors and rows of a register tile: as many sums at once as registers hold. Zen 4 takes a vector
# of 512 bits in two halves, so that there eight lanes, which pad 50 units to 56 and not to 64, are the faster ones.
_TILES = {"avx512": (16, 4, 5), "avx512vl": (8, 4, 5), "avx2": (8, 2, 5), "neon": (4, 4, 5), "baseline": (4, 2, 4)}
# GCC's own tuning for Zen costs a tenth.
_NATIVE = ["-march=native", "-mtune=generic"]
_TARGETS = {"avx512": _NATIVE, "avx512vl": [*_NATIVE, "-mprefer-vector-width=256"], "avx2": ["-march=x86-64-v3"]}
_TARGETS |= {"neon": ["-mcpu=native"], "baseline": []}
_FLAGS = ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-shared", "-fPIC"]
_SPECIALIZED = 32  # units from which on a kernel is compiled for their number: below, time goes elsewhere


def instruction_set() -> str:
    """The vector instructions that the kernel is compiled for: "avx512", "avx512vl", "avx2", "neon" or "baseline".

    Raises:
        ValueError: the environment's `RNNLAB_INSTRUCTIONS` is none of these.
    """
    if asked := os.environ.get("RNNLAB_INSTRUCTIONS"):
        if asked not in _TILES:
            raise ValueError(f"RNNLAB_INSTRUCTIONS must be one of {list(_TILES)}, got {asked!r}")
        return asked
    if platform.machine() in ("aarch64", "arm64"):
        return "neon"
    capability = torch.backends.cpu.get_cpu_capability().lower()
    if capability == "avx512" and [processor().get(k) for k in ("vendor_id", "cpu family")] == ["AuthenticAMD", "25"]:
        return "avx512vl"
    return capability if capability in _TILES else "baseline"


def width(units: int) -> int:
    """What rows of so many units are padded to in a kernel that is compiled for just that; 0: in the kernel for any."""
    lanes = _TILES[instruction_set()][0]
    return -(-units // lanes) * lanes if units >= _SPECIALIZED else 0


def _command(compiler: str, target: Path, width: int) -> list[str]:
    lanes, panel, rows = _TILES[instruction_set()]
    flags = ["-std=c++17", "-O3", *_TARGETS[instruction_set()], *_FLAGS]
    sizes = [f"-DLANES={lanes}", f"-DPANEL={panel}", f"-DROWS={rows}", f"-DWIDTH={width}"]
    return [*_words(compiler), *flags, *sizes, str(SOURCE), "-o", str(target)]


def _ran(command: list[str], folder: Path) -> str:
    """What a compiler says; what it has started ends with it, after a while or when we are interrupted."""
    given: dict[str, Any] = {"env": {**os.environ, "LC_ALL": "C"}, "errors": "replace", "start_new_session": True}
    try:
        with Popen(command, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, **given) as process:
            try:
                said, complaint = process.communicate(timeout=_PATIENCE)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            raise OSError(complaint.strip()[-500:] or f"{command[0]} ended with status {process.returncode}")
    except (OSError, TimeoutExpired) as error:
        raise NoCompilerError(f"the C++ compiler failed: {error}") from error
    return said


def _key() -> str:
    """What a kernel is made of and for, whichever compiler makes it: source, flags, machine and processor."""
    flags = [word for word in _command("", Path("kernel.so"), 0) if word != str(SOURCE)]
    flags += _words(os.environ.get("CXX", ""))[1:]
    named = processor() or {"model name": platform.processor()}
    decisive = ("Features", "cpu family", "flags", "model name", "vendor_id")  # for -march=native
    parts = [SOURCE.read_text(encoding="utf8"), *flags, platform.machine()]
    return digest("\0".join([*parts, *(f"{name}: {named[name]}" for name in decisive if name in named)]), 10)


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _cache() -> Path:
    """The folder of kernels, which need not be there.

    Raises:
        OSError: others may write to it, and what they write would be executed.
        RuntimeError: there is no home that it could be in.
    """
    base = os.environ.get("RNNLAB_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "rnnlab"
    if folder.exists() and not _ours(folder):
        raise PermissionError(f"{folder} belongs to another user, or all may write to it")
    return folder


def _ours(path: Path) -> bool:
    """Whether only we, or who owns the machine, can have written it."""
    state = path.stat()
    return state.st_uid in (0, os.geteuid()) and not state.st_mode & 0o002


def _kept(width: int) -> list[Path]:
    """Kernels of the cache that are what was once compiled; others are removed, with a warning."""
    found = []
    with suppress(OSError, RuntimeError):  # what is wrong is said once something is to be kept
        for path in sorted(_cache().glob(f"kernel-{_key()}??????-{width}-*.so")):
            if path.is_file() and _ours(path) and path.stem.endswith(_sum(path)):
                found.append(path)
            else:
                warnings.warn(f"{path} is damaged or another user's, and is not used", stacklevel=3)
                with suppress(OSError):
                    path.unlink()
    return found


def _keep(made: Path) -> Path:
    """Where a new kernel lies in the cache, written whole or not at all; where it is, with a warning, if that fails."""
    try:
        folder = _cache()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as aside:
            part = Path(shutil.copy(made, aside))
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            return part.replace(folder / made.name)
    except (OSError, RuntimeError) as reason:
        said = "each process compiles the kernel anew, since it cannot be kept (RNNLAB_CACHE names another folder)"
        warnings.warn(f"{said}: {reason}", stacklevel=3)
        return made


def _sweep() -> None:
    """Remove what compilations that were killed have left."""
    with suppress(OSError, RuntimeError):
        mine = f"{_SCRATCH}*"
        for path in (*Path(tempfile.gettempdir()).glob(mine), *_cache().glob(mine), *_cache().glob("tmp*")):
            if _ours(path) and time.time() - path.stat().st_mtime > _STALE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _compiled(width: int, folder: Path) -> Path:
    """A new kernel in this folder, with its name: what it is made of, by which compiler, its width and its sum."""
    compiler, made = _compiler(), folder / "kernel.so"
    version = _ran([*_words(compiler), "--version"], folder)
    _ran(_command(compiler, Path(made.name), width), folder)  # a full path might become a part of it
    if not made.is_file():
        raise NoCompilerError(f"the C++ compiler failed: {compiler} wrote nothing")
    return made.replace(folder / f"kernel-{_key()}{digest(version, 6)}-{width}-{_sum(made)}.so")


def _opened(path: Path) -> ctypes.CDLL | None:
    """The kernel in this file, or None if it cannot be loaded from there."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(str(path))
        for name in ("train", "respond"):
            getattr(library, f"rnnlab_{name}").restype = None
            getattr(library, f"rnnlab_{name}_space").restype = ctypes.c_int64
        return library
    return None


@functools.cache
def _library(width: int) -> tuple[ctypes.CDLL, Path]:
    """A kernel of this width, and the file that it is from."""
    kept = _kept(width)
    for path in kept:
        if library := _opened(path):
            return library, path
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as folder:
        for path in kept:  # there may be folders in which nothing is executed
            if library := _opened(Path(shutil.copy(path, folder))):
                return library, path
        say("compiling the kernel for networks of this size, once and for all, in a few seconds")
        made = _compiled(width, Path(folder))
        path = _keep(made)
        library = _opened(path) or _opened(made)
        if library is None:
            path.unlink()
            raise NoCompilerError(f"the C++ compiler failed: what {_compiler()} wrote cannot be loaded")
        return library, path


def kernel_hash(units: int) -> str:
    """Name of the kernel for so many units: a hash of source, command, machine and compiler."""
    return _library(width(units))[1].name.split("-")[1]


def library(units: int) -> ctypes.CDLL:
    """The kernel for so many units, compiled if this machine has not yet done so.

    A kernel that is kept needs no compiler, and is checked by its sum. Processes that compile at once do not harm each
    other: each writes a file of its own and renames it.

    Raises:
        NoCompilerError: there is no compiler, or it fails; the message says what it said.
    """
    return _library(width(units))[0]

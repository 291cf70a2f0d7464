"""The kernel's cache and compilers: whatever is wrong around them is one warning, and mends itself where it can."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from rnnlab.descent.algorithm import Algorithm
from rnnlab.engine import batched, choosing
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cpu import kernel
from rnnlab.network.cells import Tanh
from rnnlab.network.losses import Softmax
from rnnlab.network.parameters import Sizes

GIVEN = {"sigma": Tanh(), "loss": Softmax(), "sizes": Sizes(6, 9, 4), "device": torch.device("cpu")}
COPY = 'for last; do :; done; cp "{real}" "$last"'  # as quick as no compiler is
VERSION = '[ "$1" = --version ] && echo stub 1 && exit\n'


@pytest.fixture(scope="module")
def real():
    """A kernel that was compiled here."""
    return kernel._library(0)[1]


def forget():
    for cached in (kernel._library, choosing._works, choosing._without):
        cached.cache_clear()


@pytest.fixture
def compiler(tmp_path, monkeypatch, real):
    """Have a shell script compile, into a cache of this test's own."""

    def use(script):
        stub = tmp_path / "stub"
        stub.write_text("#!/bin/sh\n" + script.format(real=real, here=tmp_path))
        stub.chmod(0o755)
        monkeypatch.setenv("CXX", str(stub))
        forget()

    monkeypatch.setenv("RNNLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel.tempfile, "tempdir", str(tmp_path))
    use(VERSION + COPY)
    yield use
    forget()


@pytest.fixture
def cache(compiler, tmp_path):
    return tmp_path / "cache" / "rnnlab"


def chosen():
    """The engine, and what was said on the way."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = [choosing.choose(algorithm=Algorithm(), **GIVEN | {"sizes": Sizes(6, N, 4)}) for N in (9, 9, 10)]
    assert len(set(found)) == 1
    return found[0], [str(warning.message) for warning in said]


def test_a_kernel_is_kept_for_its_user_alone_and_needs_no_compiler_any_more(compiler, cache, monkeypatch):
    assert chosen() == (cpu, [])
    (kept,) = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    name = cpu.describe(9)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX")
    forget()
    assert chosen() == (cpu, [])
    assert cpu.describe(9) == name
    assert [*cache.iterdir()] == [kept]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "stub ended with status 1"),
        ("echo no such flag >&2; exit 1", "no such flag"),
        ("exit 0", "wrote nothing"),
        (VERSION + "for last; do :; done; echo garbage > $last", "cannot be loaded"),
        (VERSION + "for last; do :; done; head -c 5000 {real} > $last; exit 1", "stub ended with status 1"),
        (VERSION + "echo $$ > {here}/pid; sleep 60; exit 1", "timed out after"),
        (VERSION + "kill -9 $$", "stub ended with status -9"),
    ],
    ids=["fails", "complains", "writes nothing", "writes garbage", "writes half", "hangs", "is killed"],
)
def test_a_compiler_that_does_not_work_is_one_warning_and_the_batched_engine(
    script, reason, compiler, cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(kernel, "_PATIENCE", 0.5)
    compiler(script)
    began = time.monotonic()
    used, said = chosen()
    assert time.monotonic() - began < 30  # what the compiler has started does not keep us waiting either
    assert used is batched
    assert len(said) == 1
    assert "training by the batched engine instead of the fused one, slower: the C++ compiler failed: " in said[0]
    assert reason in said[0]
    if (pid := tmp_path / "pid").exists():
        time.sleep(0.1)
        assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    assert not cache.exists() or not [*cache.iterdir()]
    assert not [*tmp_path.glob(f"{kernel._SCRATCH}*")]
    monkeypatch.setattr(kernel, "_PATIENCE", 60)
    compiler(VERSION + COPY)  # mended
    assert chosen() == (cpu, [])


def test_a_compiler_may_be_named_with_arguments(compiler, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", f"sh {tmp_path / 'stub'}")
    assert chosen() == (cpu, [])
    assert len([*cache.iterdir()]) == 1
    monkeypatch.delenv("CXX")
    forget()
    assert kernel._kept(0) == []  # which other arguments might have made otherwise


@pytest.mark.parametrize("command", [" ", "'", "none-of-this-name -O3"])
def test_a_command_that_names_no_compiler_is_no_traceback(command, compiler, monkeypatch):
    monkeypatch.setenv("CXX", command)
    monkeypatch.setenv("PATH", "")
    forget()
    used, said = chosen()
    assert used is batched
    assert len(said) == 1


def test_what_is_no_file_is_not_read_for_a_kernel(compiler, cache):
    assert chosen() == (cpu, [])
    kept = kernel._library(0)[1]
    kept.unlink()
    os.mkfifo(kept)  # whoever reads it waits for ever
    forget()
    with pytest.warns(UserWarning, match="is damaged"):
        assert kernel._kept(0) == []


DAMAGED = """
import os, sys, warnings
from pathlib import Path
from rnnlab.engine.cpu import kernel
library, path = kernel._library(0)
sound, foreign = path.read_bytes(), Path(sys.executable).resolve().read_bytes()
half = len(sound) // 2
for damaged in (b"", sound[:100], sound[:half], sound[: half] + bytes(len(sound) - half), foreign, foreign[:half],
                bytes([sound[0] ^ 1]) + sound[1:], sound[:half] + bytes([sound[half] ^ 4]) + sound[half + 1 :]):
    path.unlink()
    path.write_bytes(damaged)
    kernel._library.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert kernel._library(0)[1] == path
    assert path.read_bytes() == sound
    print(*(str(warning.message).removeprefix(str(path)) for warning in said), sep="; ")
"""


def test_a_cached_kernel_that_is_not_what_was_compiled_is_compiled_anew_and_never_loaded(compiler, cache):
    done = subprocess.run([sys.executable, "-c", DAMAGED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [" is damaged or another user's, and is not used"] * 8
    assert len([*cache.iterdir()]) == 1


def nobody(name):
    raise KeyError(name)


@pytest.mark.parametrize("base", [None, "~unknown/here", "/proc/here", "{file}/here"])
def test_where_no_cache_can_be_the_kernel_is_compiled_with_one_warning(base, compiler, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name in ("HOME", "RNNLAB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if base:
        monkeypatch.setenv("RNNLAB_CACHE", base.format(file=tmp_path / "file"))
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    used, said = chosen()
    assert used is cpu
    assert len(said) == 1
    assert "cannot be kept (RNNLAB_CACHE names another folder)" in said[0]
    assert not [*tmp_path.glob(f"{kernel._SCRATCH}*")]


def test_a_home_is_meant_by_its_tilde(compiler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RNNLAB_CACHE", "~/kernels")
    assert chosen() == (cpu, [])
    assert [path.suffix for path in (tmp_path / "kernels" / "rnnlab").iterdir()] == [".so"]
    assert not (tmp_path / "~").exists()


def test_a_folder_that_is_read_only_serves_what_it_has(compiler, cache):
    assert chosen() == (cpu, [])
    cache.chmod(0o500)
    compiler("exit 1")
    assert chosen() == (cpu, [])


def test_a_folder_in_which_nothing_is_executed_serves_copies(compiler, cache, monkeypatch):
    opened = kernel._opened
    monkeypatch.setattr(kernel, "_opened", lambda path: None if path.parent == cache else opened(path))
    for _ in range(2):
        assert chosen() == (cpu, [])
        compiler("exit 1")
    assert len([*cache.iterdir()]) == 1


def owned_by_another(folder):
    os.chown(folder, 65_534, 65_534)


def writable_for_all(folder):
    folder.chmod(0o777)


@pytest.mark.parametrize("open_", [owned_by_another, writable_for_all])
def test_what_others_may_have_written_is_not_executed(open_, compiler, cache):
    if open_ is owned_by_another and os.geteuid() != 0:
        pytest.skip("needs to be root, who may give files away")
    assert chosen() == (cpu, [])
    name = cpu.describe(9)
    (kept,) = cache.iterdir()
    open_(kept)
    compiler('[ "$1" = --version ] && echo stub 2 && exit\n' + COPY)
    used, said = chosen()
    assert (used, len(said)) == (cpu, 1)
    assert "is damaged or another user's, and is not used" in said[0]
    assert cpu.describe(9) != name  # it is a new one
    open_(cache)
    held = [*cache.iterdir()]
    compiler('[ "$1" = --version ] && echo stub 3 && exit\n' + COPY)
    used, said = chosen()
    assert (used, len(said)) == (cpu, 1)
    assert f"{cache} belongs to another user, or all may write to it" in said[0]
    assert [*cache.iterdir()] == held


def test_a_compilation_that_is_killed_leaves_nothing_that_stays(compiler, cache, tmp_path):
    compiler(VERSION + "echo $$ > {here}/pid; sleep 60")
    program = "from rnnlab.engine.cpu import kernel; kernel.library(9)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    os.killpg(int(pid.read_text()), signal.SIGKILL)
    assert not cache.exists()
    (left,) = tmp_path.glob(f"{kernel._SCRATCH}*")
    cache.mkdir(parents=True)
    (before := cache / "tmpk3v2").mkdir()
    (fresh := cache / f"{kernel._SCRATCH}now").mkdir()  # another process compiles
    for path in (left, before):
        os.utime(path, (0, 0))
    compiler(VERSION + COPY)
    assert chosen() == (cpu, [])
    assert not left.exists()
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".so"]
    assert fresh.exists()


def test_a_kernel_has_the_same_name_in_every_checkout(tmp_path, compiler, cache):
    chosen()
    shutil.copytree(Path(choosing.__file__).parents[1], tmp_path / "rnnlab")
    program = "from rnnlab.engine.cpu import kernel; print(kernel.SOURCE, kernel.kernel_hash(9))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CXX": "false"}
    command = [sys.executable, "-c", program]
    there = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert there.stdout.split() == [str(tmp_path / "rnnlab" / "engine" / "cpu" / "kernel.cpp"), kernel.kernel_hash(9)]

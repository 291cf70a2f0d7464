"""What this machine is, and whether somebody looks at it."""

import contextlib
import functools
import importlib.util
import os
import shutil
import sys
from pathlib import Path


@functools.cache
def processor() -> dict[str, str]:
    """What the system says of the first core, by name; nothing where it says nothing."""
    told = Path("/proc/cpuinfo")
    first = told.read_text(encoding="utf8").split("\n\n")[0] if told.exists() else ""
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


@functools.cache
def triton_lacks() -> str | None:
    """What is not here that Triton needs to compile for a GPU, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return None if found else "Triton finds no C compiler, by CC, gcc or clang"


def in_notebook() -> bool:
    """Whether a notebook's kernel executes this."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def watched() -> bool:
    """Whether somebody looks: in a terminal or a notebook, but where `RNNLAB_BAR` is "off", as in published pages."""
    return os.environ.get("RNNLAB_BAR") != "off" and (sys.stderr.isatty() or in_notebook())


def say(line: str) -> None:
    """One line on the standard error for whoever looks."""
    if watched():
        print(f"rnnlab: {line}", file=sys.stderr, flush=True)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def give_way() -> None:
    """Have this process, and those that it starts, compute only when no other wants to.

    Linux shares processors among terminals first, whatever the priorities within each, so that the rest of this
    process's terminal gives way, too.
    """
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):  # a nice process still takes its small share
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")

"""For all tests: shapes and types of the package are checked at every call; in CI nothing is skipped lightly."""

import functools
import os
import signal
import sys
import types
import typing

import hypothesis
import jaxtyping
import pytest

# A busy machine is no finding.
hypothesis.settings.register_profile("rnnlab", deadline=None)
hypothesis.settings.load_profile("rnnlab")

# One thread a process, like the book's kernels: tests run side by side, and threads that wait for a core spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them are about.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _kinds(hint):
    """What a hint is made of."""
    return [hint, *(kind for part in typing.get_args(hint) for kind in _kinds(part))]


def _jaxtyped(function=None, **given):
    """jaxtyping's own, but of functions whose signature has no array: their types alone are checked, in half the time.

    It binds and checks each call twice, for the lengths of axes, and most calls have none.
    """
    if function is None:
        return functools.partial(_jaxtyped, **given)
    if isinstance(function, types.FunctionType):
        hints = [kind for hint in function.__annotations__.values() for kind in _kinds(hint)]
        if not any(isinstance(hint, str | typing.ForwardRef) or _is_array(hint) for hint in hints):
            return given["typechecker"](function)
    return JAXTYPED(function, **given)


def _is_array(hint) -> bool:
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


JAXTYPED, jaxtyping.jaxtyped = jaxtyping.jaxtyped, _jaxtyped
# Where a float is asked for, an integer will do.
jaxtyping.install_import_hook("rnnlab", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
# Triton compiles a kernel from its source, which a check around it would hide.
KERNELS = {"rnnlab.words", "rnnlab.engine.cuda.passes", "rnnlab.engine.cuda.kernels"}
_finder = sys.meta_path[0]
_finder.should_instrument = lambda name, checked=_finder.should_instrument: name not in KERNELS and checked(name)

IN_CI = os.environ.get("CI") == "true"
EXCUSES = "Skipped: needs a GPU", "Skipped: needs a processor", "Skipped: needs a corpus"  # nothing to be installed


def _fail_what_could_have_run(report) -> None:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.startswith(EXCUSES):
            report.outcome = "failed"
            report.longrepr = f"under CI a test may only be skipped for a GPU, a processor or a corpus; {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    _fail_what_could_have_run(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    _fail_what_could_have_run(report)
    return report

"""For all tests: shapes and types of the package are checked at every call; in CI nothing is skipped lightly."""

import os
import signal

import hypothesis
import pytest
from jaxtyping import install_import_hook

# A busy machine is no finding.
hypothesis.settings.register_profile("rnnlab", deadline=None)
hypothesis.settings.load_profile("rnnlab")

# One thread a process, like the book's kernels: tests run side by side, and threads that wait for a core spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them are about.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where a float is asked for, an integer will do.
install_import_hook("rnnlab", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

IN_CI = os.environ.get("CI") == "true"
EXCUSES = ("Skipped: needs a GPU", "Skipped: needs a corpus")  # which nothing that is installed brings


def _fail_what_could_have_run(report) -> None:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.startswith(EXCUSES):
            report.outcome = "failed"
            report.longrepr = f"under CI a test may be skipped only because it needs a GPU or a corpus; {reason}"


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

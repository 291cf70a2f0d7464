"""What the results of pages depend on, and the stamp that says when, with what and on what they were executed."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from rnnlab import execution


@pytest.fixture
def checkout(tmp_path) -> Path:
    for name in ("rnnlab/a.py", "rnnlab/engine/k.cpp", "book/results/long.json", "book/page.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", ["rnnlab/a.py", "rnnlab/engine/k.cpp", "book/results/long.json"])
def test_the_fingerprint_follows_the_sources_and_the_stored_results_and_comes_back_with_them(checkout, name):
    before = execution.fingerprint(checkout)
    (checkout / name).write_text("other")
    assert execution.fingerprint(checkout) != before
    (checkout / name).write_text(name)
    assert execution.fingerprint(checkout) == before
    (checkout / name).rename((checkout / name).with_name("renamed"))
    assert execution.fingerprint(checkout) != before


def test_the_fingerprint_follows_the_libraries_and_nothing_else(checkout, monkeypatch):
    before = execution.fingerprint(checkout)
    (checkout / "book" / "page.md").write_text("prose")
    (checkout / "rnnlab" / "__pycache__").mkdir()
    (checkout / "rnnlab" / "__pycache__" / "a.pyc").write_text("compiled")
    assert execution.fingerprint(checkout) == before
    monkeypatch.setattr(execution, "LIBRARIES", (*execution.LIBRARIES, "no-such-library"))
    assert execution.versions()["no-such-library"] == "absent"
    assert execution.fingerprint(checkout) != before


def test_a_stamp_says_when_with_what_and_on_what(checkout):
    said = execution.stamp(checkout)
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(said["executed"]) < timedelta(minutes=1)
    assert said["versions"]["torch"] == version("torch")
    assert said["versions"]["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert f"({execution.cores()} cores)" in said["machine"]
    assert os.uname().nodename not in said["machine"]


def test_a_stamp_names_the_commit_and_whether_there_were_changes(checkout):
    assert execution.stamp(checkout)["commit"] == ""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=checkout, check=True)
    commit = execution.stamp(checkout)["commit"]
    assert subprocess.check_output([*git, "rev-parse", "HEAD"], cwd=checkout, text=True).startswith(commit)
    (checkout / "rnnlab" / "a.py").write_text("other")
    assert execution.stamp(checkout)["commit"] == f"{commit} with changes"


def test_kernels_find_the_package_of_the_checkout_first(checkout, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    execution.prepare_kernels(checkout)
    execution.prepare_kernels(checkout)
    assert os.environ["PYTHONPATH"] == f"{checkout}{os.pathsep}elsewhere"
    assert os.environ["OMP_NUM_THREADS"] == "1"

"""What the results of pages depend on, and the stamp that says when, with what and on what they were executed."""

import ast
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from rnnlab import machine
from rnnlab.book import running
from tests.readers import HOSTILE, PROBE, environment

ROOT = Path(__file__).parents[2]

MODULE = """# A module.

import math

class Wide:
    \"\"\"Says what it is.\"\"\"

def area(r):
    \"\"\"Of a disc.\"\"\"
    return math.pi * r**2  # exactly
"""
FILES = {
    "rnnlab/a.py": MODULE,
    "rnnlab/engine/k.cpp": "int k;\n",
    "book/results/long.json": "{}\n",
    "book/results/long.summary": "\r\n",
    "book/claims.yml": "[]\n",
    "book/page.md": "prose\n",
    "book/2_part/beside.py": MODULE,
}
# The same program as MODULE, without a comment, in other words, on other lines, with the line ends of another system.
SAME = MODULE.replace("# A module.", "").replace("  # exactly", "").replace("Of a disc", "Of a circle\n\n")
SAME = SAME.replace('    """Says what it is."""', "    pass").replace("\n", "\r\n")
LITTER = (
    *("rnnlab/.tasks.py.swp", "rnnlab/tasks.py~", "rnnlab/#tasks.py#", "rnnlab/.#tasks.py", "rnnlab/.DS_Store"),
    *("rnnlab/.ipynb_checkpoints/a-checkpoint.py", "rnnlab/__pycache__/a.cpython-311.pyc", "rnnlab/notes.txt"),
    *("book/results/.DS_Store", "book/results/long.json~", "book/results/.ipynb_checkpoints/long.json"),
)


@pytest.fixture
def checkout(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rnnlab/a.py", MODULE.replace("r**2", "r**3")),
        ("rnnlab/a.py", "an unfinished ("),
        ("rnnlab/b.py", "new = 1"),
        ("rnnlab/a.mplstyle", "font.size: 10"),
        *((name, "other") for name in FILES if name not in ("rnnlab/a.py", "book/page.md")),
        ("book/results/long.summary", "\n"),
    ],
)
def test_the_fingerprint_follows_the_package_and_that_of_results_them_and_both_come_back(checkout, name, text):
    one, other = running.fingerprint, running.stored
    seen, still = (other, one) if name.startswith("book/results") else (one, other)
    before, apart = seen(checkout), still(checkout)
    (checkout / name).write_bytes(text.encode())
    assert seen(checkout) != before
    (checkout / name).write_bytes(FILES[name].encode()) if name in FILES else (checkout / name).unlink()
    assert seen(checkout) == before
    if name in FILES:
        (checkout / name).rename((checkout / name).with_stem("renamed"))
        assert seen(checkout) != before
    assert still(checkout) == apart


def test_the_fingerprint_is_of_what_files_say_and_of_no_editors_or_systems_own(checkout):
    before = running.fingerprint(checkout)
    for name in LITTER:
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_bytes(b"\x00b0VIM\xff")
    (checkout / "book" / "page.md").write_text("other prose")
    assert running.fingerprint(checkout) == before
    assert ast.dump(ast.parse(SAME)) != ast.dump(ast.parse(MODULE))
    (checkout / "rnnlab" / "a.py").write_bytes(SAME.encode())
    assert running.fingerprint(checkout) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(running, "LIBRARIES", (*running.LIBRARIES, "pytest")),
        lambda patch: patch.setattr(running, "processor", lambda: {"model name": "another"}),
        lambda patch: patch.setattr("platform.python_version", lambda: "4.0"),
        lambda patch: patch.setenv("CXX", "another"),
        lambda patch: patch.setenv("PATH", ""),
        lambda patch: patch.setenv("CUDA_VISIBLE_DEVICES", "7"),
    ],
)
def test_the_fingerprint_follows_the_libraries_and_what_of_the_machine_decides_on_bits(checkout, change, monkeypatch):
    before = running.fingerprint(checkout)
    change(monkeypatch)
    assert running.fingerprint(checkout) != before


def test_a_stamp_says_when_with_what_and_on_what(checkout):
    said = running.stamp(checkout)
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(said["executed"]) < timedelta(minutes=1)
    assert said["versions"]["torch"] == version("torch")
    assert said["versions"]["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert f"({machine.cores()} cores)" in said["machine"]
    assert os.uname().nodename not in said["machine"]


def test_a_stamp_names_the_commit_and_whether_there_were_changes(checkout):
    assert running.stamp(checkout)["commit"] == ""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=checkout, check=True)
    commit = running.stamp(checkout)["commit"]
    assert subprocess.check_output([*git, "rev-parse", "HEAD"], cwd=checkout, text=True).startswith(commit)
    (checkout / "rnnlab" / "a.py").write_text("other")
    assert running.stamp(checkout)["commit"] == f"{commit} with changes"


# The reader's environment

RUN = """
import json, sys
from pathlib import Path
import nbformat
from nbclient import execute
from rnnlab.book import running
root, code = Path(sys.argv[1]), sys.argv[2]
running.prepare_kernels(root)
page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
execute(page, kernel_name="python3")
print(json.dumps(page.cells[0].outputs))
"""


def test_a_page_gives_the_same_whatever_the_environment_of_its_reader(tmp_path):
    reader = environment(tmp_path)
    plain = {name: value for name, value in os.environ.items() if name not in reader}
    plain["PYTHONPATH"] = str(ROOT)
    outputs = [
        json.loads(subprocess.check_output([sys.executable, "-c", RUN, str(tmp_path), PROBE], env=env, text=True))
        for env in (plain, plain | reader)
    ]
    assert outputs[0] == outputs[1]
    said, figure = outputs[1]
    assert said["text"].splitlines()[0].split() == [
        "module://matplotlib_inline.backend_inline",
        "False",
        "10.0",
        "100.0",
    ]
    assert said["text"].splitlines()[1].startswith("True 1 ")
    assert "image/png" in figure["data"]


def test_what_only_says_where_things_are_stays_and_to_know_twice_is_to_know_once():
    kept = {
        "RNNLAB_STORE": "/s",
        "PYTHONPATH": "/p",
        "HOME": "/h",
        "CXX": "g++",
        "CUDA_VISIBLE_DEVICES": "1",
        "LCD": "5",
    }
    once = running.known(kept | HOSTILE)
    assert once.items() >= kept.items()
    assert running.known(once) == once == running.known(kept)
    assert running.known(once, threads=3)["OMP_NUM_THREADS"] == "3"


def test_kernels_find_the_package_of_the_checkout_first(checkout, monkeypatch):
    monkeypatch.setattr(os, "environ", {"PYTHONPATH": "elsewhere"})
    running.prepare_kernels(checkout)
    running.prepare_kernels(checkout)
    assert os.environ["PYTHONPATH"] == f"{checkout}{os.pathsep}elsewhere"
    assert os.environ["IPYTHONDIR"].startswith(str(checkout))

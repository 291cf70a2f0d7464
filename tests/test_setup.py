"""The files that say what rnnlab needs ask for the same, and the package's imports run one way."""

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import rnnlab
from rnnlab import __main__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins():
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return [Requirement(line) for line in lines if line]


PINNED = {canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in pins()}


def asked(*extras):
    """What pyproject asks for: always, and with each of the extras."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [need for need in map(Requirement, lines) if need.name != PROJECT["name"]]


def test_a_pin_is_one_exact_version():
    assert len(PINNED) == len(pins())
    for pin in pins():
        assert [s.operator for s in pin.specifier] == ["=="], pin
        assert "*" not in str(pin), pin


@pytest.mark.parametrize("need", asked(*EXTRAS), ids=lambda need: need.name)
def test_what_is_asked_for_is_pinned_within_its_range(need):
    assert need.specifier, "a range is missing"
    assert PINNED[canonicalize_name(need.name)] in need.specifier


def test_what_the_needs_need_is_pinned_too():
    waiting, seen = asked("book", "cluster", "test", "mutants"), set()
    while waiting:
        need = waiting.pop()
        key = (canonicalize_name(need.name), frozenset(need.extras))
        if key in seen:
            continue
        seen.add(key)
        assert key[0] in PINNED, need
        try:
            below = [Requirement(line) for line in requires(need.name) or []]
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        for extra in need.extras or {""}:
            waiting += [r for r in below if r.marker is None or r.marker.evaluate({"extra": extra})]


def test_conda_users_get_what_pyproject_asks_for_under_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf8"))
    *from_conda, from_pip = environment["dependencies"]
    assert from_conda == [f"python{PROJECT['requires-python']}", "pip"]
    constraint, project = from_pip["pip"]
    assert constraint == "--constraint constraints.txt"
    extras = re.fullmatch(r"--editable \.\[(?P<extras>[a-z,]+)\]", project)["extras"].split(",")
    assert "book" in extras
    assert set(extras) <= set(EXTRAS)


def test_make_refuses_a_python_that_is_too_old_and_says_what_it_needs(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "book", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "rnnlab needs Python 3.11 or later" in done.stderr
    assert str(old) in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_source_distribution_is_the_checkout_and_the_wheel_made_of_it_the_package(tmp_path):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a checkout, by git")
    files = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for litter in ("book/.DS_Store", "book/x~", "tests/.x.swp", "book/.ipynb_checkpoints/x.md", "book/#x#"):
        (tmp_path / litter).parent.mkdir(exist_ok=True)
        (tmp_path / litter).write_text("")
    program = "from setuptools import build_meta as b; b.build_sdist('made'); b.build_wheel('made')"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True)
    (source,), (wheel,) = (tmp_path / "made").glob("*.tar.gz"), (tmp_path / "made").glob("*.whl")
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    made = {name for name in packed if name in ("PKG-INFO", "setup.cfg") or name.startswith("rnnlab.egg-info/")}
    assert packed - made == files
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {name for name in files if name.startswith("rnnlab/")}


def test_the_installed_package_says_in_a_sentence_what_needs_a_checkout(tmp_path):
    shutil.copytree(ROOT / "rnnlab", tmp_path / "installed" / "rnnlab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "empty").mkdir()
    commands = ["results status", "results run", "results verify", "rebuild params/quick", "script book/intro.md"]
    program = f"from rnnlab import __main__; print([__main__.main(given.split()) for given in {commands}])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "empty",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "RNNLAB_STORE": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        check=False,
    )
    stored = (
        "rnnlab: no manifest.yml: stored results belong to the book, and the installed package has none; "
        "install that of a checkout: pip install -e '.[book]' in its top folder"
    )
    here = tmp_path / "empty"
    no_book = f"rnnlab: {here} holds no book (there is no book/_toc.yml); run this in the top folder of a checkout"
    no_page = f"rnnlab: no page 'book/intro.md' in {here}; from elsewhere than a checkout, write myst://PATH"
    assert done.stderr.splitlines() == [stored, stored, stored, no_book, no_page]
    assert done.stdout == "[2, 2, 2, 2, 2]\n"
    assert list(here.iterdir()) == []


def test_serving_on_a_port_that_is_taken_is_refused_in_a_sentence(tmp_path):
    for name in ("Makefile", "_build/html/index.html", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "_build" / "html" / "index.html").touch()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = ["make", "serve", f"PORT={port}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    said, *rest = done.stderr.splitlines()
    assert said == f"port {port} cannot be listened on, as if another server did; name one: make serve PORT=8001"
    assert len(rest) == 1, "make's own word"


def test_the_command_says_its_version(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        __main__.main(["--version"])
    assert capsys.readouterr().out == f"rnnlab {rnnlab.__version__}\n"


def test_imports_run_downward():
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


FILLED = {"arange", "asarray", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint"}
FILLED |= {"randn", "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros"}


def unnamed(source):
    """Lines that make a tensor without a dtype or a device of its own."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    makes = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in FILLED]
    torchs = [call for call in makes if isinstance(call.func.value, ast.Name) and call.func.value.id == "torch"]
    return [call.lineno for call in torchs if not {"dtype", "device"} <= {word.arg for word in call.keywords}]


def test_every_tensor_is_made_with_a_dtype_and_a_device():
    assert unnamed("torch.zeros(2)\nx.new_zeros(2)\ntorch.tensor([1], dtype=d)\ntorch.eye(2, dtype=d, device=e)") == [
        1,
        3,
    ]
    found = {path: unnamed(path.read_text(encoding="utf8")) for path in (ROOT / "rnnlab").rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}
    assert len(found) > 40


def test_citation_and_metadata_agree_with_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
    assert citation["version"] == rnnlab.__version__ == version("rnnlab")
    assert citation["license"] == PROJECT["license"]
    assert [paper["year"] for paper in citation["references"]] == [2013, 1994]


def test_a_reader_who_has_enough_ends_a_command_in_silence():
    status = f"{sys.executable} -m rnnlab results status"
    line = f"{status} | true; echo ${{PIPESTATUS[0]}}"  # `true` reads nothing
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("0\n", "")

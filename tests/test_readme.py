"""What the README tells a newcomer to type works as typed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = {kind: re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) for kind in ("bash", "python")}
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS["bash"] for line in block.splitlines()]


def test_the_notebook_example_trains_five_networks_and_draws_their_curves():
    code, _ = BLOCKS["python"]  # the other is for a cluster: see test_executors.py
    names: dict = {}
    exec(code, names)
    runs = names["runs"]
    assert runs.sizes["seed"] == 5
    # Ten of ten networks solve this within 7,000 updates in trial runs.
    assert int(runs.first_below_1_percent.notnull().sum()) >= 4
    lines = matplotlib.pyplot.gca().get_lines()
    assert len(lines) == 6  # five networks and their median
    code = [line for line in code.splitlines() if line.strip()]
    assert len(code) == 6


def test_the_papermill_example_runs_as_typed(tmp_path):
    (command,) = [c for c in COMMANDS if c.startswith("papermill")]
    program, page, out, *rest = shlex.split(command)
    assert out == "out.ipynb"
    run = subprocess.run(
        [Path(sys.executable).with_name(program), page, tmp_path / out, *rest],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "[12, 16]" in (tmp_path / out).read_text()


def test_the_commands_are_those_of_the_makefile_and_the_project():
    makefile = (ROOT / "Makefile").read_text()
    assert {"make book", "make test", "jupyter-book build book/"} <= set(COMMANDS)
    for target in re.findall(r"`?make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "jupyter-book build book/" in makefile


def test_every_place_that_it_names_exists():
    places = re.findall(r"^\| `([^`]+)` \| [a-z]", README, re.MULTILINE)
    places += re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert len(places) > 5
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_it_says_what_every_page_costs_that_computes():
    told = set(re.findall(r"\| `([^`|]+)` \| \d", README))
    computing = [page for page in (ROOT / "book").rglob("*.md") if "{code-cell}" in page.read_text()]
    assert told == {page.relative_to(ROOT / "book").with_suffix("").as_posix() for page in computing}

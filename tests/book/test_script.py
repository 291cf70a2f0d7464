"""Pages as scripts: the same numbers as in a notebook, with nothing installed but what the package itself needs."""

import ast
import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import nbformat
import papermill
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

from rnnlab import __main__
from rnnlab.book.script import script as written
from tests.readers import PROBE, environment
from tests.sites import HEADER

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
PAGES = sorted(path for path in BOOK.rglob("*.md") if "{code-cell}" in path.read_text(encoding="utf8"))
PAGE = """\
(page)=
# Norms, 100 % of them

**Claim.** None.

```{code-cell} python3
:tags: [hide-input]

import torch, numpy as np
from matplotlib import pyplot as plt
from rnnlab import TemporalOrder, Spec, plots, train
from rnnlab.book.pages import claim, glue, integer, numbers, show
plots.style()
```

```{code-cell} python3
:tags: [parameters]

seeds = 2  # networks
rates = [
    0.01,  # small
    0.1,
]
word = "é"  # of two bytes
```

## Measure

```{code-cell} python3
seeds, rates = integer("seeds", seeds), numbers("rates", rates)
runs = train(Spec(task=TemporalOrder(10), updates=40, check_every=20, learning_rate=rates[-1])
             if False else Spec(task=TemporalOrder(10), updates=40, check_every=20), seeds=seeds)
glue("loss", runs["loss"].values[0, -1])
glue("many", rates)
glue("word", word + "ü")
glue("third", sum(rates) / 3)
show("é", f"{seeds} networks")
```

```{code-cell} python3
fig, ax = plt.subplots()
ax.plot(rates)
glue("figure", fig)
plt.close(fig)
show(
    f"| rates |\\n|--:|\\n| {rates} |"
)
```

```{code-cell} python3
:tags: [remove-output]

claim("P01", ours=seeds, verdict="open", note="a toy")
fig, ax = plt.subplots()
ax.plot(rates)
plt.show()
"never printed"
```
"""
GIVEN = {"seeds": 3, "rates": [0.5, 0.25, 0.125]}


def run(script: Path, *arguments: str) -> str:
    """Run a script where only the requirements of the package can be imported, and theirs; return what it printed."""
    core, waiting = set(), ["rnnlab"]
    while waiting:
        name = canonical(waiting.pop())
        if name not in core:
            core.add(name)
            wanted = [Requirement(line) for line in requires(name) or []]
            waiting += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    found = packages_distributions().items()
    others = {module for module, distributions in found if core.isdisjoint(map(canonical, distributions))}
    assert {"IPython", "yaml", "nbformat", "jupytext", "myst_nb", "sphinx", "ipykernel", "matplotlib_inline"} <= others
    program = f"""
import runpy, sys
from importlib.machinery import PathFinder
others = {others!r}
class Core(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in others else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Core
sys.argv = {[str(script), *arguments]!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def glued_in(notebook) -> dict[str, str]:
    """What an executed notebook glued: the representation of each value by its name."""
    found = {}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
            found[name] = next(text for kind, text in output["data"].items() if kind.endswith("text/plain"))
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.md"
    path.write_text(HEADER + PAGE, encoding="utf8")
    return path


@pytest.mark.filterwarnings("ignore:The specified file")
def test_a_script_gives_the_numbers_of_the_notebook_without_jupyter(page, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    parameters = tmp_path / "more.yaml"
    parameters.write_text("seeds: 4\nrates: [0.5, 0.25, 0.125]\n")
    assert __main__.main(["script", str(page), "-f", str(parameters), "-p", "seeds", "3"]) == 0
    script = tmp_path / "page.py"
    script.write_text(capfd.readouterr().out, encoding="utf8")
    printed = run(script, "--glued", str(tmp_path / "glued.json"), "--figures", str(tmp_path / "figures"))

    papermill.execute_notebook(f"myst://{page}", tmp_path / "page.ipynb", GIVEN, progress_bar=False)
    wanted = glued_in(nbformat.read(tmp_path / "page.ipynb", as_version=4))
    found = json.loads((tmp_path / "glued.json").read_text(encoding="utf8"))
    assert set(wanted) - set(found) == {"figure"}
    assert {name: repr(value) for name, value in found.items()} == {name: wanted[name] for name in found}
    assert (found["many"], found["word"], found["third"]) == ([0.5, 0.25, 0.125], "éü", 0.875 / 3)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["1.svg", "figure.svg"]
    assert printed.splitlines()[:5] == ["é", "3 networks", "| rates |", "|--:|", "| [0.5, 0.25, 0.125] |"]
    assert printed.splitlines()[5].startswith("P01 ")
    assert "never" not in printed


def test_the_values_given_stand_where_the_page_has_its_own(page):
    source = written(page, GIVEN)
    assert 'seeds = 3  # networks\nrates = [0.5, 0.25, 0.125]\nword = "é"  # of two bytes\n' in source
    assert "# Norms, 100 % of them\n" in source
    assert "IPython" not in source


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_every_page_of_the_book_is_a_script(path):
    source = written(path, {})
    imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "from rnnlab.book.script import begin as _begin, end as _end" in map(ast.unparse, imported)


def test_parameters_that_the_page_does_not_have_are_refused(page, capsys):
    assert __main__.main(["script", str(page), "-p", "seeds", "many", "-p", "sed", "1"]) == 2
    assert capsys.readouterr().err == (
        f"rnnlab: {page}: seeds must be an integer, got 'many'\n"
        f"{page}: sed is no parameter of this page, which has seeds, rates, word; got 1; did you mean seeds?\n"
    )
    assert __main__.main(["script", str(page.parent / "pag.md")]) == 2
    assert "no page" in capsys.readouterr().err


def test_a_script_that_comes_through_a_pipe_is_refused_instead_of_doing_nothing(page):
    """It starts again, and what was read from the pipe is gone then."""
    done = subprocess.run([sys.executable], input=written(page, {}), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a script must be a file, got <stdin>: rnnlab script PAGE > page.py" in done.stderr


def write(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf8")
    return path


def test_a_script_gives_the_same_whatever_the_environment_of_its_reader(tmp_path):
    code = PROBE + "print('Ω')"
    page = write(tmp_path, HEADER + f"# Page\n\n```{{code-cell}} python3\n{code}\n```\n")
    script = tmp_path / "page.py"
    script.write_text(written(page, {}), encoding="utf8")
    reader = environment(tmp_path)
    plain = {name: value for name, value in os.environ.items() if name not in reader} | {"PYTHONPATH": str(ROOT)}
    said = [
        subprocess.check_output([sys.executable, *words], env=env)
        for words, env in (([script], plain), (["-O", script], plain | reader), ([script, "--threads", "2"], plain))
    ]
    assert said[0] == said[1]
    assert said[0].decode().splitlines()[0].split() == ["agg", "False", "10.0", "100.0"]
    assert said[0].decode().splitlines()[1].startswith("True 1 ")
    assert said[2].decode().splitlines()[1].startswith("True 2 ")
    assert said[2].decode().splitlines()[-1] == "Ω"


@pytest.mark.parametrize(
    "title",
    [r"The $\nabla E$ and $\xi$", 'He said """no"""', 'Ends in "', "It's '''so'''", "\\", "{braces} %s", "Ω ü"],
)
def test_a_title_stands_in_the_script_as_it_is_on_the_page(tmp_path, title, capfdbinary, monkeypatch):
    page = write(tmp_path, HEADER + f"# {title}\n\n```{{code-cell}} python3\n1\n```\n")
    stdout = os.fdopen(os.dup(1), "w", encoding="ascii")
    with stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert __main__.main(["script", str(page)]) == 0
    source = capfdbinary.readouterr().out
    assert ast.get_docstring(ast.parse(source), clean=False).startswith(f"{title}.\n\nThe page {page} as a script")
    assert f"# {title}\n".encode() in source


def test_a_page_in_another_language_is_refused(tmp_path):
    header = HEADER.replace("name: python3", "name: julia-1.10\n  language: julia")
    page = write(tmp_path, header + "# Page\n\n```{code-cell}\nprintln(1)\n```\n")
    with pytest.raises(
        ValueError, match=r"page\.md is written in julia, by its header; a script can be made of Python"
    ):
        written(page, {})


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("%matplotlib inline", "cell 1, is no plain Python: invalid syntax"),
        ("!ls", "cell 1, is no plain Python: invalid syntax"),
        (
            "from myst_nb import glue",
            "imports myst_nb, which only a notebook has; rnnlab.book.pages has what pages need",
        ),
        ("import IPython", "imports IPython, which only a notebook has"),
        ("await something()", r"is no plain Python as a whole: .*await.*, at `await something\(\)`"),
        (
            "from IPython.display import Markdown",
            "imports IPython.display, which only a notebook has; rnnlab.book.pages",
        ),
    ],
)
def test_what_only_a_notebook_has_is_refused(tmp_path, code, reason):
    path = tmp_path / "page.md"
    path.write_text(HEADER + f"# Page\n\n```{{code-cell}} python3\n{code}\n```\n", encoding="utf8")
    with pytest.raises(ValueError, match=reason):
        written(path, {})

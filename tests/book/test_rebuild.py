"""The rebuild of a book with other parameters, on a small book with the real extension and configuration."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from rnnlab.book import myst, notebooks, running
from tests import builds
from tests.sites import HEADER, articles, differences, main, pictures

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "build": ["-c", "from jupyter_book.cli.main import main; main()", "build", "book/", "-W", "--keep-going", "-n"],
    "rebuild": ["-m", "rnnlab", "rebuild"],
}
OTHER = "p{a}"  # a profile
INTRO = "# A book\n\nIts pages: {doc}`part/one`, [the other](part/two.md), {numref}`fig-line`.\n"
NOTES = """\
with open(os.environ["RUNS"], "a") as runs: runs.write("{page}\\n")"""
ONE = """\
(one)=
# One

The sum is {glue:text}`sum:.2f`, the pause {glue:text}`two.md::pause:d`; see [the other](two.md), {eq}`eq-sum`.

$$ s = \\sum_i x_i $$ (eq-sum)

```{code-cell} python3
:tags: [hide-input]

import os
from IPython.display import Markdown
from matplotlib import pyplot as plt
from rnnlab import plots
from rnnlab.book.pages import glue, integer, numbers
plots.style()
```

```{code-cell} python3
:tags: [parameters]

values = [1.0, 2.5]  # what is summed
seeds = 3  # how many
name = "auto"  # of nothing
```

```{code-cell} python3
NOTE
values = numbers("values", values)
glue("sum", sum(values))
Markdown(f"| sum |\\n|--:|\\n| ${sum(values)}$ |")
```

```{code-cell} python3
---
tags: [hide-input]
mystnb:
  image:
    alt: A line that rises.
  figure:
    name: fig-line
    caption: |
      The sum of {glue:text}`sum:.1f` by {cite:t}`pascanu2013`.
---
fig, ax = plt.subplots()
ax.plot(values)
plt.show()
```
""".replace("NOTE", NOTES.format(page="one"))
TWO = """\
# Two

See {ref}`one`, and [prose](prose.md).

```{code-cell} python3
:tags: [parameters]

pause = 0  # seconds
```

```{code-cell} python3
import os, time, pathlib
from rnnlab.book.pages import glue
NOTE
while pause and pathlib.Path(os.environ["GATE"]).read_text() == "wait": time.sleep(0.05)
```

```{code-cell} python3
# Says whether it may.

assert pathlib.Path(os.environ["GATE"]).read_text() != "fail", "told to"
glue("pause", pause)
```
""".replace("NOTE", NOTES.format(page="two"))
PROSE = "# Prose\n\n```{bibliography}\n```\n"


class Book:
    """A small book in a folder of its own, which counts how often its pages run."""

    def __init__(self, folder: Path):
        self.folder, self.runs, self.gate = folder, folder / "runs.txt", folder / "gate.txt"
        folder.mkdir()
        shutil.copy(ROOT / "_config.yml", folder)
        for part in ("_ext", "_static"):
            shutil.copytree(ROOT / "book" / part, folder / "book" / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "book" / "references.bib", folder / "book")
        self.write("book/intro.md", INTRO)
        self.write("book/part/one.md", HEADER + ONE)
        self.write("book/part/two.md", HEADER + TWO)
        self.write("book/part/prose.md", PROSE)
        chapters = "".join(f"      - file: part/{name}\n" for name in ("one", "two", "prose"))
        contents = f"parts:\n  - caption: Part\n    numbered: true\n    chapters:\n{chapters}"
        self.write("book/_toc.yml", f"format: jb-book\nroot: intro\n{contents}")
        self.write("params/quick/one.yaml", 'values: [1, 2.5]\nseeds: 3\nname: "auto"\n')
        self.write(f"params/{OTHER}/one.yaml", "values: [3.25]\n")
        self.write(f"params/{OTHER}/two.yaml", "pause: 1\n")
        self.write("gate.txt", "go")
        self.write("runs.txt", "")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")

    @property
    def environment(self) -> dict[str, str]:
        known = {"RUNS": str(self.runs), "GATE": str(self.gate), "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
        return {**os.environ, **known}

    def start(self, command: str, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *COMMANDS[command], *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str, *arguments: str) -> tuple[int, str]:
        """Run a command and return its exit status and all that it said."""
        if command == "build":
            built = builds.build(self.folder, self.environment)
            return built.returncode, built.stdout
        process = self.start(command, *arguments)
        said, _ = process.communicate(timeout=240)
        return process.returncode, said

    def ran(self) -> list[str]:
        """The pages that have run, in their order, since the book was made."""
        return self.runs.read_text().splitlines()

    def site(self, profile: str = "") -> Path:
        """The site of a profile, or the default one."""
        return self.folder / "_build" / (f"rebuild/{profile}/_build/html" if profile else "html")

    def executed(self, page: str, profile: str = "") -> list[Path]:
        """The finished results of a page."""
        return list(self.site(profile).parent.glob(f".jupyter_cache/part/{page}-*.ipynb"))


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def box(site: Path, page: str) -> str:
    """What stands on a page about its making; nothing if it says nothing."""
    boxes = re.findall(r'<details class="provenance">.*?</details>', (site / page).read_text(encoding="utf8"), re.S)
    assert len(boxes) <= 1
    return "".join(boxes)


# Signs that mean something in a pattern, an address, a query, a shell.
STRANGE = "50%2F of {what} #1? it's ü"


@pytest.fixture
def book(tmp_path) -> Book:
    return Book(tmp_path / STRANGE)


def test_with_the_pages_own_parameters_the_rebuilt_articles_are_those_of_the_default_site(book):
    status, said = book.run("build")
    assert status == 0, said
    default, rebuilt = book.site(), book.site("quick")
    assert book.ran() == ["one", "two"] or book.ran() == ["two", "one"]
    status, said = book.run("rebuild", "params/quick")
    assert status == 0, said
    assert f"{rebuilt.relative_to(book.folder)}/index.html" in said
    assert len(book.ran()) == 4, "it computes for itself"
    assert {"intro.html", "part/one.html", "part/prose.html", "part/two.html"} <= set(articles(default))
    assert differences(default, rebuilt) == []
    assert sorted(Path(name).suffix for name in pictures(default)) == [".csv", ".svg", ".svg"], "wide, narrow, data"
    assert 'alt="A line that rises."' in articles(rebuilt)["part/one.html"]

    # The box stands outside, says how each was made, and is that of the execution, not of the build.
    for site, file in ((default, ""), (rebuilt, " -f params/quick/one.yaml")):
        assert f">papermill book/part/one.md one.ipynb{file}<" in box(site, "part/one.html")
        assert f">rnnlab script book/part/one.md{file} &gt; page.py<" in box(site, "part/one.html")
        assert 'href="../_sources/part/one.ipynb"' in box(site, "part/one.html")
        assert (site / "_sources" / "part" / "one.ipynb").exists()
        assert "Python 3." in box(site, "part/one.html")
        assert "provenance" not in articles(site)["part/one.html"]
        assert box(site, "part/prose.html") == ""
    before = box(default, "part/one.html")
    book.write("book/part/one.md", HEADER + ONE.replace("The sum is", "The whole sum is"))
    assert book.run("build")[0] == 0
    assert "The whole sum is" in articles(default)["part/one.html"]
    assert box(default, "part/one.html") == before
    assert main(str(default), str(rebuilt)) == 1, "this comparison sees a difference"


def test_a_rebuild_that_is_killed_goes_on_where_it_was_and_shows_the_values_it_was_given(book):
    book.write("gate.txt", "wait")
    killed = book.start("rebuild", f"params/{OTHER}", "--jobs", "2")
    wait_until(lambda: book.executed("one", OTHER) and "two" in book.ran())
    status, said = book.run("rebuild", f"params/{OTHER}")
    assert (status, "another rebuild works on" in said) == (2, True), said
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert sorted(book.ran()) == ["one", "two"]
    assert book.executed("two", OTHER) == []
    (one,) = book.executed("one", OTHER)
    first = one.stat()

    book.write("gate.txt", "go")
    status, said = book.run("rebuild", f"params/{OTHER}")
    assert status == 0, said
    assert "2 pages with code, of which 1 are finished" in said
    assert "starts  part/two" in said
    assert re.search(r"\d\.\d s  part/two$", said, re.MULTILINE)
    assert "part/one\n" not in said.partition("reading sources")[0], "what was finished did not run again"
    assert sorted(book.ran()) == ["one", "two", "two"]
    assert (one.stat().st_mtime_ns, one.stat().st_ino) == (first.st_mtime_ns, first.st_ino)

    shown = articles(book.site(OTHER))["part/one.html"]
    assert re.search(r"The sum is\s*<span[^>]*>3.25</span>, the pause\s*<span[^>]*>1</span>", shown)
    text = re.sub(r"<[^>]*>", "", shown)
    assert "values = [3.25]  # what is summed\nseeds = 3  # how many\n" in text, "the page shows its parameters"
    made = html.unescape(box(book.site(OTHER), "part/one.html"))
    assert f"papermill book/part/one.md one.ipynb -f 'params/{OTHER}/one.yaml'" in made
    notebook = json.loads((book.site(OTHER) / "_sources" / "part" / "one.ipynb").read_text())
    assert notebook["metadata"]["rnnlab"]["machine"] in made


def test_a_site_whose_building_is_interrupted_goes_on_from_the_pages_that_are_finished(book):
    book.write("book/part/two.md", HEADER + TWO.replace("pause = 0", "pause = 1"))
    book.write("gate.txt", "wait")
    interrupted = book.start("build")
    wait_until(lambda: book.executed("one") and "two" in book.ran())
    interrupted.send_signal(signal.SIGINT)
    said, _ = interrupted.communicate(timeout=30)
    assert interrupted.returncode == 130
    assert "interrupted; the same command goes on from the pages that are finished\n" in said
    book.write("gate.txt", "go")
    status, said = book.run("build")
    assert status == 0, said
    assert sorted(book.ran()) == ["one", "two", "two"]


def test_a_page_that_is_edited_while_it_is_executed_is_not_shown_with_what_it_was(book):
    book.write("book/part/two.md", HEADER + TWO.replace("pause = 0", "pause = 1"))
    book.write("gate.txt", "wait")
    started = book.start("build")
    wait_until(lambda: book.executed("one") and "two" in book.ran())
    book.write("book/part/one.md", HEADER + ONE.replace("2.5", "3.5"))
    book.write("gate.txt", "go")
    said, _ = started.communicate(timeout=120)
    assert started.returncode == 1
    assert "pages that failed: 1\n\nbook/part/one.md was edited while it was executed; build again" in said
    assert "3.50" not in articles(book.site())["part/one.html"]
    status, said = book.run("build")
    assert status == 0, said
    assert ">4.50<" in articles(book.site())["part/one.html"]


def test_a_page_that_fails_is_named_with_its_cell_and_alone_runs_again(book):
    book.write("gate.txt", "fail")
    status, said = book.run("rebuild", f"params/{OTHER}")
    assert status == 1
    report = said.partition("pages that failed: 1\n\n")[2]
    assert report.startswith("book/part/two.md, cell 3, which begins `# Says whether it may.`: AssertionError: told to")
    assert len(book.executed("one", OTHER)) == 1
    book.write("gate.txt", "go")  # which is nothing that pages are kept by
    assert book.run("rebuild", f"params/{OTHER}")[0] == 0, "a page that is well again is told no more"
    assert sorted(book.ran()) == ["one", "two", "two"]


def test_what_the_book_does_not_have_is_refused_all_at_once_before_anything_runs(book):
    book.write("params/wrong/one.yaml", 'values: "[1, 2]"\nseeds: 2.5\nname: 3\nsed: 3\n')
    book.write("params/wrong/tow.yaml", "pause: 1\n")
    book.write("params/wrong/two.yaml", "pause\n")
    for litter in (".one.yaml.swp", "one.yaml~", "#one.yaml#", ".DS_Store", ".ipynb_checkpoints/one-checkpoint.yaml"):
        book.write(f"params/wrong/{litter}", "[")
    status, said = book.run("rebuild", "params/wrong")
    assert status == 2
    folder = "params/wrong"
    assert said.splitlines() == [
        f"rnnlab: {folder}/one.yaml: values must be a list of numbers, got '[1, 2]'; papermill takes a list as "
        '-y "values: [1, 2]"',
        f"{folder}/one.yaml: seeds must be an integer, got 2.5",
        f"{folder}/one.yaml: name must be text, got 3",
        f"{folder}/one.yaml: sed is no parameter of this page, which has values, seeds, name; got 3; "
        "did you mean seeds?",
        f"{folder}/tow.yaml: belongs to no page, or not to one alone; a profile may hold one.yaml, two.yaml",
        f"{folder}/two.yaml must hold lines such as `seeds: 5`, got 'pause\\n'",
    ]
    assert book.ran() == []
    assert not (book.folder / "_build").exists()


@pytest.mark.parametrize("folder", ["params/none", "params/quick/one.yaml"])
def test_a_profile_is_a_folder(book, folder):
    with pytest.raises(ValueError, match=r"the profile must be a folder of parameters, such as params/quick, got "):
        running.rebuild(book.folder, book.folder / folder)


def test_a_rebuild_needs_a_checkout(tmp_path):
    with pytest.raises(ValueError, match=r"holds no book .*; run this in the top folder of a checkout"):
        running.rebuild(tmp_path, tmp_path)


def kept(book: Book) -> running.Executed:
    stored = running.stored(book.folder)
    return running.Executed(book.folder, book.folder / "kept", running.fingerprint(book.folder), stored)


def pages_of(book: Book, profile: str = "quick") -> list[running.Page]:
    given = notebooks.profile(book.folder, book.folder / "params" / profile)
    found = {name: myst.page(book.folder / "book" / "part" / f"{name}.md") for name in ("one", "two")}
    values = {name: given.get(f"part/{name}", {"values": {}})["values"] for name in found}
    return [running.Page(f"part/{name}", notebooks.put_in(page, values[name]), "-") for name, page in found.items()]


def keys(book: Book, profile: str = "quick") -> dict[str, str]:
    return {page.name.rpartition("/")[2]: kept(book).file(page).name for page in pages_of(book, profile)}


def test_a_page_is_executed_again_exactly_when_its_code_its_parameters_or_the_package_change(book):
    before = keys(book)
    assert list(before) == ["one", "two"]
    book.write("book/part/one.md", HEADER + ONE.replace("The sum is", "The whole sum is"))
    assert keys(book) == before, "prose"
    book.write("params/quick/one.yaml", "{}")
    assert keys(book) == before, "the page's own values, said or not"
    book.write("params/quick/one.yaml", "seeds: 4")
    assert keys(book)["two"] == before["two"]
    assert keys(book)["one"] != before["one"]
    book.write("params/quick/one.yaml", "seeds: 3")
    book.write("book/part/one.md", HEADER + ONE.replace("values)", "values) + 1"))
    assert keys(book)["one"] != before["one"]
    book.write("book/part/one.md", HEADER + ONE)
    book.write("book/results/auto.json", "{}")
    book.write("book/results/long.json", "{}")
    assert keys(book)["two"] == before["two"], "names no stored result"
    with_it = keys(book)["one"]
    assert with_it != before["one"], "names that one"
    book.write("book/results/long.json", "[]")
    assert keys(book)["one"] == with_it
    book.write("book/part/one.md", HEADER + ONE.replace('glue("sum", ', 'f"lo{1}g"; glue("sum", '))
    by_letters = keys(book)["one"]
    book.write("book/results/long.json", "{}")
    assert keys(book)["one"] != by_letters, "names it by a word that is put together"
    book.write("book/results/long.json", "[]")
    book.write("book/part/one.md", HEADER + ONE)
    book.write("book/results/manifest.yml", "{}")
    assert keys(book)["one"] != with_it
    assert keys(book)["two"] == before["two"]
    book.write("rnnlab/more.py", "new = 1")
    assert keys(book)["two"] != before["two"]


def test_what_ran_while_the_package_changed_is_not_kept(book, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, "RUNS": str(book.runs), "GATE": str(book.gate)})

    def edit(page):
        book.write("book/results/auto.json", "{}")  # which may grow meanwhile
        if page.name == "part/one":
            book.write("rnnlab/more.py", "new = 1")

    results, pages = kept(book), pages_of(book)
    done = list(results.execute(pages, jobs=1, on_start=edit))
    reason = "what it depends on (the package) was edited while it ran"
    assert sorted(outcome.failure for outcome in done) == [f"book/part/{page}.md: {reason}" for page in ("one", "two")]
    assert not any(map(results.read, pages))


def test_a_page_of_which_something_cannot_be_shown_has_failed(book, monkeypatch):
    """IPython prints why, and goes on."""
    monkeypatch.setattr(os, "environ", {**os.environ, "RUNS": str(book.runs), "GATE": str(book.gate)})
    page = pages_of(book)[0]
    shown = "class Broken:\n    def _repr_html_(self): raise OSError('no such drawing')\nBroken()"
    page.notebook.cells = [nbformat.v4.new_code_cell(shown)]
    (done,) = kept(book).execute([page], jobs=1, on_start=lambda page: None)
    assert done.failure == "book/part/one.md: could not be shown: OSError: no such drawing"
    assert not kept(book).read(page)


@pytest.mark.parametrize("damage", [b"", b'{"metadata": ', b"[]", b'{"metadata": {}}', b"\xff"])
def test_a_damaged_result_counts_as_none(book, damage):
    results, page = kept(book), pages_of(book)[0]
    results._keep(page)
    assert results.read(page)
    assert [path.suffix for path in results.file(page).parent.iterdir()] == [".ipynb"]
    results.file(page).write_bytes(damage)
    assert not results.read(page)


@pytest.mark.parametrize("folder", sorted((ROOT / "params").iterdir()), ids=lambda folder: folder.name)
def test_the_books_own_profiles_fit_its_pages(folder):
    given = notebooks.profile(ROOT, folder)
    assert given
    assert any(page["values"] for page in given.values()) == (folder.name != "quick"), "quick is what pages say"

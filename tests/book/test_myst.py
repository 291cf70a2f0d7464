"""papermill on the book's pages as they stand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
import yaml
from papermill.cli import papermill as papermill_command
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from rnnlab.book import myst, script
from rnnlab.book.myst import MystHandler
from tests.readers import environment
from tests.sites import HEADER

ROOT = Path(__file__).parents[2]
BOOK_PAGES = [path for path in sorted((ROOT / "book").rglob("*.md")) if myst.open_page(path)]

PAGE = (
    HEADER
    + """\
# A page

```{code-cell} python3
:tags: [parameters]

lengths = [10, 20]  # sequence lengths, in steps
updates = 500  # updates of each member
```

```{code-cell} python3
from rnnlab.book import pages
pages.given(globals(), lengths=pages.integers(at_least=5), updates=pages.integer)
pages.glue("answer", sum(lengths) * updates)
sum(lengths) * updates
```
"""
)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with a book in it, and the process in it."""
    (tmp_path / "book" / "part").mkdir(parents=True)
    (tmp_path / "book" / "part" / "page.md").write_text(PAGE, encoding="utf8")
    (tmp_path / "book" / "prose.md").write_text("# Nothing to run\n", encoding="utf8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_papermill(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "papermill", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_page_becomes_a_notebook_with_its_tags(checkout):
    notebook = nbformat.reads(MystHandler.read("book/part/page.md"), as_version=4)
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"


def test_papermill_runs_a_page_with_other_values(checkout):
    done = run_papermill("book/part/page.md", "out.ipynb", "-y", "lengths: [12, 16]", "-p", "updates", "3")
    assert done.returncode == 0, done.stderr
    assert "does not end in" not in done.stderr
    outputs = nbformat.read("out.ipynb", as_version=4).cells[-1].outputs
    assert [o.data["text/plain"] for o in outputs if o.output_type == "execute_result"] == ["84"]
    glued = [o.metadata.scrapbook["name"] for o in outputs if o.output_type == "display_data"]
    assert glued == ["lengths", "updates", "answer"]


@pytest.mark.parametrize(
    ("page", "given", "said"),
    [
        (
            "book/part/page.md",
            ["-p", "lengths", "[12, 16]"],
            "lengths must be a list of integers, got '[12, 16]'; papermill takes a list as -y \"lengths: [12, 16]\"",
        ),
        (
            "book/part/page.md",
            ["-f", "given.yaml"],
            "update is no parameter of this page, which has lengths, updates; got 3; did you mean updates?",
        ),
        (
            f"myst://{ROOT}/book/6_lab/engine.md",
            ["-r", "hidden", "200"],
            "hidden is no parameter of this page, which has seeds, length, sequences, units, alpha; got '200'",
        ),
    ],
)
def test_what_a_page_does_not_take_is_named_in_the_last_line_after_few_others(checkout, page, given, said):
    (checkout / "given.yaml").write_text("update: 3\n")
    done = run_papermill(page, "out.ipynb", *given)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("Executing")]  # a bar
    assert lines[-1] == f"ValueError: {said}"
    assert len(lines) <= 4, "two addresses and a warning stand before it"


def test_help_lists_the_parameters_with_their_meaning(checkout):
    shown = run_papermill("--help-notebook", "./book/part/page.md").stdout
    assert re.search(r"lengths: .*\(default \[10, 20\]\)\s+sequence lengths, in steps", shown)
    assert re.search(r"updates: .*\(default 500\)\s+updates of each member", shown)


@pytest.mark.parametrize("address", ["book/part/page.md", "./book/part/page.md", "myst://book/part/page.md"])
@pytest.mark.filterwarnings("ignore:The specified file")
def test_papermill_finds_the_reader_by_each_registered_beginning(checkout, address):
    assert list(papermill.inspect_notebook(address)) == ["lengths", "updates"]


@pytest.mark.filterwarnings("ignore:The specified file")
def test_a_scheme_reads_any_place(checkout, monkeypatch):
    monkeypatch.chdir(checkout / "book")
    assert list(papermill.inspect_notebook("myst://part/page.md")) == ["lengths", "updates"]
    assert list(papermill.inspect_notebook(f"myst://{checkout}/book/part/page.md")) == ["lengths", "updates"]


# What a code cell is

NAMED = "---\nkernelspec:\n  name: python3\n---\n\n"
# A page of other people's making: its text, and the code cells in it, as (tags, source).
OTHERS = {
    "a kernel with a name alone": (
        NAMED + "```{code-cell}\n:tags: [parameters]\na = 1\n```\n",
        [(["parameters"], "a = 1")],
    ),
    "a byte-order mark": ("\ufeff" + HEADER + "```{code-cell} python3\na = 1\n```\n", [([], "a = 1")]),
    "no header": ("# Plain\n\n```{code-cell} ipython3\na = 1\n```\n", [([], "a = 1")]),
    "a header with a date": ("---\ndate: 2020-01-31\n---\n```{code-cell}\n1\n```\n", [([], "1")]),
    "a cell in a note": (
        HEADER + ":::{note}\n```{code-cell}\nin_a_note\n```\n:::\n\n```{code-cell}\ntop\n```\n",
        [([], "top")],
    ),
    "a cell in a list and in a quotation": (
        NAMED
        + "- item\n\n  ```{code-cell}\n  in_a_list\n  ```\n\n> ```{code-cell}\n> quoted\n> ```\n\n"
        + "```{code-cell}\n1\n```\n",
        [([], "1")],
    ),
    "prose that quotes a cell": (
        NAMED + "````md\n```{code-cell}\nquoted\n```\n````\n\n```{code-cell}\n1\n```\n",
        [([], "1")],
    ),
    "tags as text": (
        NAMED
        + "```{code-cell}\n:tags: parameters\na = 1\n```\n\n```{code-cell}\n---\ntags: hide-input, x\n---\nb\n```\n",
        [(["parameters"], "a = 1"), (["hide-input", "x"], "b")],
    ),
    "no tags": (NAMED + "```{code-cell}\n:tags:\na = 1\n```\n", [([], "a = 1")]),
    "options of both styles": (
        NAMED
        + "```{code-cell}\n---\ntags: [a, b]\nmystnb:\n  image:\n    alt: A\n---\n1\n```\n\n"
        + "```{code-cell}\n:tags: [c]\n:name: n\n\n2\n```\n",
        [(["a", "b"], "1"), (["c"], "2")],
    ),
    "other fences": (
        NAMED
        + '````{code-cell}\ns = """\n```\n"""\n````\n\n~~~{code-cell}\n# tilde\n~~~\n\n:::{code-cell}\ncolons\n:::\n',
        [([], 's = """\n```\n"""'), ([], "# tilde")],
    ),
    "line ends and tabs": (
        (NAMED + "```{code-cell}\nif 1:\n\tx = '\t'\n```\n").replace("\n", "\r\n"),
        [([], "if 1:\n\tx = '\t'")],
    ),
}


def write_page(folder: Path, text: str) -> Path:
    (folder / "page.md").write_bytes(text.encode())
    return folder / "page.md"


def cells_of(notebook) -> list[tuple[list[str], str]]:
    return [(cell.metadata.get("tags", []), cell.source) for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("kind", OTHERS)
def test_papermill_and_the_scripts_and_the_site_take_the_same_for_code_in_pages_of_all_kinds(kind, tmp_path):
    text, cells = OTHERS[kind]
    path = write_page(tmp_path, text)
    notebook = nbformat.reads(MystHandler.read(f"myst://{path}"), as_version=4)
    nbformat.validate(notebook)
    assert cells_of(notebook) == cells
    assert (notebook.metadata.kernelspec.name, notebook.metadata.language_info.name) == ("python3", "python")
    source = script.script(path, {})
    for _, code in cells:
        assert code.splitlines()[0] in source
    assert cells_of(myst.open_page(path)) == cells, "the site and the rebuild"


@pytest.mark.parametrize("path", BOOK_PAGES, ids=[path.stem for path in BOOK_PAGES])
def test_the_book_is_read_as_jupyter_reads_it_and_as_the_site_is_configured_to(path):
    def cells(notebook):
        return [(cell.cell_type, cell.metadata.get("tags", []), cell.source.strip()) for cell in notebook.cells]

    assert cells(myst.page(path)) == cells(jupytext.read(path, fmt="md:myst"))
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))
    assert list(myst.EXTENSIONS) == config["parse"]["myst_enable_extensions"]


@pytest.mark.filterwarnings("ignore:The specified file")
@pytest.mark.parametrize(
    ("kernel", "language", "injected"),
    [
        ("name: julia-1.10\n  language: julia", "julia", "flag = true"),
        ("name: ir\n  language: R", "R", "flag = TRUE"),
        ("name: python3\n  language: ipython3", "python", "flag = True"),
        ("name: nobodys", "python", "flag = True"),
    ],
)
def test_parameters_are_put_in_in_the_language_of_the_kernel(tmp_path, kernel, language, injected):
    cell = "```{code-cell}\n:tags: [parameters]\nflag = 0\n```\n"
    path = write_page(tmp_path, f"---\nkernelspec:\n  {kernel}\n---\n\n{cell}")
    notebook = load_notebook_node(f"myst://{path}")
    assert notebook.metadata.language_info.name == language
    assert injected in parameterize_notebook(notebook, {"flag": True}).cells[1].source


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("---\nx: [\n---\n```{code-cell}\n1\n```\n", "Notebook metadata: while parsing a flow node"),
        ("---\n---\n```{code-cell}\n1\n```\n", "NoneType"),
        ("```{code-cell}\n---\nx: [\n---\n1\n```\n", "Code cell 0 at line 1 could not be read"),
        ("```{code-cell}\n:load: nope.py\n```\n", "Can't read file from :load:"),
        ("```{code-cell}\n:tags: {a: 1}\n1\n```\n", "is not of type 'array'"),
    ],
)
def test_a_page_that_cannot_be_read_is_refused_in_a_line_that_says_why(tmp_path, text, reason):
    path = write_page(tmp_path, text)
    with pytest.raises(
        ValueError, match=rf"page\.md cannot be read as a MyST notebook: .*{re.escape(reason)}"
    ) as refusal:
        myst.page(path)
    assert "\n" not in str(refusal.value)
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"page\.md is not in UTF-8"):
        myst.page(path)


FIGURE = """\
# A figure

```{code-cell} python3
from matplotlib import pyplot as plt
from rnnlab import plots
plots.style()
plt.plot([0, 1])
plt.title("a_b")
plt.show()
```
"""


def test_a_page_run_by_hand_shows_its_figures_in_the_books_style_whatever_the_readers(tmp_path, monkeypatch):
    for name, value in environment(tmp_path).items():
        if name.startswith(("MPL", "MAT")):
            monkeypatch.setenv(name, value)
    path = write_page(tmp_path, HEADER + FIGURE)
    done = run_papermill(f"myst://{path}", tmp_path / "out.ipynb")
    assert done.returncode == 0, done.stderr
    (output,) = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    assert list(output.data) == ["image/svg+xml", "text/plain"]
    for svg in (output.data["image/svg+xml"], output.metadata["figure"]["narrow"]):
        assert ">a_b<" in svg, "text is text, and no TeX"
    assert output.metadata["figure"]["data"].endswith("\npanel,series,x,y,low,high\n1,1,0,0,,\n1,1,1,1,,\n")


# What papermill says at its end


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["book/part/page.md", "o.ipynb", "-f", "nope.yaml"], "[Errno 2] No such file or directory: 'nope.yaml'"),
        (["book/part/page.md", "o.ipynb", "-f", "bad.yaml"], "the parameters (-f, -y) are not YAML: while parsing"),
        (["book/part/page.md", "o.ipynb", "-y", "- 5"], "parameters (-f, -y, -b) must be lines such as `seeds: 5`"),
        (["book/part/page.md", "o.ipynb", "-y", "5"], "parameters (-f, -y, -b) must be lines such as `seeds: 5`"),
        (["./book/../book/part/page.md", "none/o.ipynb"], "output folder none doesn't exist."),
        (
            ["other/page.md", "o.ipynb"],
            "a page whose path does not begin with book/ is opened as myst://other/page.md",
        ),
        (["book/{x}.md", "o.ipynb"], "Missing parameter 'x'"),
        (["book/prose.md", "o.ipynb"], "book/prose.md has no code cell, so there is nothing to run"),
    ],
)
@pytest.mark.filterwarnings("ignore:The specified file")
def test_what_papermill_cannot_open_is_one_line(checkout, arguments, said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["papermill", *arguments])
    (checkout / "bad.yaml").write_text("a: [\n")
    (checkout / "other").mkdir()
    (checkout / "other" / "page.md").write_text(PAGE)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - papermill's, of many kinds
        papermill_command.main(arguments, standalone_mode=False)
    capsys.readouterr()
    myst._end(raised.type, raised.value, raised.tb)
    written = capsys.readouterr().err
    assert written.rstrip("\n").rpartition("\n")[2].startswith(f"papermill: {said}")
    assert "Traceback" not in written


def test_a_parameter_that_cannot_be_a_name_is_told_so_and_a_cell_that_fails_ends_in_its_own_words(capsys):
    for source, ename, last in (
        ("# Parameters\na-b = 3\n", "SyntaxError", "papermill: a-b is no parameter of this page: names hold letters,"),
        ("a-b = 3\n", "SyntaxError", "SyntaxError: why"),
        ("# Parameters\na = 3\n", "OSError", "OSError: why"),
    ):
        error = PapermillExecutionError(1, 2, source, ename, "why", ["\x1b[0;31mwhere\x1b[0m", f"{ename}: why"])
        with pytest.raises(PapermillExecutionError) as raised:
            raise error
        myst._end(raised.type, raised.value, raised.tb)
        assert capsys.readouterr().err.splitlines()[-1].startswith(last)


def test_a_notebook_beside_the_pages_is_read_and_written_as_it_is(checkout):
    text = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    MystHandler.write(text, "book/part/out.ipynb")
    assert Path("book/part/out.ipynb").read_text(encoding="utf8") == text
    assert MystHandler.read("book/part/out.ipynb") == text
    assert sorted(Path(p).name for p in MystHandler.listdir("book/part")) == ["out.ipynb", "page.md"]


def test_a_missing_page_is_named_with_one_that_may_have_been_meant(checkout):
    with pytest.raises(FileNotFoundError, match=r"no page 'book/part/pge\.md' in .*; there is book/part/page\.md"):
        MystHandler.read("book/part/pge.md")
    with pytest.raises(FileNotFoundError, match=r"no page 'page' in .*; there is book/part/page\.md$"):
        myst.open_page(Path("page"))
    with pytest.raises(FileNotFoundError, match=r"no page 'nowhere/x\.md' in .*; from elsewhere .* myst://PATH"):
        MystHandler.read("myst://nowhere/x.md")


def test_a_page_without_code_is_refused(checkout):
    with pytest.raises(ValueError, match=r"^book/prose\.md has no code cell"):
        MystHandler.read("book/prose.md")


def test_a_page_is_never_overwritten_by_a_result(checkout):
    with pytest.raises(ValueError, match=r"must end in \.ipynb, got 'book/part/page\.md'$"):
        MystHandler.write("{}", "book/part/page.md")
    assert Path("book/part/page.md").read_text(encoding="utf8") == PAGE

"""papermill on the book's pages as they stand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from rnnlab.myst import MystHandler
from tests.sites import HEADER

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
from rnnlab import pages
lengths = pages.integers("lengths", lengths, at_least=5)
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
    assert glued == ["answer"]


def test_a_value_of_the_wrong_kind_is_named_in_the_last_line(checkout):
    done = run_papermill("book/part/page.md", "out.ipynb", "-p", "lengths", "[12, 16]")
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1] == (
        "ValueError: lengths must be a list of integers, got '[12, 16]';"
        ' papermill takes a list as -y "lengths: [12, 16]"'
    )


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


def test_a_notebook_beside_the_pages_is_read_and_written_as_it_is(checkout):
    text = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    MystHandler.write(text, "book/part/out.ipynb")
    assert Path("book/part/out.ipynb").read_text(encoding="utf8") == text
    assert MystHandler.read("book/part/out.ipynb") == text
    assert sorted(Path(p).name for p in MystHandler.listdir("book/part")) == ["out.ipynb", "page.md"]


def test_a_missing_page_is_named_with_one_that_may_have_been_meant(checkout):
    with pytest.raises(FileNotFoundError, match=r"no page 'book/part/pge\.md' in .*; there is book/part/page\.md"):
        MystHandler.read("book/part/pge.md")
    with pytest.raises(FileNotFoundError, match=r"no page 'nowhere/x\.md' in .*; from elsewhere .* myst://PATH"):
        MystHandler.read("myst://nowhere/x.md")


def test_a_page_without_code_is_refused(checkout):
    with pytest.raises(ValueError, match=r"^book/prose\.md has no code cell"):
        MystHandler.read("book/prose.md")


def test_a_page_is_never_overwritten_by_a_result(checkout):
    with pytest.raises(ValueError, match=r"must end in \.ipynb, got 'book/part/page\.md'$"):
        MystHandler.write("{}", "book/part/page.md")
    assert Path("book/part/page.md").read_text(encoding="utf8") == PAGE

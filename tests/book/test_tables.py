"""Tables of the results' manifest: its page makes them, one command runs it, and makes them again to compare."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
import yaml

from rnnlab import Store
from rnnlab.__main__ import main
from rnnlab.book import pages, tables
from rnnlab.sweeps import making, results
from rnnlab.sweeps.summaries import read_summary
from tests.sites import HEADER

PAGE = """
# Powers

```{code-cell} python3
import os
import numpy as np
import xarray
from rnnlab.book import pages
from rnnlab.training.store import Store
```

```{code-cell} python3
:tags: [parameters]

rows: int = 2  # of the table
```

```{code-cell} python3
pages.given(globals(), rows=pages.integer(at_least=1))
power = 2
table = pages.keep("powers", xarray.Dataset({"power": ("row", np.arange(rows) ** power)}, attrs={"engine": "numpy"}))
print(Store().folder)
```
"""
ENTRY = {"pages": ["page"], "why": "a try", "priority": 1, "make": {"rows": 3}, "hours": 0.5}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of results, in a book with one page."""
    (tmp_path / "book" / "results").mkdir(parents=True)
    (tmp_path / "book" / "page.md").write_text(HEADER + PAGE)
    monkeypatch.setattr(pages, "RESULTS", tmp_path / "book" / "results")
    monkeypatch.setenv("RNNLAB_STORE", str(tmp_path / "store"))
    (pages.RESULTS / "manifest.yml").write_text(yaml.safe_dump({"powers": ENTRY}))
    return pages.RESULTS


def kept(folder, dim, monkeypatch):
    """What the page keeps when it is told to make its table, over `dim`; here, where it takes no process."""
    with monkeypatch.context() as patch:
        patch.setattr(pages, "tables", folder)
        pages.keep("powers", xarray.Dataset({"power": (dim, np.arange(3) ** 2)}, attrs={"engine": "numpy"}))


def test_one_command_has_the_page_make_its_table_with_the_manifests_parameters(folder, capsys):
    assert main(["results", "status"]) == 0
    assert "powers                           0      0         1          0               0.5" in capsys.readouterr().out
    assert main(["results", "run", "--processes", "1"]) == 0
    assert capsys.readouterr().out == "powers: 1 of 1 made\n"
    kept = pages.stored("powers")
    assert kept["power"].values.tolist() == [0, 1, 4]
    assert kept.attrs["command"] == "rnnlab results run --only powers"
    assert (kept.attrs["engine"], sorted(kept.attrs)) == ("numpy", ["command", "date", "engine", "torch"])
    written = (folder / "powers.summary").stat().st_mtime_ns
    assert main(["results", "run", "--processes", "1"]) == 0
    assert (folder / "powers.summary").stat().st_mtime_ns == written, "what is there is not made again"


def test_verifying_makes_it_again_elsewhere_and_sees_another_number(folder, capsys, monkeypatch):
    assert main(["results", "verify", "--only", "powers"]) == 2
    assert "--only powers must be whole to be made again, and holds 0 of 1" in capsys.readouterr().err
    kept(folder, "row", monkeypatch)
    before = (folder / "powers.summary").read_bytes()
    assert main(["results", "verify", "--only", "powers"]) == 0
    assert "powers, 1 of 1 made: the same table\n1 networks and tables, 0 of them" in capsys.readouterr().out
    page = folder.parent / "page.md"
    page.write_text(page.read_text().replace("power = 2", "power = 3"))
    assert main(["results", "verify", "--only", "powers"]) == 1
    assert "powers, 1 of 1 made: another table" in capsys.readouterr().out
    assert (folder / "powers.summary").read_bytes() == before
    assert list(tables.verify(folder, [])) == [], "hours of work are done only for what is named"


def test_a_page_that_fails_or_is_in_other_hands_leaves_the_others_to_be_made(folder, capsys, tmp_path):
    page = folder.parent / "page.md"
    page.write_text(page.read_text().replace("power = 2", "power = 2 / 0"))
    (folder / "manifest.yml").write_text(yaml.safe_dump({"powers": ENTRY, "more": ENTRY | {"priority": 2}}))
    assert main(["results", "run", "--processes", "1"]) == 1
    said = "its page failed, with status 1"
    assert capsys.readouterr().out == f"powers: {said}\nmore: {said}\n"
    wanted = results.manifest(folder)["powers"]
    with Store(tmp_path / "store").alone("powers"):
        assert tables.make(wanted, folder, Store(tmp_path / "store")) == (False, "somebody else has it in hand")
    assert not (folder / "powers.summary").exists()


def test_a_table_by_cells_is_as_far_as_these_are(folder, monkeypatch):
    (folder / "manifest.yml").write_text(yaml.safe_dump({"powers": ENTRY | {"wanted": 4}}))
    kept(folder, "cell", monkeypatch)
    (at,) = making.status(folder, Store())
    assert (at.finished, at.wanted, at.hours) == (3, 4, 0.125)
    assert tables.lacking(at.result, folder)


def test_a_page_of_a_reader_keeps_nothing(folder, tmp_path):
    """Whatever parameters they choose, the book's table stays."""
    source = tables.script.script(folder.parent / "page.md", {"rows": 5})
    (tmp_path / "page.py").write_text(source)
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, str(tmp_path / "page.py")]) == 0
    assert not list(tmp_path.rglob("*.summary"))


def test_every_table_of_the_book_is_made_by_a_page_that_takes_these_parameters():
    book = Path(__file__).parents[2] / "book"
    made = [result for result in results.manifest(book / "results").values() if result.make is not None]
    assert len(made) > 3
    for result in made:
        source = tables.script.script(book / f"{result.pages[0]}.md", result.make)
        assert "pages.tables" in source or f'pages.keep("{result.name}"' in source, result.name
        if (path := book / "results" / f"{result.name}.summary").exists():
            read_summary(path)

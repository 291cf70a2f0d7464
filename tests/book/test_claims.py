"""The claims of the papers, what pages say about them, and the ledger that the book makes of it, on a small book."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from rnnlab.book import claims, pages
from tests import browser, builds
from tests.sites import HEADER

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"


def numbered(letter: str, last: int) -> list[str]:
    return [f"{letter}{number:02}" for number in range(1, last + 1)]


IDS = [*numbered("P", 71), *numbered("B", 31), *numbered("A", 1), *numbered("Q", 2)]


# The rows


def test_the_claims_are_complete_in_order_and_each_there_once():
    assert [row["id"] for row in yaml.safe_load((BOOK / "claims.yml").read_text(encoding="utf8"))] == IDS


@pytest.mark.parametrize("row", claims.rows().values(), ids=claims.rows())
def test_a_row_says_where_the_claim_stands_what_it_is_and_what_the_paper_gives(row):
    assert list(row) == ["id", "paper", "where", "claim", "paper_value"]
    papers = {"P": "Pascanu et al. 2013", "B": "Bengio et al. 1994", "A": "Pascanu et al. 2012", "Q": "Tanvir 2022"}
    assert row["paper"] == papers[row["id"][0]]
    for key, text in row.items():
        assert text == text.strip(), key
        assert text, key
        assert "\n" not in text, key
        assert text.count("$") % 2 == 0, key
    assert row["claim"][0].isupper()
    assert row["claim"][-1] in ".?"


# Making a claim


def test_a_claim_made_in_a_script_is_remembered_as_numbers_of_python(capsys):
    pages.claim("P32", ours=1, interval=np.array([0.5, 1.0]), verdict="open", note="5% wrong")
    assert pages.claimed["P32"].interval == (0.5, 1.0)
    interval = (np.float64(0.4), torch.tensor(0.875))
    pages.claim("P32", ours=np.float32(0.75), interval=interval, runs=np.int64(20), verdict="open", note="5%\n wrong")
    found = pages.claimed["P32"]
    assert found == claims.Finding("P32", 0.75, (0.4, 0.875), 20, "open", "5\u00a0% wrong")
    assert [type(x) for x in (found.ours, *found.interval, found.runs)] == [float, float, float, int]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"ours": "proof"}, "proof"),
        ({"ours": "20% of 5"}, "20\u00a0% of 5"),
        ({"ours": 0.12345}, "0.123"),
        ({"ours": 12345.6}, "12,346"),
        ({"ours": 5, "runs": 1}, "5, 1 run"),
        ({"ours": 0.8, "interval": (0.3755, 0.9638), "runs": 5000}, "0.8 [0.376, 0.964], 5,000 runs"),
    ],
)
def test_our_value_is_shown_with_its_interval_and_the_number_of_runs(given, shown):
    pages.claim("P07", **given, verdict="reproduced")
    assert pages.claimed["P07"].shown == shown


GOOD = {"id": "P24", "ours": "proof", "verdict": "reproduced"}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"id": "P72"}, r"^id must be one of the 105 claims in .*claims\.yml, such as 'P01', got 'P72'$"),
        ({"id": "clipping"}, r"^id must be one of the 105 claims in .*, got 'clipping'$"),
        (
            {"verdict": "confirmed"},
            "^verdict must be one of reproduced, reproduced with a difference, not reproduced, open, got 'confirmed'$",
        ),
        ({"verdict": "open"}, "^note must say which difference, or why and at which budget, for the verdict 'open'$"),
        ({"verdict": "not reproduced", "note": " "}, "^note must say which .* for the verdict 'not reproduced'$"),
        ({"verdict": "reproduced with a difference"}, "^note must say which difference"),
        ({"ours": float("nan")}, "^ours, if it is not said in words, must be a number, got nan$"),
        ({"ours": True}, "^ours, if it is not said in words, must be a number, got True$"),
        ({"ours": " "}, "^ours, if it is not said in words, must be a number, got ''$"),
        ({"interval": (0.9, 0.4)}, r"^interval\[1\] must be a number at least 0.9, got 0.4$"),
        ({"interval": (0.4, float("inf"))}, r"^interval\[1\] must be a number at least 0.4, got inf$"),
        ({"interval": (0.4,)}, r"^interval must be two numbers, the lower first, got \(0.4,\)$"),
        ({"runs": 0}, "^runs must be an integer at least 1, got 0$"),
        ({"runs": True}, "^runs must be an integer at least 1, got True$"),
    ],
)
def test_what_is_no_claim_is_refused_by_name(bad, said, monkeypatch):
    monkeypatch.setattr(pages, "claimed", {})
    with pytest.raises(ValueError, match=said):
        pages.claim(**GOOD | bad)
    assert pages.claimed == {}


@pytest.mark.parametrize("missing", ["the book", "yaml"])
def test_a_page_runs_as_a_script_where_the_book_or_yaml_is_missing(missing, tmp_path):
    shutil.copytree(ROOT / "rnnlab", tmp_path / "rnnlab", ignore=shutil.ignore_patterns("__pycache__"))
    if missing == "yaml":
        (tmp_path / "book").mkdir()
        shutil.copy(BOOK / "claims.yml", tmp_path / "book")
    program = f"""
import sys
if {missing == "yaml"}:
    sys.modules["yaml"] = None
from rnnlab.book.pages import claim, claimed
claim("P24", ours="proof", verdict="reproduced")
assert claimed["P24"].shown == "proof"
try:
    claim("clipping", ours="proof", verdict="reproduced")
except ValueError as refusal:
    print(refusal)
assert "torch" not in sys.modules
"""
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "id must be a letter and two digits, such as 'P01', got 'clipping'\n"


def test_jupyter_shows_a_claim_with_its_mathematics_and_without_the_references_of_the_book():
    found = claims.finding(
        "P04", ours="$t$ & more", interval=None, runs=3, verdict="not reproduced", note="see {prf:ref}`thm-a` for $a<b$"
    )
    shown = claims.outputs(found)
    assert (
        "Paper: proof. Here: $t$ &amp; more, 3 runs. <b>not reproduced</b>: see thm-a for $a&lt;b$"
        in shown["text/html"]
    )
    assert "In a linear network, $\\rho &gt; 1$ is necessary" in shown["text/html"]
    assert json.loads(shown["text/markdown"].splitlines()[1])["note"] == "see {prf:ref}`thm-a` for $a<b$"


# The ledger


PAGE = """\
({name})=
# Page {name} on $\\gamma$

**Claim.** It *is* {name}: {{glue:text}}`{name} number` of {{ref}}`ledger`. Symbols are as in {{ref}}`ledger`.

$$ a = b $$ (eq-{name})

```{{code-cell}} python3
:tags: [remove-input]

from rnnlab.book import pages
from rnnlab.book.pages import claim
{claims}
pages.glue("{name} number", 12000.0)
```
"""
STORY = """
- part: A part
  pages:
    one: What is one?
    lost: What is not there yet?
    two: And two?
  new: [two]
"""
ONE = """\
claim("P01", ours="proof", verdict="reproduced")
claim("P32", ours=0.8, interval=(0.3755, 0.9638), runs=5, verdict="open", note="3,000 updates, see {eq}`eq-one`")
"""
TWO = 'claim("B09", ours="$10^{-3}$", verdict="reproduced with a difference", note="by `one` & all: {ref}`one`")'


class Book:
    """A small book with the real ledger, package and claims, in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder, self.site = folder, folder / "_build" / "html"
        shutil.copy(ROOT / "_config.yml", folder)
        ignore = shutil.ignore_patterns("__pycache__")
        for part in ("rnnlab", "book/_ext", "book/_static"):
            shutil.copytree(ROOT / part, folder / part, ignore=ignore)
        (folder / "book" / "6_lab").mkdir()
        for file in ("claims.yml", "references.bib", "6_lab/ledger.md", "6_lab/results.md", "6_lab/references.md"):
            shutil.copy(BOOK / file, folder / "book" / file)
        self.write("intro", "# A book\n\n{doc}`one`, {doc}`two`\n\n```{ledger-counts}\n```\n")
        self.write("story.yml", STORY, "")
        self.claim("one", ONE)
        self.claim("two", TWO)
        chapters = "".join(
            f"  - file: {name}\n" for name in ("one", "6_lab/results", "6_lab/ledger", "6_lab/references", "two")
        )
        toc = f"format: jb-book\nroot: intro\nchapters:\n{chapters}"
        (folder / "book" / "_toc.yml").write_text(toc, encoding="utf8")

    def write(self, name: str, text: str, end: str = ".md") -> None:
        (self.folder / "book" / f"{name}{end}").write_text(text, encoding="utf8")

    def claim(self, name: str, made: str) -> None:
        self.write(name, HEADER + PAGE.format(name=name, claims=made))

    def build(self, *options: str) -> subprocess.CompletedProcess:
        """Build as users do, with no trace of pytest in the environment; strictly unless told otherwise."""
        return builds.build(self.folder, {**os.environ, "PYTHONPATH": ""}, *options)

    def page(self, name: str) -> str:
        return (self.site / f"{name}.html").read_text(encoding="utf8")

    def ledger(self) -> dict[str, dict]:
        rows = json.loads((self.site / "ledger.json").read_text(encoding="utf8"))
        assert [row["id"] for row in rows] == IDS
        return {row["id"]: row for row in rows}

    def row(self, id: str) -> list[str]:
        """The cells of the ledger's row, as text."""
        row = re.search(rf'<tr[^>]* id="{id}".*?</tr>', self.page("6_lab/ledger"), re.DOTALL)[0]
        cells = re.findall(r"<td.*?</td>", row, re.DOTALL)
        return [" ".join(html.unescape(re.sub("<.*?>", " ", cell)).split()) for cell in cells]

    def counts(self) -> dict[str, int]:
        """How many claims have each verdict, as the ledger and the front page say."""
        shown = [
            re.search(r'<ul class="ledger-counts">.*?</ul>', self.page(name), re.DOTALL)[0]
            for name in ("6_lab/ledger", "intro")
        ]
        found = [{verdict: int(n) for n, verdict in re.findall(r"<b>(\d+)</b> ([a-z ]+)", part)} for part in shown]
        assert found[0] == found[1]
        return found[0]


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Book:
    book = Book(tmp_path_factory.mktemp("ledger"))
    built = book.build()
    assert built.returncode == 0, built.stdout
    return book


UNTREATED = {"ours": None, "interval": None, "runs": None, "verdict": "open", "note": "", "page": None}


def check_the_ledger(book: Book) -> None:
    rows = book.ledger()
    assert all(book.row(id) for id in IDS), "a row that no table of the ledger shows"
    assert {name for name, row in rows.items() if row["page"]} == {"P01", "P32", "B09"}
    said = {key: claims.rows()["P32"][key] for key in ("id", "paper", "claim", "paper_value")}
    found = {"ours": 0.8, "interval": [0.3755, 0.9638], "runs": 5, "verdict": "open", "page": "one.html"}
    assert rows["P32"] == {**said, **found, "note": "3,000 updates, see {eq}`eq-one`"}
    assert rows["P02"] == {key: claims.rows()["P02"][key] for key in said} | UNTREATED
    assert book.row("P01")[2:] == ["exact", "proof", "reproduced Page one on γ"]
    where = ["Page one on γ", "Page two on γ"]
    assert book.row("P32")[2:] == ["picture", "0.8 [0.376, 0.964], 5 runs", f"open 3,000 updates, see (1) {where[0]}"]
    assert book.row("B09")[3:] == [
        "10 − 3",
        rf"reproduced with a difference by one & all: Page one on \gamma {where[1]}",
    ]
    assert book.row("P02")[2:] == ["exact", "", "not treated"]
    counts = {"reproduced": 1, "reproduced with a difference": 1, "not reproduced": 0, "open": 1, "not treated": 102}
    assert book.counts() == counts


def test_the_ledger_has_what_the_pages_found_and_the_rest_as_open(book):
    check_the_ledger(book)


def test_a_box_beside_a_count_hides_its_rows_and_those_that_are_treated_come_first(book):
    path = browser.find_browser()
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(browser.BROWSERS)} is installed")
    untreated = ["untreated" in css for css in re.findall(r'<tr class="([^"]*)" id="P', book.page("6_lab/ledger"))]
    assert len(untreated) == 71
    assert untreated == [False] * 2 + [True] * 69
    with browser.chromium(path) as opened:
        page = opened.new_page()
        page.goto((book.site / "6_lab" / "ledger.html").as_uri())
        page.locator("input.shows-verdict-untreated").focus()
        for expected in ([True, True, False], [True, True, True]):
            page.keyboard.press("Space")
            assert [page.locator(f"tr#{row}").is_visible() for row in ("P01", "P32", "P02")] == expected
    assert "<input" not in book.page("intro")[book.page("intro").index("ledger-counts") :].partition("</ul>")[0]


def test_the_results_tell_questions_and_answers_and_what_holds(book):
    shown = re.search("<article.*</article>", book.page("6_lab/results"), re.DOTALL)[0]
    text = " ".join(html.unescape(re.sub("<[^>]*>", " ", shown[shown.index("The story in questions") :])).split())
    one = "What is one? It is one: 12000 of The ledger . Claims of the papers: 1 reproduced, 1 open."
    two = "And two? It is two: 12000 of The ledger . Claims of the papers: 1 reproduced with a difference."
    assert f"A part {one} {two}" in text
    assert "not there yet" not in text
    assert re.search(r"What is new here # [^?]*: A part And two\?", text), "no other page's question"
    assert '<a class="reference internal" href="../one.html">What is one?</a>' in shown
    fails, differs, holds = (
        text.index(f"What {end} #")
        for end in ("the papers say that does not hold", "holds with a difference", "holds as it is said")
    )
    assert "None." in text[fails:differs]
    assert "B09" in text[differs:holds]
    assert "P01" in text[holds:]
    assert "P32" not in text[fails:]


def test_a_page_ends_with_the_question_of_the_next(book):
    asked = {
        name: re.findall(r'<p class="next-question">(.*?) <a href="(.*?)"', book.page(name))
        for name in ("intro", "one")
    }
    assert asked == {"intro": [("What is one?", "one.html")], "one": []}
    assert re.findall(r'<p class="next-question">(.*?) <', book.page("6_lab/references")) == ["And two?"]


def test_every_page_with_code_has_its_question_in_the_order_of_the_book():
    parts = yaml.safe_load((BOOK / "story.yml").read_text(encoding="utf8"))
    asked = [name for part in parts for name in part["pages"]]
    there = re.findall(r"file: (\d_\w+/\w+)", (BOOK / "_toc.yml").read_text(encoding="utf8"))
    with_code = [name for name in there if "{code-cell}" in (BOOK / f"{name}.md").read_text(encoding="utf8")]
    assert [name for name in asked if name in with_code] == with_code


def test_box_and_row_lead_to_each_other(book):
    assert 'href="../one.html#claim-P32"' in book.page("6_lab/ledger")
    assert 'id="claim-P32"' in book.page("one")
    assert 'href="6_lab/ledger.html#P32"' in book.page("one")
    assert 'href="../ledger.json"' in book.page("6_lab/ledger")
    assert 'href="ledger.json"' in book.page("intro")


def test_a_box_shows_claim_values_verdict_and_note(book):
    box = re.search(r'<div class="claim [^>]*id="claim-P32">.*?</div>', book.page("one"), re.DOTALL)[0]
    text = " ".join(re.sub("<.*?>", " ", box).split())
    assert text == (
        "P32 Pascanu et al. 2013, Fig. 7 open Clipping together with Ω (MSGD-CR) has the highest success "
        "rate, with each initialization. Paper picture Here 0.8 [0.376, 0.964], 5 runs 3,000 updates, see (1)"
    )
    assert "font-size" not in box, "what Jupyter is shown is not what the book shows"


def test_a_book_of_executed_notebooks_has_the_same_ledger(book, tmp_path):
    other = Book(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "book" / f"{name}.md").unlink()
        shutil.copy(book.site / "_sources" / f"{name}.ipynb", tmp_path / "book")
    config = (ROOT / "_config.yml").read_text(encoding="utf8")
    off = config.replace("execute_notebooks: cache", "execute_notebooks: 'off'")
    assert off != config
    (tmp_path / "_config.yml").write_text(off, encoding="utf8")
    built = other.build()
    assert built.returncode == 0, built.stdout
    check_the_ledger(other)


def test_the_ledger_follows_its_pages_and_its_claims(book):
    book.claim("two", TWO.replace("B09", "P02"))
    built = book.build()
    assert built.returncode == 0, built.stdout
    assert book.row("B09")[3:] == ["", "not treated"]
    assert book.row("P02")[3] == "10 − 3"
    assert book.ledger()["P02"]["page"] == "two.html"
    assert book.row("P01")[3] == "proof", "a page that was not read again keeps its claims"
    assert (book.counts()["open"], book.counts()["not treated"]) == (1, 102)

    book.claim("two", "\n".join([TWO, TWO, TWO.replace("B09", "P01")]))
    for _ in range(2):  # the second one finds nothing to do
        built = book.build("--quiet")  # not strictly: no warning, but an error
        assert built.returncode == 1
        assert "claim P01 is made more than once, keep one: one, two" in built.stdout
        assert "claim B09 is made more than once, keep one: two, two" in built.stdout
        assert "P32" not in built.stdout

    text = (BOOK / "claims.yml").read_text(encoding="utf8")
    changed = text.replace("claim: The two common ways to write", "claim: Two ways to write", 1)
    (book.folder / "book" / "claims.yml").write_text(changed, encoding="utf8")
    book.claim("two", TWO)
    built = book.build()
    assert built.returncode == 0, built.stdout
    assert book.row("P01")[1].startswith("Two ways to write a recurrent network")
    assert "Two ways to write a recurrent network" in book.page("one")


# What the book's pages claim


def test_no_page_of_the_book_claims_in_prose_what_its_cells_could_claim():
    """A verdict in prose would be missing in the ledger."""
    for page in BOOK.rglob("*.md"):
        prose = re.sub(r"```\{code-cell\}.*?```", "", page.read_text(encoding="utf8"), flags=re.DOTALL)
        assert not re.search(r"\*\*[PBAQ]\d\d\*\*|\*reproduced|^\| [PBAQ]\d\d \|", prose, re.MULTILINE), page

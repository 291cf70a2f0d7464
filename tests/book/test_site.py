"""The book's configuration and extension, on a small book of two pages and with a package of one line."""

import importlib
import json
import os
import re
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from fontTools.ttLib import TTFont

import rnnlab
from tests import builds
from tests.sites import HEADER

ROOT = Path(__file__).parents[2]

PACKAGE = 'answer = 42\n__version__ = "0.0"\n'
INTRO = "# A book\n\nIts pages: {doc}`one`, {doc}`two`.\n"
# Each page notes that it runs, then waits until the other runs too.
ONE = """\
(one)=
# One

The answer is {glue:text}`answer:.1f` by {cite:t}`pascanu2013`; see {numref}`fig-line`.

$$ \\boldsymbol{\\delta}_t = \\sigma' $$ (eq-delta)

```{code-cell} python3
import os, time, pathlib
import rnnlab
from myst_nb import glue
with open(os.environ["RUNS"], "a") as runs: runs.write("one\\n")
deadline = time.monotonic() + 20
while "two" not in pathlib.Path(os.environ["RUNS"]).read_text(): assert time.monotonic() < deadline; time.sleep(0.05)
glue("answer", rnnlab.answer, display=False)
rnnlab.answer
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
      A line of {glue:text}`answer:.2f`, from {eq}`eq-delta`.
---
%config InlineBackend.figure_formats = ["svg"]
import matplotlib.pyplot as plt
plt.plot([0, 1])
plt.show()
```
"""
# As other people write it: a byte-order mark, a kernel with a name alone, tags as text, a cell that only quotes one.
TWO = """\
\ufeff---
kernelspec:
  name: python3
---

# Two

The answer is {glue:text}`one.md::answer:.1f`.

````md
```{code-cell} python3
raise AssertionError("quoted")
```
````

```{code-cell} python3
:tags: hide-input
import os, time, pathlib
with open(os.environ["RUNS"], "a") as runs: runs.write("two\\n")
deadline = time.monotonic() + 20
while "one" not in pathlib.Path(os.environ["RUNS"]).read_text(): assert time.monotonic() < deadline; time.sleep(0.05)
```

<script type="application/json" data-interactive="error_back" data-over="fig-line">{}</script>

```{bibliography}
```
"""


class Book:
    """A small book in a folder of its own, which counts how often its pages run."""

    def __init__(self, folder: Path, pages: dict[str, str]):
        self.folder, self.runs, self.site = folder, folder / "runs.txt", folder / "_build" / "html"
        shutil.copy(ROOT / "_config.yml", folder)
        for part in ("_ext", "_static"):
            shutil.copytree(ROOT / "book" / part, folder / "book" / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "book" / "references.bib", folder / "book")
        (folder / "rnnlab" / "book").mkdir(parents=True)
        for name in (
            "book/__init__",
            "book/checks",
            "book/claims",
            "book/myst",
            "book/notebooks",
            "book/running",
            "book/writing",
            "machine",
        ):
            shutil.copy(ROOT / "rnnlab" / f"{name}.py", folder / "rnnlab" / f"{name}.py")  # the extension needs them
        self.write("rnnlab/__init__.py", PACKAGE)
        self.write("book/intro.md", INTRO)
        for name, text in pages.items():
            self.write(f"book/{name}.md", text if "kernelspec:" in text else HEADER + text)
        chapters = "".join(f"      - file: {name}\n" for name in pages)
        self.write(
            "book/_toc.yml",
            f"format: jb-book\nroot: intro\nparts:\n  - caption: Part\n    numbered: true\n    chapters:\n{chapters}",
        )

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf8")

    def build(self, **environment: str) -> CompletedProcess:
        """Build strictly, as users do, with no trace of pytest around, and with a back end that shows nothing."""
        strange = {"RUNS": str(self.runs), "PYTHONPATH": "", "MPLBACKEND": "Agg", "TZ": "Asia/Tokyo"}
        return builds.build(self.folder, {**os.environ, **strange, **environment})

    def count(self) -> int:
        return len(self.runs.read_text().splitlines())

    def answer(self, name: str = "one") -> str:
        return re.search(r"The answer is\s*<span[^>]*>([^<]*)</span>", self.page(name))[1]

    def page(self, name: str) -> str:
        return (self.site / f"{name}.html").read_text(encoding="utf8")


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Book:
    book = Book(tmp_path_factory.mktemp("50%2F of {what} #1? it's ü"), {"one": ONE, "two": TWO})
    built = book.build()
    assert built.returncode == 0, built.stdout
    return book


def test_pages_run_side_by_side_with_the_package_of_their_checkout(book):
    # Each waits for the other: had they run one after another, the build would have failed.
    assert book.answer() == "42.0"
    assert 'alt="A line that rises."' in book.page("one")
    assert re.search(r"Fig. 1.1.*A line of <span[^>]*>42.00</span>", book.page("one"))


def test_each_page_offers_its_executed_notebook(book):
    assert 'href="_sources/one.ipynb"' in book.page("one")
    notebook = json.loads((book.site / "_sources" / "one.ipynb").read_text(encoding="utf8"))
    outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", [])]
    assert ["42"] in [out["data"]["text/plain"] for out in outputs if out["output_type"] == "execute_result"]
    assert any("image/svg+xml" in out.get("data", {}) for out in outputs)
    assert "ipynb" not in book.page("intro")


def test_formulas_are_mathml_and_their_font_and_the_icons_are_the_sites(book):
    (formula,) = re.findall(r"<math.*?</math>", book.page("one"))
    delta, sigma = "<msub><mi>𝜹</mi><mi>t</mi></msub>", "<msup><mi>σ</mi><mo>′</mo></msup>"
    assert formula == f'<math display="block">{delta}<mo>=</mo>{sigma}</math>'
    assert not re.search(r"<script[^>]*mathjax", book.page("one"), re.IGNORECASE)
    assert (book.site / "_static" / "math.woff2").stat().st_size < 100_000
    icons, style = (
        book.site / "_static" / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.woff",
        "pydata-sphinx-theme.css",
    )
    glyphs = set(TTFont(icons).getBestCmap())
    assert {0xF019, 0xF121} <= glyphs, "download and code, which the page and its script show"
    assert len(glyphs) < 60
    assert ".fa-guitar" not in (book.site / "_static" / "styles" / style).read_text(encoding="utf8")
    assert (book.site / "_static" / "scripts" / "fontawesome.js").read_text() == ""


def test_a_page_loads_the_script_of_its_interactive_figure_and_no_other_page_does(book):
    loading = r'(?:src|href)="_static/(error_back\.js|interactive\.(?:css|js))\?'
    assert re.findall(loading, book.page("two")) == ["interactive.css", "interactive.js", "error_back.js"]
    assert 'defer="defer" src="_static/error_back.js' in book.page("two")
    assert all(
        (book.site / "_static" / name).is_file() for name in ("error_back.js", "interactive.js", "interactive.css")
    )
    assert [re.findall(loading, book.page(name)) for name in ("one", "intro")] == [[], []]


def test_nothing_on_the_site_is_loaded_from_another_host(book):
    loading = r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="(?:https?:)?//|url\(.?(?:https?:)?//|@import .?http'
    files = [*book.site.rglob("*.html"), *book.site.rglob("*.css")]
    assert len(files) > 10
    assert [f.name for f in files if re.search(loading, f.read_text(encoding="utf8"))] == []


def test_pages_run_again_exactly_when_what_they_depend_on_has_changed(book):
    before = book.count()
    assert before == 2
    assert book.build().returncode == 0
    assert book.count() == before, "nothing had changed"

    book.write("rnnlab/__init__.py", PACKAGE.replace("42", "43"))
    assert book.build().returncode == 0
    assert (book.count(), book.answer()) == (before + 2, "43.0")

    book.write("rnnlab/__init__.py", PACKAGE)
    assert book.build().returncode == 0
    assert (book.count(), book.answer()) == (before + 2, "42.0"), "the earlier results were still there"

    (book.folder / "book" / "results").mkdir()
    for n, text in enumerate(("{}", "[]")):
        book.write("book/results/two.json", text)
        if text == "[]":
            book.write("book/results/long.json", "{}")  # which no page names
        assert book.build().returncode == 0
        assert book.count() == before + 3 + n, "only the first page names that stored result"


def test_a_page_that_shows_anothers_number_keeps_up_with_it(book):
    assert book.answer("two") == book.answer("one")
    book.write("book/one.md", HEADER + ONE.replace('glue("answer", rnnlab.answer', 'glue("answer", rnnlab.answer + 1'))
    assert book.build().returncode == 0
    assert book.answer("two") == book.answer("one") == "43.0"


@pytest.fixture(scope="module")
def bad_book(tmp_path_factory) -> Book:
    fails = "# Fails\n\n```{code-cell} python3\nshare = 2\nassert share < 1, 'more than all'\n```\n"
    asks = '<script type="application/json" data-interactive="lost" data-over="fig">{}</script>'
    loads = "# Loads\n\n<script src='https://example.com/x.js'></script>\n\n```{code-cell} python3\n1 + 1\n```\n" + asks
    return Book(tmp_path_factory.mktemp("bad"), {"one": fails, "two": loads})


@pytest.mark.parametrize("attempt", ["first", "again"])
def test_a_cell_that_fails_fails_the_build_with_the_name_of_its_page(bad_book, attempt):
    built = bad_book.build()
    assert built.returncode != 0
    report = built.stdout[built.stdout.index("pages that failed: 1") :]
    assert "book/one.md, cell 1, which begins `share = 2`: AssertionError: more than all" in report
    assert "assert share < 1, 'more than all'" in report
    assert "AssertionError" in bad_book.page("one"), "the page shows where it failed"
    assert "two.html loads https://example.com/x.js from another host" in built.stdout
    assert "two.html asks for the interactive figure lost, which has no script" in built.stdout
    assert (bad_book.site / "two.html").exists(), "the other pages are built"


# A figure as the package has notebooks keep it: two drawings, and data.
DRAWN = """\
# Drawn

See {numref}`fig-drawn`.

```{glue:figure} drawn
:name: fig-drawn
:alt: A "dot".
A dot. Left: it.
```

See {numref}`fig-drawn` (left).

```{code-cell} python3
from myst_nb import glue
SVG = '<svg xmlns="http://www.w3.org/2000/svg" id="dark" viewBox="0 0 9 9"><text>%s</text></svg>'
class Drawn:
    def _repr_mimebundle_(self, **_):
        figure = {"narrow": SVG % "narrow", "data": "x,y\\n1,2\\n", "below": True}
        return {"image/svg+xml": SVG % "wide"}, {"figure": figure}
glue("drawn", Drawn(), display=False)
```
"""


def test_a_figure_has_a_drawing_for_desks_and_one_for_phones_inks_for_both_modes_and_its_data(tmp_path):
    book = Book(tmp_path, {"one": DRAWN, "two": "# Two\n\nAfter {doc}`one`.\n"})
    built = book.build()
    assert built.returncode == 0, built.stdout
    (figure,) = re.findall(r'<figure[^>]* id="fig-drawn".*?</figure>', book.page("one"), re.DOTALL)
    shown = re.findall(
        r'<picture class="in-(\w+)"><source media="screen and \(max-width: \d+px\)" srcset="([^"]*)"/>'
        r'<img src="([^"]*)" alt="A &quot;dot&quot;."/></picture>',
        figure,
    )
    assert [mode for mode, *_ in shown] == ["light", "dark"]
    (_, narrow, wide), (_, *dark) = shown
    assert dark == [f"{narrow}#dark", f"{wide}#dark"]
    read = [(book.site / name).read_text(encoding="utf8") for name in (wide, narrow)]
    assert [re.search("<text>(.*)</text>", text)[1] for text in read] == ["wide", "narrow"]
    links = re.findall(r'<a href="([^"]*)" download="([^"]*)">', figure)
    assert links == [(wide, "fig-drawn.svg"), (wide.replace(".svg", ".csv"), "fig-drawn.csv")]
    assert (book.site / links[1][0]).read_text(encoding="utf8") == "x,y\n1,2\n"
    assert "Fig. 1" in figure
    assert "Fig. 1" in book.page("one").replace(figure, "")
    both = '<span class="in-wide">{}</span><span class="in-narrow">{}</span>'
    assert both.format("Left", "Above") in figure
    assert both.format("left", "above") in book.page("one").replace(figure, "")


KNOWN = "# Known\n\n**Claim.** With $\\rho < 1$ errors *fade*. More follows.\n\n```{code-cell} python3\n1 + 1\n```\n"


def head(page: str) -> dict[str, str]:
    """What a page says of itself to machines."""
    found = re.findall(r'<meta (?:name|property)="([^"]+)" content="([^"]*)"', page)
    links = re.findall(r'<link rel="(canonical)" href="([^"]*)"', page)
    return dict(found + links)


def test_a_page_says_what_it_is_about_and_with_an_address_where_it_is_and_runs(tmp_path):
    book = Book(tmp_path, {"one": KNOWN, "two": "# Two\n\nAfter {doc}`one`.\n"})
    assert book.build().returncode == 0
    about = {"description": "With ρ&lt;1 errors fade. More follows.", "og:title": "1. Known", "og:site_name": "rnnlab"}
    said = head(book.page("one"))
    assert about.items() <= said.items()
    assert not {"canonical", "og:url", "og:image"} & said.keys()
    assert "mybinder" not in book.page("one")
    assert "google.colab" not in (book.site / "_sources" / "one.ipynb").read_text(encoding="utf8")
    assert not (book.site / "sitemap.xml").exists()

    known = {"RNNLAB_SITE": "https://example.org/book", "RNNLAB_REPOSITORY": "https://github.com/one/two/"}
    built = book.build(**known)
    assert built.returncode == 0, built.stdout
    site, said = "https://example.org/book/", head(book.page("one"))
    places = {"canonical": "one.html", "og:url": "one.html", "og:image": "_static/site.png"}
    assert about.items() | {(key, site + end) for key, end in places.items()} <= said.items()
    assert (book.site / "_static" / "site.png").is_file()
    colab = "https://colab.research.google.com/github/one/two/blob/gh-pages/_sources/one.ipynb"
    binder = "https://mybinder.org/v2/gh/one/two/main?urlpath=lab/tree/book/one.md%3Ffactory%3DNotebook"
    for address in (colab, binder, "https://github.com/one/two"):
        assert f'href="{address}"' in book.page("one")
    first, *_ = json.loads((book.site / "_sources" / "one.ipynb").read_text(encoding="utf8"))["cells"]
    assert "git clone --quiet --depth 1 https://github.com/one/two checkout" in "".join(first["source"])
    found = re.findall("<loc>(.*?)</loc>", (book.site / "sitemap.xml").read_text(encoding="utf8"))
    assert found == [f"{site}{name}.html" for name in ("intro", "one", "two")]


def test_what_is_to_be_cited_is_what_the_citation_file_says():
    said = dict(
        re.findall(r"^  (\w+) +\= \{+(.*?)\}+,$", (ROOT / "book/6_lab/references.md").read_text(), re.MULTILINE)
    )
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
    (author,) = cff["authors"]
    assert said == {"author": author["name"], **{key: cff[key] for key in ("title", "version", "license")}}
    assert cff["version"] == rnnlab.__version__


def test_on_a_slow_machine_a_page_may_take_its_share_of_all(monkeypatch):
    pytest.importorskip("myst_nb")
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    longest = importlib.import_module("rnnbook.execution").longest
    assert longest([]) == longest([8.0] * 60) == 40
    assert longest([24.0] * 60) == 120


def test_every_reference_leads_to_what_it_is_of():
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf8").split("\n@")
    lost = [
        entry.partition(",")[0] for entry in entries if not re.search(r"^  (doi|url|eprint) +=", entry, re.MULTILINE)
    ]
    assert lost == ["article{doya1993", "techreport{jaeger2012"], "neither has a DOI, nor an address of its publisher"


def test_a_page_that_takes_more_than_its_seconds_fails_every_build_until_it_takes_less(tmp_path):
    one = "# One\n\n```{code-cell} python3\nsum(range(10**7))\n```\n"
    book = Book(tmp_path, {"one": one, "two": "# Two\n\nAfter {doc}`one`.\n"})
    place = tmp_path / "book" / "_ext" / "rnnbook" / "execution.py"
    text = place.read_text(encoding="utf8")
    for longest, fails in ((0.01, True), (0.01, True), (40, False)):
        place.write_text(text.replace("LONGEST = 40 ", f"LONGEST = {longest} "), encoding="utf8")
        built = book.build()
        assert (built.returncode != 0) == fails, built.stdout
        found = re.findall(r"book/one\.md took ([\d.]+) s of a core, and may take 0\.\d+", built.stdout)
        assert bool(found) == fails
        assert all(0.1 < float(seconds) < 20 for seconds in found)
    assert re.search(r"in [\d.]+ s of a core", book.page("one"))

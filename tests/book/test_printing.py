"""The book on paper: a site of three pages is printed, and what is on which sheet is read from the PDF."""

import re
import sys
from pathlib import Path

import pytest
from pypdf import PdfReader

from tests import browser

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))
from rnnbook import printing

NAV = """<nav class="bd-links"><ul><li><a class="reference internal" href="{up}intro.html">A book</a></li></ul>
<p class="caption"><span>Part</span></p><ul><li><a class="reference internal" href="{up}a/one.html">1. One</a></li>
<li><a class="reference internal" href="{up}a/two.html">2. Two</a></li></ul></nav>"""
PAGE = """<!DOCTYPE html><html lang="en"><head><link rel="stylesheet" href="{up}_static/book.css?v=1"></head><body>{nav}
<article class="bd-article">{text}</article><p class="next-question">And then? <a href="{up}a/two.html">2. Two</a></p>
<p class="pdf"></p></body></html>"""
ONE = """<section id="part"><h1>1. One<a class="headerlink" href="#part">#</a></h1><p>See
<a href="two.html#eq">the other</a>,
<a href="https://example.org/">elsewhere</a>.</p><details class="hide"><pre>hidden</pre></details>
<figure><picture class="in-light"><img src="../_static/line.svg" alt="A line."></picture>
<picture class="in-dark"><img src="../_static/lost.svg" alt="A line."></picture><figcaption>A.</figcaption></figure>
<p style="break-before: page">Further.</p></section>"""
TWO = """<section id="part"><h1>2. Two</h1><p id="eq"><math><mi>x</mi></math> is 5, back to
<a href="one.html">one</a>.</p></section>"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> tuple[Path, PdfReader]:
    if browser.find_browser() is None:
        pytest.skip(f"needs a browser: none of {', '.join(browser.BROWSERS)} is installed")
    site = tmp_path_factory.mktemp("site")
    for folder in ("a", "_static"):
        (site / folder).mkdir()
    for name, text in {"intro": "<h1>A book</h1>", "a/one": ONE, "a/two": TWO}.items():
        up = "../" * name.count("/")
        nav = NAV.format(up=up).replace("intro.html", "#" if name == "intro" else "intro.html")
        (site / f"{name}.html").write_text(PAGE.format(up=up, nav=nav, text=text), encoding="utf8")
    (site / "_static" / "book.css").write_text("h1 { letter-spacing: 0 }")
    line = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 90 20'><text y='15'>drawn</text></svg>"
    (site / "_static" / "line.svg").write_text(line)
    assert printing.main([str(site)]) == 0
    return site, PdfReader(site / printing.PRINTED)


def test_title_contents_and_chapters_stand_on_sheets_of_their_own_with_numbers_that_are_right(printed):
    _, pdf = printed
    texts = [" ".join(page.extract_text().split()) for page in pdf.pages]
    assert len(texts) == 6
    assert re.fullmatch(r"A book rnnlab, \d{4}-\d\d-\d\d", texts[0])
    assert texts[1] == "2 Contents A book 3 Part 1. One 4 2. Two 6"
    assert [text.partition(" ")[0] for text in texts[1:]] == ["2", "3", "4", "5", "6"]
    assert "hidden" not in "".join(texts)
    assert "#" not in "".join(texts)


def test_figures_are_drawings_and_links_stay_in_the_book(printed):
    _, pdf = printed
    assert "drawn" in pdf.pages[3].extract_text(), "a vector drawing keeps its text"
    assert list(pdf.pages[3].images) == []
    to = [note.get_object() for note in pdf.pages[3]["/Annots"]]
    assert [note["/A"]["/URI"] for note in to if "/A" in note and "/URI" in note["/A"]] == ["https://example.org/"]
    assert len(to) == 2
    assert {"a-two--eq", "a-one", "a-two"} <= {name.lstrip("/") for name in pdf.named_destinations}
    assert pdf.outline, "headings are bookmarks"


def test_every_page_of_the_site_leads_to_it(printed):
    site, _ = printed
    links = {
        name: re.findall(r'<p class="pdf"><a href="(.*?)">', (site / name).read_text())
        for name in ("intro.html", "a/one.html")
    }
    assert links == {"intro.html": ["rnnlab.pdf"], "a/one.html": ["../rnnlab.pdf"]}
    assert not (site / "_print.html").exists()


def test_what_cannot_be_printed_is_refused(tmp_path, capsys):
    assert printing.main([str(tmp_path)]) == 2
    assert "a built site" in capsys.readouterr().err

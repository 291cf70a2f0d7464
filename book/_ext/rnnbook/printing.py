"""Prints a built site as one PDF, contents and chapters in the order of its sidebar, and links it on each page.

    PYTHONPATH=book/_ext python -m rnnbook.printing _build/html

All articles become one page, which headless Chromium prints twice: the first time tells where chapters begin. Tables
and formulas that are wider than the sheet are made smaller.
"""

import posixpath
import re
import shutil
import sys
from datetime import date
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import ViewportSize, sync_playwright
from pypdf import PdfReader

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PRINTED = "rnnlab.pdf"
REFERENCE = re.compile(r"6_lab/api/")  # which is looked up, not read
# What is for screens: buttons, boxes to tick, folded code, how a page was made, what interactive figures read.
LEFT_OUT = (
    ".headerlink, .figure-files, .ledger-json, .prev-next-area, details.provenance, details.hide, input, script, "
    "source, .in-dark, .in-narrow"
)
STYLE = """
@page { size: A4; margin: 20mm 18mm; @bottom-center { content: counter(page); font: 9pt sans-serif; } }
@page :first { @bottom-center { content: none; } }
body { font-size: 10pt; margin: 0; }
.bd-content { display: block; }
article, .contents { break-before: page; max-width: none; padding: 0; }
.book-title { padding-top: 70mm; text-align: center; }
.book-title p { margin: 0 auto 8mm; max-width: 120mm; text-wrap: balance; }
.contents li { display: flex; gap: 1em; list-style: none; }
.contents li b { flex: 1; font-weight: 400; }
.contents li.part { font-weight: 700; margin-top: 1em; break-after: avoid; }
.contents a { color: inherit; text-decoration: none; }
h1, h2, h3 { text-wrap: balance; break-inside: avoid; }
h1 { font-size: 22pt !important; }
h2 { font-size: 15pt !important; margin-top: 1.2em !important; }
h3 { font-size: 12pt !important; }
h1, h2, h3, h4, dt, .rubric, figcaption, .admonition-title { break-after: avoid; }
figure, tr, .claim, .admonition, .math, .sd-card { break-inside: avoid; }
.admonition.solution, .cell, .cell_input { break-inside: auto; }
figure img { max-height: 135mm; width: auto; }
.sd-row { display: grid !important; gap: 3mm; grid-template-columns: 1fr 1fr; margin: 4mm 0; }
.sd-col { margin: 0; max-width: none !important; padding: 0; width: auto !important; }
.sd-col-12 { grid-column: 1 / -1; }
/* What may scroll, or is a flexible box, is not torn: code is neither. */
.bd-content :is(.cell, .cell_input, div[class*="highlight"], pre) {
  break-inside: auto; display: block; overflow: visible;
}
.bd-content div.highlight pre { font-size: 6.6pt; orphans: 4; padding: 1.5mm 2mm; white-space: pre-wrap; widows: 4; }
.kept { break-inside: avoid; }
.next-question { margin-top: 4mm; }
table.ledger { font-size: 8.5pt; }
table.ledger col { width: 26% !important; }
table.ledger col:nth-child(1) { width: 6% !important; }
table.ledger col:nth-child(3) { width: 16% !important; }
"""


# What is wider than where it stands is made as wide as that.
FIT = """() => document.querySelectorAll("table, div.math > math").forEach((wide) => {
  const room = wide.parentElement.clientWidth, needed = Math.max(wide.scrollWidth, wide.getBoundingClientRect().width);
  if (needed > room + 1) wide.style.zoom = room / needed;
})"""
PAPER = ViewportSize(width=658, height=971)  # CSS pixels of a sheet within its margins


def main(arguments: list[str]) -> int:
    """Print the site in the folder named."""
    site = Path(arguments[0]) if len(arguments) == 1 else Path("?")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not (site / "intro.html").is_file() or browser is None:
        print("python -m rnnbook.printing SITE: a built site, and one of", *BROWSERS, file=sys.stderr)
        return 2
    chapters = order(site)
    first = render(site, browser, whole(site, chapters, {}))
    places = first.named_destinations.items()
    begin = {name.lstrip("/"): number + 1 for name, to in places if (number := first.get_destination_page_number(to))}
    printed = render(site, browser, whole(site, chapters, begin))
    for path in site.rglob("*.html"):
        address = posixpath.relpath(PRINTED, path.relative_to(site).parent.as_posix())
        text = path.read_text(encoding="utf8")
        text = re.sub(r'<p class="pdf">.*?</p>', f'<p class="pdf"><a href="{address}">This book as PDF</a></p>', text)
        path.write_text(text, encoding="utf8")
    print(f"{site / PRINTED}: {len(printed.pages)} pages")
    return 0


def order(site: Path) -> list[tuple[str, str]]:
    """Return addresses and titles of the chapters; a part has no address."""
    soup = BeautifulSoup((site / "intro.html").read_text(encoding="utf8"), "html.parser")
    found = []
    for tag in soup.select("nav.bd-links p.caption, nav.bd-links a.reference.internal"):
        href = str(tag.get("href", ""))
        found.append(("intro.html" if href == "#" else href, tag.get_text(" ", strip=True)))
    return [(address, title) for address, title in found if not REFERENCE.match(address)]


def whole(site: Path, chapters: list[tuple[str, str]], begin: dict[str, int]) -> str:
    """Return one page of all the chapters, with the numbers of the pages on which they `begin`."""
    listed, articles = [], []
    styles = re.findall(r'<link [^>]*href="([^"?]*[.]css)', (site / "intro.html").read_text(encoding="utf8"))
    for address, title in chapters:
        if not address:
            listed.append(f'<li class="part">{escape(title)}</li>')
            continue
        name = anchor(address)
        listed.append(f'<li><b><a href="#{name}">{escape(title)}</a></b>{begin.get(name, "")}</li>')
        articles.append(article(site, address, {chapter for chapter, _ in chapters}))
    links = "".join(f'<link rel="stylesheet" href="{style}">' for style in styles)
    title = escape(chapters[0][1])
    head = f'<head><meta charset="utf-8"><title>{title}</title>{links}<style>{STYLE}</style></head>'
    cover = f'<div class="book-title"><h1>{title}</h1>{"".join(f"<p>{said}</p>" for said in about(site))}</div>'
    contents = f'<div class="contents"><h1>Contents</h1><ul>{"".join(listed)}</ul></div>'
    inside = f'<div class="bd-content">{contents}{"".join(articles)}</div>'
    return f'<!DOCTYPE html><html lang="en" data-theme="light">{head}<body>{cover}{inside}</body></html>'


def about(site: Path) -> list[str]:
    """Return what the title page says below the title: what the book is about, by whom, and when it was printed."""
    soup = BeautifulSoup((site / "intro.html").read_text(encoding="utf8"), "html.parser")
    described = soup.select_one("meta[name=description]")
    told = [str(described["content"])] if described else []
    told += [tag.get_text(" ", strip=True).removeprefix("By ") for tag in soup.select(".component-author")]
    return [escape(text) for text in (*told, f"rnnlab, {date.today():%Y-%m-%d}")]


def article(site: Path, address: str, chapters: set[str]) -> str:
    """Return a chapter, in which ids and addresses are those of the whole."""
    soup = BeautifulSoup((site / address).read_text(encoding="utf8"), "html.parser")
    text = soup.select_one("article.bd-article")
    assert text is not None, address
    for tag in text.select(LEFT_OUT):
        tag.decompose()
    last = text
    while last.name in ("article", "section") and last.find(True, recursive=False):
        last = last.find_all(True, recursive=False)[-1]
    for question in soup.select("p.next-question"):  # which stands below the article, and is not to stand alone
        last.wrap(soup.new_tag("div", attrs={"class": "kept"})).append(question)
    for tag in text.select("audio"):
        tag.replace_with("(To be heard on the site.)")
    for tag in text.select("[id]"):
        tag["id"] = anchor(address, str(tag["id"]))
    for tag in text.select("[href], [src]"):
        move(tag, address, chapters)
    text["id"] = anchor(address)
    return str(text)


def move(tag: Tag, address: str, chapters: set[str]) -> None:
    """Have what a chapter leads to, or shows, be found from the whole; what is not in that is not led to."""
    for key in ("href", "src"):
        to = str(tag.get(key, ""))
        if not to or "://" in to or to.startswith("mailto:"):
            continue
        path, _, fragment = to.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(address), path)) if path else address
        tag[key] = f"#{anchor(place, fragment)}" if place in chapters else place
        if key == "href" and place not in chapters:
            del tag[key]


def anchor(address: str, fragment: str = "") -> str:
    """Return the id that a place has in the whole."""
    return re.sub(r"\W", "-", address.removesuffix(".html")) + (f"--{fragment}" if fragment else "")


def render(site: Path, browser: str, text: str) -> PdfReader:
    """Print a page from among the site's files."""
    page = site / "_print.html"
    page.write_text(text, encoding="utf8")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        shown = opened.new_page(viewport=PAPER)
        shown.emulate_media(media="print")
        shown.goto(page.resolve().as_uri(), wait_until="load", timeout=600_000)
        shown.set_default_timeout(600_000)
        shown.evaluate(FIT)
        shown.pdf(path=str(site / PRINTED), prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        opened.close()
    page.unlink()
    return PdfReader(site / PRINTED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

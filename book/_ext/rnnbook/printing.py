"""Prints a built site as one PDF, contents and chapters in the order of its sidebar, and links it on each page.

    PYTHONPATH=book/_ext python -m rnnbook.printing _build/html

All articles become one page, which headless Chromium prints twice: the first time tells where chapters begin.
"""

import posixpath
import re
import shutil
import sys
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PRINTED = "rnnlab.pdf"
REFERENCE = re.compile(r"6_lab/api\b")  # which is looked up, not read
# What is for screens: buttons, folded code, how a page was made, what interactive figures read.
LEFT_OUT = ".headerlink, .figure-files, .prev-next-area, details.provenance, details.hide, script, source, .in-dark"
STYLE = """
@page { size: A4; margin: 20mm 18mm; @bottom-center { content: counter(page); font: 9pt sans-serif; } }
@page :first { @bottom-center { content: none; } }
body { font-size: 10pt; margin: 0; }
article, .contents { break-before: page; max-width: none; padding: 0; }
.book-title { margin-top: 40vh; text-align: center; }
.contents li { display: flex; gap: 1em; list-style: none; }
.contents li b { flex: 1; font-weight: 400; }
.contents li.part { font-weight: 700; margin-top: 1em; }
.contents a { color: inherit; text-decoration: none; }
h1 { font-size: 22pt !important; }
h2 { font-size: 15pt !important; margin-top: 1.2em !important; }
h1, h2, h3, h4, dt, .rubric, figcaption, .admonition-title { break-after: avoid; }
figure, tr, .claim, .admonition, .math, .sd-card, .highlight, .cell_input { break-inside: avoid; }
.sd-row { display: block !important; }
.sd-col { max-width: none !important; }
div.highlight pre { font-size: 7.5pt !important; white-space: pre-wrap; }
"""


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
    head = f'<head><meta charset="utf-8"><title>rnnlab</title>{links}<style>{STYLE}</style></head>'
    cover = f'<div class="book-title"><h1>{escape(chapters[0][1])}</h1><p>rnnlab</p></div>'
    contents = f'<div class="contents"><h1>Contents</h1><ul>{"".join(listed)}</ul></div>'
    inside = f'<div class="bd-content">{contents}{"".join(articles)}</div>'
    return f'<!DOCTYPE html><html lang="en" data-theme="light">{head}<body>{cover}{inside}</body></html>'


def article(site: Path, address: str, chapters: set[str]) -> str:
    """Return a chapter, in which ids and addresses are those of the whole."""
    soup = BeautifulSoup((site / address).read_text(encoding="utf8"), "html.parser")
    text = soup.select_one("article.bd-article")
    assert text is not None, address
    for tag in text.select(LEFT_OUT):
        tag.decompose()
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
        shown = opened.new_page()
        shown.goto(page.resolve().as_uri(), wait_until="load", timeout=600_000)
        shown.set_default_timeout(600_000)
        shown.pdf(path=str(site / PRINTED), prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        opened.close()
    page.unlink()
    return PdfReader(site / PRINTED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

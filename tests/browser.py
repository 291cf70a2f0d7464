"""Opens every page of a built site in headless Chromium and says, in sentences, what a reader would find broken.

    python -m tests.browser _build/html

Each page is opened on a desktop and on a phone, in light and in dark. Broken is: an error on the console, a request to
another host, mathematics that is not rendered, or in two fonts, a link to a page or an anchor of the site that is not
there, or out of the folder in which the site is, a picture without alternative text, a page that scrolls sideways, or
is heavy, what axe calls serious, a figure that is hard to read, or heavy. Interactive figures are asked what they say;
and the site, as files, is searched.
"""

import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, ViewportSize, sync_playwright

from rnnlab.machine import cores
from tests import access, figures, letters

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (1400, 390)  # CSS pixels: a desktop and a phone
Mode = Literal["light", "dark"]
MODES: tuple[Mode, ...] = ("light", "dark")
PHONE = 600  # up to this width a browser lays pages out as phones do
TIMEOUT = 60_000  # milliseconds for a page
PARTS = 4  # of the pages in each view, each with a browser of its own, so that no core waits for long
HEAVIEST = 1_500_000  # bytes of a page and all that it loads, as they are once unpacked

# A host outside is refused rather than waited for: what a page asks of it shows all the same.
FLAGS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

# Resolves once fonts, pictures, mathematics and colours are what a reader will see.
SETTLED = """async () => {
  await Promise.all([...document.images].map((image) => {
    image.loading = "eager";
    return image.complete || new Promise((done) => { image.onload = image.onerror = done; });
  }));
  await document.fonts.ready;
  const turning = document.getAnimations().filter((animation) => animation instanceof CSSTransition);
  await Promise.all(turning.map((transition) => transition.finished.catch(() => {})));
}"""

LOADED = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((bytes, entry) => bytes + entry.decodedBodySize, 0)"""

SEEN = r"""(width) => {
  const shown = (text) => text.trim().replace(/\s+/g, " ").slice(0, 80);
  const name = (e) => e.tagName.toLowerCase() + (e.id ? "#" + e.id : [...e.classList].map((c) => "." + c).join(""));
  const wrong = [];

  // Mathematics. A formula may be spread over inline elements: read block by block, without code.
  const blocks = new Map([["title", document.title]]);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    if (node.parentElement.closest("script, style, template, noscript, textarea, pre, code, math")) continue;
    const block = node.parentElement.closest("p, li, td, th, dt, dd, figcaption, caption, summary, h1, h2, h3, div");
    blocks.set(block, (blocks.get(block) ?? "") + node.data);
  }
  for (const text of blocks.values()) {
    const raw = text.match(/\$\$|\$[^\s$](?:[^$]*[^\s$])?\$|\\[(\[]|\\[A-Za-z]{2,}/);
    if (raw) wrong.push(`mathematics is not rendered: ${shown(text.slice(raw.index))}`);
    if (/\|\s*:?[-\u2013\u2014]+:?\s*\|/.test(text)) wrong.push(`a table is not rendered: ${shown(text)}`);
  }
  for (const error of document.querySelectorAll("merror"))
    wrong.push(`mathematics is not understood: ${shown(error.textContent)}`);
  for (const formula of document.querySelectorAll("math[display=block]"))
    if (formula.getBoundingClientRect().left < formula.parentElement.getBoundingClientRect().left - 1)
      wrong.push(`the beginning of a formula is out of sight: ${shown(formula.textContent)}`);
  for (const stop of document.querySelectorAll("math[tabindex], math [tabindex]"))
    wrong.push(`a formula is a stop of the Tab key: ${shown(stop.textContent)}`);

  // Pictures. What builders put in for want of a description is their file's name; a link in words needs no other.
  for (const picture of document.querySelectorAll("img, [role=img], input[type=image], area")) {
    if (picture.closest("[aria-hidden=true], [role=presentation], [role=none]")) continue;
    if (picture.getAttribute("alt") === "" && picture.closest("a, button")?.textContent.trim()) continue;
    const label = ["alt", "aria-label", "aria-labelledby"].map((a) => picture.getAttribute(a)).find(Boolean);
    const file = (picture.getAttribute("src") ?? "").split("/").pop();
    if (!label || (file && label.endsWith(file)))
      wrong.push(`a picture has no alternative text: ${file.slice(0, 80) || name(picture)}`);
  }

  // Width.
  const page = document.documentElement;
  if (page.scrollWidth > width) {
    const free = (e) => {
      for (let up = e; up && up !== document.body; up = up.parentElement) {
        const { position, overflowX } = getComputedStyle(up);
        if (position === "fixed" || position === "absolute" || (up !== e && overflowX !== "visible")) return false;
      }
      return true;
    };
    const out = [...document.body.querySelectorAll("*")].find(
      (e) => e.getBoundingClientRect().right > page.scrollWidth - 2 && free(e));
    wrong.push(`the page scrolls sideways: it is ${page.scrollWidth} px wide` + (out ? `, by ${name(out)}` : ""));
  }

  const links = [...document.querySelectorAll("a[href], area[href]")].map((e) => [e.getAttribute("href"), e.href]);
  const anchors = [...document.querySelectorAll("[id], a[name]")].flatMap((e) => [e.id, e.getAttribute("name")]);
  return { wrong, links, anchors: anchors.filter(Boolean) };
}"""


# A page that only sends its reader on is not opened: where it sends them is a link.
SENT_ON = re.compile(r"""<meta\s+http-equiv=["']?refresh["']?[^>]*url=(?P<to>[^"'>]+)""", re.IGNORECASE)


class View(NamedTuple):
    """How a page is looked at."""

    width: int
    mode: Mode


class Link(NamedTuple):
    """A link as it is written on a page, and the address that it leads to."""

    written: str
    address: str


class Look(NamedTuple):
    """What one look at a page gave: what is wrong with it, where it leads, where it can be led to."""

    wrong: list[str]
    links: list[Link]
    anchors: set[str]


def find_browser() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def check(site: Path, browser: str) -> Iterator[str]:
    """Yield a sentence for everything broken on the site in the folder `site`, page by page, in the order of names."""
    pages = html_pages(site)
    found: dict[str, dict[str, list[View]]] = {page: defaultdict(list) for page in pages}
    views = [View(width, mode) for width in WIDTHS for mode in MODES]
    anchors: dict[str, set[str]] = defaultdict(set)
    looks: dict[View, dict[str, Look]] = defaultdict(dict)
    with serve(site) as address, ProcessPoolExecutor(cores(), get_context("spawn")) as browsers:
        as_files = browsers.submit(look_at_files, site, pages, browser)
        parts = [(view, pages[k::PARTS]) for view in views for k in range(PARTS)]
        for (view, _), part in zip(
            parts, browsers.map(partial(look_at_some, site, address, browser), parts), strict=True
        ):
            looks[view] |= part
    for page in pages:
        anchors[page] = set().union(*(looks[view][page].anchors for view in views))
    for view, page in product(views, pages):
        wrong, links, _ = looks[view][page]
        for what in dict.fromkeys([*wrong, *broken(links, site, address, anchors)]):
            found[page][what].append(view)
    for page in pages:
        for what, at in found[page].items():
            yield f"{page}, {said(at, views)}: {what}"
        yield from (f"{page}, as a file: {what}" for what in as_files.result()[page])


def look_at_some(site: Path, address: str, browser: str, part: tuple[View, list[str]]) -> dict[str, Look]:
    """Look at some pages in one view, in a browser of its own; of one that sends its reader on only where to."""
    looks, (view, pages) = {}, part
    with chromium(browser) as opened:
        context = open_view(opened, view)
        for page in pages:
            if sent := SENT_ON.search((site / page).read_text(encoding="utf8")):
                looks[page] = Look([], [Link(sent["to"], urljoin(address + page, sent["to"]))], set())
            else:
                looks[page] = look(context, address, page, view.width)
    return looks


def look_at_files(site: Path, pages: list[str], browser: str) -> dict[str, list[str]]:
    """What is wrong on each page where it is opened as a file: its interactive figures, and what a search finds."""
    from tests import interactive  # imports torch, which the other processes need not

    with chromium(browser) as opened:
        wrong = {page: list(interactive.check((site / page).resolve(), opened)) for page in pages}
        if "search.html" in wrong:
            wrong["search.html"] += search(site, pages, opened)
    return wrong


def search(site: Path, pages: list[str], opened: Browser) -> Iterator[str]:
    """Yield what is wrong where a reader without a server searches for a page, by its title."""
    written = [page for page in pages if (site / "_sources" / page).with_suffix(".md").is_file()]
    if not written:
        return
    title = re.search(r"<title>[\s\d.]*([\w ]+)", (site / written[-1]).read_text(encoding="utf8"))[1].strip()
    page, heard = opened.new_page(), []
    page.on("console", lambda message: message.type == "error" and heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(f"{(site / 'search.html').resolve().as_uri()}?q={quote(title)}", wait_until="load")
    found = page.locator(f"#search-results a[href*='{written[-1]}']")
    try:
        found.first.wait_for(timeout=10_000)
    except Error:
        yield f"a search for '{title}' does not find {written[-1]}"
    yield from (f"an error on the console: {error}" for error in dict.fromkeys(heard))
    page.close()


def html_pages(site: Path) -> list[str]:
    """Return the addresses of the site's pages; what lies below `_static` and its like are parts of pages."""
    paths = sorted(path.relative_to(site) for path in site.rglob("*.html"))
    return [path.as_posix() for path in paths if not any(part.startswith("_") for part in path.parts)]


def said(at: list[View], views: list[View]) -> str:
    """Say in which views something was seen, briefly if in all of them."""
    if at == views:
        return "at every width, light and dark"
    return "; ".join(f"{width} px, {mode}" for width, mode in at)


def look(context: BrowserContext, address: str, name: str, width: int) -> Look:
    """Open a page as a reader does, and look at it once it stands."""
    page = context.new_page()
    heard = listen(page, address)
    page.goto(address + name, wait_until="load", timeout=TIMEOUT)
    page.evaluate(SETTLED)
    loaded = page.evaluate(LOADED)
    seen = page.evaluate(SEEN, width)
    if loaded > HEAVIEST:
        heard.append(f"the page weighs {loaded / 1e6:.1f} MB")
    barred = list(access.check(page))
    drawn = [*figures.measure(page, context, phone=width <= PHONE), *letters.check(page)]
    page.close()
    return Look(
        [*heard, *seen["wrong"], *barred, *drawn], [Link(*link) for link in seen["links"]], set(seen["anchors"])
    )


def listen(page: Page, address: str) -> list[str]:
    """Return a list that fills with what the page asks of other hosts and with the errors on its console."""
    heard: list[str] = []

    def requested(request) -> None:
        if elsewhere(request.url, address):
            heard.append(f"it asks another host for {request.url}")

    def logged(message: ConsoleMessage) -> None:
        source = message.location["url"]
        if message.type == "error" and not elsewhere(source, address):
            heard.append(f"an error on the console: {message.text} ({source.removeprefix(address)})")

    page.on("request", requested)
    page.on("websocket", requested)
    page.on("console", logged)
    page.on("pageerror", lambda error: heard.append(f"an error on the console: {error}"))
    return heard


def elsewhere(url: str, address: str) -> bool:
    return urlsplit(url).scheme in ("http", "https", "ws", "wss") and not url.startswith(address)


def broken(links: list[Link], site: Path, address: str, anchors: dict[str, set[str]]) -> Iterator[str]:
    """Yield what is wrong with the links that stay on the site."""
    for written, target in links:
        if not target.startswith(address):
            if urlsplit(target).netloc == urlsplit(address).netloc:
                yield f"a link leads out of the site: {written}"
            continue
        url, fragment = urldefrag(target.removeprefix(address))
        name = unquote(urlsplit(url).path)
        if (site / name).is_dir():
            name = f"{name.rstrip('/')}/index.html".lstrip("/")
        if not (site / name).is_file():
            yield f"a link leads nowhere: {written}"
        elif fragment not in ("", "top") and name in anchors and unquote(fragment) not in anchors[name]:
            yield f"a link leads to an anchor that is not there: {written}"


class _Silent(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections

    def log_message(self, *_) -> None:
        pass


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Serve a folder, and what lies beside it, on a free port of this machine, and give the folder's address."""
    place = site.resolve()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(place.parent))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{quote(place.name)}/"
        server.shutdown()


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """Start a headless Chromium with a profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


def open_view(browser: Browser, view: View) -> BrowserContext:
    """Open what has the width of a view, and whose reader asks for its mode."""
    size = ViewportSize(width=view.width, height=900)
    return browser.new_context(viewport=size, color_scheme=view.mode, is_mobile=view.width <= PHONE)


def main(arguments: list[str]) -> int:
    """Check the site in the folder named, and print what is broken."""
    if len(arguments) != 1 or not (site := Path(arguments[0])).is_dir():
        print("python -m tests.browser SITE: SITE is the folder of a built site, such as _build/html", file=sys.stderr)
        return 2
    if not (browser := find_browser()):
        print(f"no browser: none of {', '.join(BROWSERS)} is installed", file=sys.stderr)
        return 2
    findings = 0
    for finding in check(site, browser):
        findings += 1
        print(finding)
    broken = "nothing is" if not findings else "1 thing is" if findings == 1 else f"{findings} things are"
    print(f"{len(html_pages(site))} pages at {WIDTHS[0]} and {WIDTHS[1]} px, light and dark: {broken} broken")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Measures the figures of a built site as a reader sees them: how large their writing is on a phone, its contrast, and
the weight of their files."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from playwright.sync_api import BrowserContext, Page

SMALLEST, CONTRAST, HEAVIEST = 11, 4.5, 150_000  # CSS pixels on a phone; WCAG 2.1; bytes

# Address and width of each figure's drawing that the page chose, and the page's ground; a static figure counts, too.
CHOSEN = """() => {
  for (const figure of document.querySelectorAll(".has-interactive")) figure.classList.remove("has-interactive");
  const shown = [...document.querySelectorAll("figure img")].filter((image) => image.clientWidth > 0);
  const ground = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);
  const address = (image) => image.currentSrc.split("#")[0] + new URL(image.src).hash;
  return [shown.map((image) => [address(image), image.clientWidth]), ground[3] === 0 ? [255, 255, 255] : ground];
}"""
# Width and weight of a drawing, and its writing with heights and colours; text in an element of its own is that one's.
WRITTEN = """async () => {
  const texts = [...document.querySelectorAll("text, tspan")].filter(
    (text) => [...text.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  return {
    width: document.documentElement.getBoundingClientRect().width,
    bytes: (await (await fetch(location.href)).arrayBuffer()).byteLength,
    texts: texts.map((text) => {
      const { fontSize, fill, fillOpacity, opacity } = getComputedStyle(text), { a, b } = text.getScreenCTM();
      const [red, green, blue, alpha = 1] = fill.match(/[\\d.]+/g).map(Number);
      const height = parseFloat(fontSize) * Math.hypot(a, b);
      return [text.textContent, height, [red, green, blue], alpha * fillOpacity * opacity];
    }),
  };
}"""


def measure(page: Page, context: BrowserContext, *, phone: bool) -> Iterator[str]:
    """Yield what is wrong with the figures of a page that is open, in the mode that it is open in."""

    @cache
    def drawing(address: str) -> dict[str, Any]:
        opened = context.new_page()
        opened.route("**/favicon.ico", lambda route: route.abort())  # asked for beside a picture alone
        opened.goto(address)
        found = opened.evaluate(WRITTEN)
        opened.close()
        return found

    shown, ground = page.evaluate(CHOSEN)
    for address, width in shown:
        if not address.partition("#")[0].endswith(".svg"):
            continue
        found = drawing(address)
        if found["bytes"] > HEAVIEST:
            yield f"a figure has {found['bytes'] / 1000:.0f} kB"
        for text, height, color, opacity in found["texts"]:
            if phone and (height := height * width / found["width"]) < SMALLEST:
                yield f"a figure's writing is {height:.1f} px high: {text}"
            seen = [opacity * ink + (1 - opacity) * paper for ink, paper in zip(color, ground[:3], strict=True)]
            if (ratio := contrast(seen, ground[:3])) < CONTRAST:
                yield f"a figure's writing has a contrast of {ratio:.1f}: {text}"


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast of two colours of sRGB, 0 to 255, by the formula of WCAG 2.1."""

    def luminance(color: list[float]) -> float:
        linear = [c / 255 / 12.92 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)

"""Finds letters in a page's formulas that another font draws than the rest, as where a font was cut down too far."""

from collections import Counter
from collections.abc import Iterator

from playwright.sync_api import Page

# Marks the first of each letter, or word, in formulas.
MARK = """() => {
  const seen = new Set();
  for (const part of document.querySelectorAll("math :is(mi, mn, mo, mtext)")) {
    const letter = [part.tagName, part.getAttribute("mathvariant"), part.textContent].join();
    if (!part.textContent.trim() || seen.has(letter) || part.closest("merror")) continue;
    part.setAttribute("data-letter", part.textContent);
    seen.add(letter);
  }
}"""


def check(page: Page) -> Iterator[str]:
    """Yield what is wrong with the fonts of the formulas on a page that is open."""
    page.evaluate(MARK)
    asked = page.context.new_cdp_session(page)
    for domain in ("DOM", "CSS"):
        asked.send(f"{domain}.enable")
    top = asked.send("DOM.getDocument")["root"]["nodeId"]
    drawn = {}
    for node in asked.send("DOM.querySelectorAll", {"nodeId": top, "selector": "[data-letter]"})["nodeIds"]:
        told = asked.send("DOM.getAttributes", {"nodeId": node})["attributes"]
        fonts = asked.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
        drawn[node] = told[told.index("data-letter") + 1], {font["familyName"] for font in fonts}
    asked.detach()
    most = Counter(font for _, fonts in drawn.values() for font in fonts).most_common(1)
    for letter, fonts in drawn.values():
        if fonts - {font for font, _ in most}:
            yield f"a formula's letter has another font than the rest: {letter}"

"""What keeps readers out of a page, by axe's rules, those that it calls serious or critical."""

from collections.abc import Iterator
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

GRAVE = ("serious", "critical")
# Tables without names of columns are minor to axe, headings out of order moderate; not here.
RULES = ("empty-table-header", "heading-order", "page-has-heading-one")
# What pictures are called is asked without axe, of more of them; and nothing is fetched.
OPTIONS = {
    "resultTypes": ["violations"],
    "preload": False,
    "rules": {"image-alt": {"enabled": False}, "role-img-alt": {"enabled": False}},
}

# Code is thousands of words in a few colours, and most of axe's time: of words that look alike, on grounds alike, the
# first is kept and the others join the text around them.
ALIKE = """() => {
  const seen = new Set(), grounds = new Map([[null, ""]]);
  const ground = (e) => {
    if (!grounds.has(e)) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(e);
      grounds.set(e, [ground(e.parentElement), backgroundColor, backgroundImage, opacity].join());
    }
    return grounds.get(e);
  };
  const again = [...document.querySelectorAll(":is(pre, dt) span")].filter((word) => {
    if (word.childElementCount || word.hasAttribute("tabindex") || word.id) return false;
    const { color, fontSize, fontWeight } = getComputedStyle(word);
    const look = [color, fontSize, fontWeight, ground(word)].join();
    return seen.has(look) || !seen.add(look);
  });
  for (const word of again) word.replaceWith(word.textContent);
}"""


def check(page: Page) -> Iterator[str]:
    """Yield a sentence for each rule that an open page breaks, with the first place where it does."""
    page.evaluate(ALIKE)
    page.evaluate(AXE_SCRIPT)
    found: dict[str, Any] = page.evaluate("(options) => axe.run(options)", OPTIONS)
    for rule in found["violations"]:
        # axe takes a name that is a formula for none; readers of screens read it.
        places = [node for node in rule["nodes"] if rule["id"] != "empty-table-header" or "<math" not in node["html"]]
        if places and (rule["impact"] in GRAVE or rule["id"] in RULES):
            first, *more = places
            also = f", and {len(more)} more" if more else ""
            yield f"{rule['help']} ({rule['id']}): {' '.join(map(str, first['target']))}{also}"

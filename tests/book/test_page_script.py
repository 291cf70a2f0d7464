"""What the book's own script adds to a page, in a browser: code that folds."""

import shutil
from pathlib import Path

import pytest

from tests.browser import chromium, find_browser, serve

STATIC = Path(__file__).parents[2] / "book" / "_static"
PAGE = """\
<!doctype html><html lang="en"><title>Page</title>
<link rel="stylesheet" href="page.css"><script src="page.js" defer></script>
<div class="article-header-buttons"></div>
<article class="bd-article">
<div class="cell"><div class="cell_input"><pre>shown = 1</pre></div></div>
<div class="cell"><details class="hide above-input"><summary>Show</summary>
<div class="cell_input"><pre>hidden = 1</pre></div></details></div>
</article>
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    (site / "page.html").write_text(PAGE)
    for name in ("page.js", "page.css"):
        shutil.copy(STATIC / name, site)
    with serve(site) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    found = find_browser()
    if found is None:
        pytest.skip("needs Chromium")
    with chromium(found) as opened:
        yield opened


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.goto(f"{address}page.html")
    yield page
    page.close()


def test_code_folds_cell_by_cell_and_all_at_once(page):
    shown, hidden = page.get_by_text("shown = 1"), page.get_by_text("hidden = 1")
    assert (shown.is_visible(), hidden.is_visible()) == (True, False)
    page.locator("details.fold-code > summary").press("Enter")
    assert not shown.is_visible()
    page.get_by_role("button", name="Show all code").click()
    assert (shown.is_visible(), hidden.is_visible()) == (True, True)
    page.get_by_role("button", name="Fold all code").click()
    assert (shown.is_visible(), hidden.is_visible()) == (False, False)

"""The browser finds each fault that is planted on a page of its own, and none in the book as it is configured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import browser
from tests.book.test_site import Book

PICTURE = "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20'><rect width='40' height='20'/></svg>"
WRITING = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 400 80' width='400'><!--%s-->"
    "<text y='60' style='font-size: %spx; fill: %s'>%s</text></svg>"
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A page</title>
<link rel="icon" href="line.svg">
</head>
<body>
<h1 id="top">A page</h1>
<p>Half costs $5, in code <code>$HOME</code>; see <a href="#top">above</a>, <a href="two.html#part">the other</a>,
<a href="numbers.json">its numbers</a>, <a href="https://example.com/paper#none">the paper</a>.</p>
<p><img src="line.svg" alt="A line that rises"> <a href="two.html"><img src="line.svg" alt="">The same</a></p>
<div style="overflow-x: auto" tabindex="0"><div style="width: 2000px">Wide, in a box of its own.
<table><tr><th><math><mi>w</mi></math></th></tr><tr><td>1.25</td></tr></table></div></div>
%s
</body>
</html>
"""
EVERYWHERE = "at every width, light and dark"
ON_PHONES = "390 px, light; 390 px, dark"
# By the page that they share: what is planted, and what is said of it.
PAGES = {
    "console": {
        "an exception": (
            "<script>throw new Error('lost')</script>",
            f"{EVERYWHERE}: an error on the console: lost",
        ),
        "a message of error": (
            "<script>console.warn('fine'); console.error('lost')</script>",
            f"{EVERYWHERE}: an error on the console: lost (<page>)",
        ),
        "an error in the dark": (
            "<script>if (matchMedia('(prefers-color-scheme: dark)').matches) console.error('dark')</script>",
            "1400 px, dark; 390 px, dark: an error on the console: dark (<page>)",
        ),
        "a file that is not there": (
            "<script src='lost.js'></script>",
            f"{EVERYWHERE}: an error on the console: Failed to load resource: "
            "the server responded with a status of 404 (File not found) (lost.js)",
        ),
        "a script of another host": (
            "<script src='https://example.com/x.js'></script>",
            f"{EVERYWHERE}: it asks another host for https://example.com/x.js",
        ),
        "a request to another host, made by a script": (
            "<script>fetch('http://example.com/count').catch(() => {})</script>",
            f"{EVERYWHERE}: it asks another host for http://example.com/count",
        ),
    },
    "mathematics": {
        "mathematics between dollars": (
            "<p>It falls with $e^{-<em>t</em>}$ steps.</p>",
            f"{EVERYWHERE}: mathematics is not rendered: $e^{{-t}}$ steps.",
        ),
        "a letter of a formula in another font": (
            "<p><math><mi mathvariant='normal' style='font-family: monospace'>h</mi></math></p>",
            f"{EVERYWHERE}: a formula's letter has another font than the rest: h",
        ),
        "displayed mathematics": (
            r"<div>\[ h_t = W h_{t-1} \]</div>",
            rf"{EVERYWHERE}: mathematics is not rendered: \[ h_t = W h_{{t-1}} \]",
        ),
        "inline mathematics": (
            r"<ul><li>where \(\rho\) is less</li></ul>",
            rf"{EVERYWHERE}: mathematics is not rendered: \(\rho\) is less",
        ),
        "mathematics that is not understood": (
            "<math><merror><mtext>Missing close brace</mtext></merror></math>",
            f"{EVERYWHERE}: mathematics is not understood: Missing close brace",
        ),
        "a formula that begins out of sight": (
            "<div style='direction: rtl; overflow-x: auto' tabindex='0'><math display='block' style='width: 3000px'>"
            "<mi>x</mi></math></div>",
            f"{EVERYWHERE}: the beginning of a formula is out of sight: x",
        ),
        "a formula that Tab stops at": (
            "<p><math tabindex='0'><mi>x</mi></math></p>",
            f"{EVERYWHERE}: a formula is a stop of the Tab key: x",
        ),
        "a word of code like others, but on another ground": (
            "<pre><span style='color: black'>once</span> <span style='color: black'>again</span></pre>"
            "<pre class='dark' style='background: #444'><span style='color: black'>once</span></pre>",
            f"{EVERYWHERE}: Elements must meet minimum color contrast ratio thresholds (color-contrast): .dark > span",
        ),
    },
    "rules": {
        "grey on white": (
            "<p style='background: white; color: #999'>Hard to read.</p>",
            f"{EVERYWHERE}: Elements must meet minimum color contrast ratio thresholds (color-contrast): "
            "p:nth-child(5)",
        ),
        "a button without a name": (
            "<button></button>",
            f"{EVERYWHERE}: Buttons must have discernible text (button-name): button",
        ),
        "a column without a name": (
            "<table><tr><th></th><th>share</th></tr><tr><td>plain</td><td>1</td></tr></table>",
            f"{EVERYWHERE}: Table header text should not be empty (empty-table-header): "
            "body > table > tbody > tr:nth-child(1) > th:nth-child(1)",
        ),
        "a heading that skips a level": (
            "<h4>Deep</h4>",
            f"{EVERYWHERE}: Heading levels should only increase by one (heading-order): h4",
        ),
    },
    "links": {
        "a link to a page that is not there": (
            "<a href='three.html#part'>further</a>",
            f"{EVERYWHERE}: a link leads nowhere: three.html#part",
        ),
        "a link to the server instead of the site": (
            "<a href='/two.html#part'>further</a>",
            f"{EVERYWHERE}: a link leads out of the site: /two.html#part",
        ),
        "a link to an anchor that is not there": (
            "<a href='two.html#whole'>further</a>",
            f"{EVERYWHERE}: a link leads to an anchor that is not there: two.html#whole",
        ),
        "a link to an anchor of the page itself that is not there": (
            "<a href='#bottom'>below</a>",
            f"{EVERYWHERE}: a link leads to an anchor that is not there: #bottom",
        ),
        "a table that is not rendered": (
            "<p>| seed | norm |M| | | --: | --: | | 1 | 2 |</p>",
            f"{EVERYWHERE}: a table is not rendered: | seed | norm |M| | | --: | --: | | 1 | 2 |",
        ),
    },
    "figures": {
        "a figure in small print": (
            "<figure><img src='small.svg' alt='Small print' style='width: 200px'></figure>",
            f"{ON_PHONES}: a figure's writing is 10.0 px high: small",
        ),
        "a figure in pale ink": (
            "<figure><img src='pale.svg' alt='Pale ink' style='width: 340px'></figure>",
            f"{EVERYWHERE}: a figure's writing has a contrast of 2.4: pale",
        ),
        "a figure too heavy": (
            "<figure><img src='heavy.svg' alt='Much ink' style='width: 340px'></figure>",
            f"{EVERYWHERE}: a figure has 150 kB",
        ),
        "a picture without alternative text": (
            "<img src='line.svg'>",
            f"{EVERYWHERE}: a picture has no alternative text: line.svg",
        ),
    },
    "pictures": {
        "a picture with nothing for its text": (
            "<p>See <img src='line.svg' alt=''></p>",
            f"{EVERYWHERE}: a picture has no alternative text: line.svg",
        ),
        "a page that scrolls sideways on a phone": (
            "<div class='wide' style='width: 772px'>x</div>",
            f"{ON_PHONES}: the page scrolls sideways: it is 780 px wide, by div.wide",
        ),
    },
    "heavy": {
        "a page that is too heavy": (
            "<img src='huge.svg' alt='A line.' width='40'>",
            f"{EVERYWHERE}: the page weighs 1.6 MB",
        ),
        "a page that scrolls sideways everywhere": (
            "<pre id='code' style='width: 1600px; margin: 0'>x = 1</pre>",
            f"{EVERYWHERE}: the page scrolls sideways: it is 1608 px wide, by pre#code",
        ),
        "a picture with its file's name for its text": (
            "<img src='line.svg' alt='_images/line.svg'>",
            f"{EVERYWHERE}: a picture has no alternative text: line.svg",
        ),
    },
}
FAULTS = {fault: (page, *told) for page, faults in PAGES.items() for fault, told in faults.items()}


@pytest.fixture(scope="module")
def chromium() -> str:
    path = browser.find_browser()
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(browser.BROWSERS)} is installed")
    return path


def write_site(folder: Path, **pages: str) -> Path:
    """Write a site of pages without fault, but for what is added to the bodies of those that are named."""
    for name, fault in {"one": "", "two": "<h2 id='part'>Part</h2>", **pages}.items():
        (folder / f"{name}.html").write_text(PAGE % fault, encoding="utf8")
    (folder / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=one.html" />', encoding="utf8")
    (folder / "line.svg").write_text(PICTURE, encoding="utf8")
    (folder / "small.svg").write_text(WRITING % ("", 20, "#000", "small"), encoding="utf8")
    (folder / "pale.svg").write_text(WRITING % ("", 40, "#d55e00aa", "pale"), encoding="utf8")
    (folder / "heavy.svg").write_text(WRITING % ("x" * 150_000, 40, "#000", "heavy"), encoding="utf8")
    (folder / "huge.svg").write_text(WRITING % ("x" * 1_600_000, 40, "#000", "huge"), encoding="utf8")
    (folder / "numbers.json").write_text("{}", encoding="utf8")
    (folder / "_static").mkdir()
    (folder / "_static" / "piece.html").write_text("{{ $piece$ }}", encoding="utf8")
    return folder


@pytest.fixture(scope="module")
def findings(chromium, tmp_path_factory) -> list[str]:
    """What the browser finds on a site of pages with faults, and three without."""
    pages = {page: "".join(planted for planted, _ in faults.values()) for page, faults in PAGES.items()}
    return list(browser.check(write_site(tmp_path_factory.mktemp("site"), **pages), chromium))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(findings, fault):
    page, _, said = FAULTS[fault]
    assert f"{page}.html, {said.replace('<page>', f'{page}.html')}" in findings


def test_nothing_but_the_planted_faults_is_found(findings):
    assert len(findings) == len(set(findings)) == len(FAULTS)


def test_the_command_prints_what_is_broken_and_says_so_by_its_status(chromium, tmp_path, capsys):
    site = write_site(tmp_path)
    assert browser.main([str(site)]) == 0
    assert capsys.readouterr().out == "3 pages at 1400 and 390 px, light and dark: nothing is broken\n"
    (site / "one.html").unlink()
    command = [sys.executable, "-m", "tests.browser", str(site)]
    done = subprocess.run(command, cwd=browser.ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"index.html, {EVERYWHERE}: a link leads nowhere: one.html",
        "2 pages at 1400 and 390 px, light and dark: 1 thing is broken",
    ]
    assert browser.main([str(tmp_path / "none")]) == 2


# What a page of the book may hold, each in a size that no screen takes: it is the style sheet that has to cope.
WIDE = r"""# Wide things

(part)=
## A part, with $\Omega$ in its title

Inline, $\left\|\frac{\partial E}{\partial x_{k+1}} \frac{\partial x_{k+1}}{\partial x_k}\right\|$, and {eq}`eq-wide`:

$$
\Omega = \sum_k \left(\frac{a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q+r+s+t+u+v+w+x+y+z}{1+2+3+4+5+6+7+8+9}
+ \frac{a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q+r+s+t+u+v+w+x+y+z}{1+2+3+4+5+6+7+8+9} - 1\right)^2
$$ (eq-wide)

```shell
papermill book/5_experiments/temporal_order.md out.ipynb -f params/laptop/temporal_order.yaml -p updates 500 -p seeds 3
```

| a column | another column | a third column | a fourth column | a fifth column | a sixth column | a seventh column |
|:--|--:|--:|--:|--:|--:|--:|
| 123456789012345 | 123456789012345 | 123456789012345 | 123456789012345 | 123456789012345 | 123456789012345 | 1 |

See {prf:ref}`thm-wide`, {ref}`the part <part>`, {numref}`fig-wide`, {cite:p}`pascanu2013`,
`rnnlab.engine.a_name_too_long_for_a_line_on_a_phone`.

````{prf:theorem} Width
:label: thm-wide

$$ \|a\| \le \|b\|\,\|c\|\,\|d\|\,\|e\|\,\|f\|\,\|g\|\,\|h\|\,\|k\|\,\|l\|\,\|m\|\,\|n\|\,\|o\|\,\|p\|\,\|q\| $$
````

````{exercise} Width
:label: ex-wide

Why?
````

````{solution} ex-wide
:label: sol-wide
:class: dropdown

$x = 1$.
````

```{code-cell} python3
:tags: [hide-input]

from IPython.display import Markdown
rows = (["a wide column"] * 12, ["--:"] * 12, ["$0.123456789$"] * 12)
Markdown("\n".join(f"| {' | '.join(row)} |" for row in rows))
```

```{code-cell} python3
print("x" * 300)
```

```{code-cell} python3
---
mystnb:
  image:
    alt: A line that rises.
  figure:
    name: fig-wide
    caption: |
      A line, 20 inches long.
---
%config InlineBackend.figure_formats = ["svg"]
import matplotlib.pyplot as plt
plt.figure(figsize=(20, 2))
plt.plot([0, 1])
plt.show()
```

```{bibliography}
```
"""


def test_nothing_is_broken_in_the_book_as_it_is_configured_but_for_a_formula_that_is_undone(chromium, tmp_path):
    book = Book(tmp_path, {"one": WIDE, "two": "# Two\n\nBack to {doc}`one`: $\\rho < 1$.\n"})
    built = book.build()
    assert built.returncode == 0, built.stdout
    assert {"intro.html", "one.html", "two.html", "genindex.html", "search.html"} < set(browser.html_pages(book.site))
    undone, count = re.subn(r"<math.*?</math>", r"\\(\\rho &lt; 1\\)", book.page("two"))
    assert count == 1
    (book.site / "two.html").write_text(undone, encoding="utf8")
    raw = r"mathematics is not rendered: \(\rho < 1\)."
    assert list(browser.check(book.site, chromium)) == [f"two.html, {EVERYWHERE}: {raw}"]

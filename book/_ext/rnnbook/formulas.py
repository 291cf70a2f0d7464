"""Formulas as MathML, which browsers draw themselves: nothing to load but a font, no stop for those who go by tabs.

MathJax makes it from LaTeX while the book is built, for a browser that knows all of MathML; what those at hand leave
out (the letters of `mathvariant`, the columns of a table) is put in their terms.
"""

import atexit
import json
import re
import unicodedata
from contextlib import suppress
from functools import cache
from html import escape
from importlib.resources import files
from itertools import pairwise
from xml.etree import ElementTree

import quickjs
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

log = logging.getLogger(__name__)

# What MathJax is made of, in the order in which it starts; the packages of macros that pages may use.
PARTS = ("startup.js", "core.js", "adaptors/liteDOM.js", "input/tex-full.js")
PACKAGES = ["base", "ams", "boldsymbol", "newcommand"]
BEFORE = f"var self = globalThis, MathJax = {{startup: {{typeset: false}}, tex: {{packages: {json.dumps(PACKAGES)}}}}};"
WORDS = re.compile(r"_\{(rec|in|out)\b")  # indices that are words, not products of letters
OPENING, CLOSING = re.compile(r"[(\[]+$"), re.compile(r"^[)\].,;:!?%'\u2019\u201d]+")
START = """
MathJax.loader.preLoad("loader", "startup", "core", "adaptors/liteDOM", "input/tex-full");
MathJax.config.startup.ready();
"""


def setup(app):
    app.add_post_transform(Together)
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    app.config.html_math_renderer = "mathml"


class Together(SphinxPostTransform):
    """Brackets and punctuation stay on the line of the formula that they touch; a browser would break there."""

    default_priority = 900
    formats = ("html",)

    def run(self, **_):
        for formula in list(self.document.findall(nodes.math)):
            parent, at = formula.parent, formula.parent.index(formula)
            before, after = parent[at - 1] if at else "", parent[at + 1] if at + 1 < len(parent) else ""
            opening = touching(OPENING, before)
            closing = touching(CLOSING, after)
            if opening:
                parent[at - 1] = nodes.Text(before.removesuffix(opening))
            if closing:
                parent[at + 1] = nodes.Text(after.removeprefix(closing))
            if opening or closing:
                parent[at] = nodes.inline("", opening, formula, nodes.Text(closing), classes=["together"])


def touching(signs: re.Pattern, beside: nodes.Node | str) -> str:
    """Return the signs of a text beside a formula that touch it."""
    found = signs.search(beside) if isinstance(beside, nodes.Text) else None
    return found[0] if found else ""


@cache
def mathjax() -> quickjs.Context:
    """Start MathJax, in an engine without a browser."""
    atexit.register(mathjax.cache_clear)  # an engine that outlives Python does not let it end
    place, engine = files("sphinx-mathjax-offline") / "static" / "mathjax", quickjs.Context()
    for script in (BEFORE, *((place / part).read_text(encoding="utf8") for part in PARTS), START):
        engine.eval(script)
    return engine


@cache
def mathml(latex: str, block: bool) -> str:
    """Return a formula in MathML.

    Args:
        latex: as it is written on a page.
        block: whether it has lines of its own.

    Raises:
        ValueError: MathJax does not understand it.
    """
    latex = WORDS.sub(r"_{\\mathrm{\1}", latex)
    written = mathjax().eval(f"MathJax.tex2mml({json.dumps(latex)}, {{display: {json.dumps(block)}}})")
    root = ElementTree.fromstring(written.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "", 1))
    for element in root.iter():
        if element.tag == "merror":
            raise ValueError(element.get("data-mjx-error"))
        simplify(element)
        for at in reversed(range(1, len(element) - 1)):
            if element[at + 1].text == "\u2061" and ends(element[at - 1]):
                element.insert(at, ElementTree.Element("mspace", width="0.167em"))
        for before, after in pairwise(element):
            if before.text == "\u2061" and after.tag != "mo":  # a function of what has no bracket
                before.set("rspace", "0.167em")
            elif before.tag == after.tag == "mo" and after.text in ("−", "+", "±") and before.text not in (")", "]"):
                after.set("form", "prefix")  # a sign; a browser takes what does not come first for a sum's
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def ends(element: ElementTree.Element) -> bool:
    """Whether this is something, or the end of it, and no operator that has its own space."""
    return element.text in (")", "]") or element.tag not in ("mo", "munder", "munderover", "mspace")


def simplify(element: ElementTree.Element) -> None:
    """Say in what browsers know what MathJax says of an element; leave out spaces, but those of words."""
    element.text, element.tail = element.text or "", None
    if element.tag != "mtext":
        element.text = element.text.strip()
    kind = element.attrib.pop("mathvariant", "").upper().replace("BOLD-", "BOLD ")
    if kind == "NORMAL":
        element.set("mathvariant", "normal")
    elif kind:
        element.text = "".join(letter(plain, kind) for plain in element.text)
    alone = element[0] if element.tag == "mrow" and len(element) == 1 else element
    if alone.tag == "mo" and (element.get("data-mjx-texclass") == "ORD" or alone.text in ("|", "‖", "/")):
        alone.attrib |= {"lspace": "0", "rspace": "0"}
    if element.tag == "mtable" and element.get("columnspacing") == "0em":
        element.set("class", "aligned")
    elif element.tag == "mtable" and element.get("columnalign", "").startswith("left"):
        element.set("class", "left")
    for name in [name for name in element.attrib if name.startswith(("data-", "column", "row"))]:
        del element.attrib[name]


def letter(plain: str, kind: str) -> str:
    """Return a letter or digit in Unicode's alphabet of a kind, such as BOLD; as it is if it is not in that."""
    name = re.sub("(LATIN|GREEK) (CAPITAL|SMALL) LETTER", r"\2", unicodedata.name(plain))
    for begin in ("MATHEMATICAL ", ""):
        with suppress(KeyError):
            return unicodedata.lookup(f"{begin}{kind} {name}")
    return plain


def drawn(node: nodes.Element, latex: str, *, block: bool) -> str:
    """Return a formula in MathML; with a warning, as it is written, if it is not understood."""
    try:
        return mathml(latex, block)
    except (ValueError, quickjs.JSException) as error:
        log.warning("a formula is not understood: %s: %s", latex, error, location=node)
        return f"<code>{escape(latex)}</code>"


def inline(self, node):
    """Write a formula in a line of text."""
    self.body.append(drawn(node, node.astext(), block=False))
    raise nodes.SkipNode


def display(self, node):
    """Write a formula on lines of its own, with its number."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    latex = node.astext()
    if r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{split}}{latex}\end{{split}}"
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(drawn(node, latex, block=True) + "</div>\n")
    raise nodes.SkipNode

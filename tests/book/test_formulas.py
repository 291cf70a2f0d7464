"""Formulas in MathML: what browsers at hand know, and what they are told otherwise."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from docutils import nodes
from docutils.utils import new_document

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))
from rnnbook import formulas


def inside(latex: str, *, block: bool = False) -> str:
    return formulas.mathml(latex, block).removeprefix("<math>").removesuffix("</math>")


# What a browser shows, by hand; U+2061 says that a function is applied.
WRITTEN = {
    r"x_t": "<msub><mi>x</mi><mi>t</mi></msub>",
    r"a < b": "<mi>a</mi><mo>&lt;</mo><mi>b</mi>",
    r"\mathbf{1}": "<mrow><mn>𝟏</mn></mrow>",
    r"\mathcal{N}": "<mrow><mi>𝒩</mi></mrow>",
    r"\mathbb{R}": "<mrow><mi>ℝ</mi></mrow>",
    r"\mathrm{d}": '<mrow><mi mathvariant="normal">d</mi></mrow>',
    r"\ln x": '<mi>ln</mi><mo rspace="0.167em">\u2061</mo><mi>x</mi>',
    r"\tanh(x)": '<mi>tanh</mi><mo>\u2061</mo><mo stretchy="false">(</mo><mi>x</mi><mo stretchy="false">)</mo>',
    r"2\ln x": '<mn>2</mn><mspace width="0.167em"></mspace><mi>ln</mi><mo rspace="0.167em">\u2061</mo><mi>x</mi>',
    r"-\ln x": '<mo>−</mo><mi>ln</mi><mo rspace="0.167em">\u2061</mo><mi>x</mi>',
    r"= -1": '<mo>=</mo><mo form="prefix">−</mo><mn>1</mn>',
    r"W_{rec,i}": "<msub><mi>W</mi><mrow><mrow><mi>rec</mi></mrow><mo>,</mo><mi>i</mi></mrow></msub>",
    r"\text{if } a": "<mtext>if\u00a0</mtext><mi>a</mi>",
    r"a - 1": "<mi>a</mi><mo>−</mo><mn>1</mn>",
}


@pytest.mark.parametrize("latex", WRITTEN)
def test_a_formula_is_what_browsers_know(latex):
    assert inside(latex) == WRITTEN[latex]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("so ($x$), and $y$ too", ["so ", "($x$),", " and ", "$y$", " too"]),
        ("$x$", ["$x$"]),
        ("($x$", ["", "($x$"]),
        ("$x$ ([$y$]; $z$.", ["$x$", " ", "([$y$];", " ", "$z$.", ""]),
    ],
)
def test_brackets_and_punctuation_stay_on_the_line_of_the_formula_that_they_touch(text, shown):
    document, paragraph = new_document("page"), nodes.paragraph()
    for at, part in enumerate(text.split("$")):
        paragraph += [nodes.math(part, part)] if at % 2 else [nodes.Text(part)] * bool(part)
    document += paragraph
    formulas.Together(document).run()
    for formula in document.findall(nodes.math):
        formula.children = [nodes.Text(f"${formula.astext()}$")]
    assert [part.astext() for part in paragraph] == shown
    assert all("together" in part["classes"] for part in paragraph if isinstance(part, nodes.inline))


def test_lines_that_are_aligned_say_so_to_the_style_sheet():
    root = ElementTree.fromstring(formulas.mathml(r"\begin{split} a &= b \\ &= c \end{split}", True))
    (table,) = root
    assert (root.get("display"), table.get("class"), table.get("columnalign")) == ("block", "aligned", None)
    assert [[len(cell) for cell in row] for row in table] == [[1, 3], [0, 3]]


def test_cases_begin_on_the_left():
    (case,) = ElementTree.fromstring(formulas.mathml(r"\begin{cases} a & b \\ c & d \end{cases}", True))
    assert [table.get("class") for table in case.iter("mtable")] == ["left"]


@pytest.mark.parametrize(
    ("latex", "said"), [(r"\foo", r"Undefined control sequence \\foo"), (r"\frac{a", "Missing close brace")]
)
def test_what_is_not_understood_is_refused(latex, said):
    with pytest.raises(ValueError, match=said):
        formulas.mathml(latex, False)

"""What captions call by one name on a light page, or a wide one, and by another on a dark one, or on a phone."""

import sys
from pathlib import Path

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.addnodes import pending_xref

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))
from rnnbook import pictures


def shown(caption, after="", *, below=True):
    """A page's text on a light desk, and on a dark phone: a figure, a reference to it, and what follows that."""
    page = new_document("page")
    figure = nodes.figure(
        "", pictures.picture(below=below), nodes.caption("", "", nodes.Text(caption)), names=["fig-a"]
    )
    page += [figure, nodes.paragraph("", "", pending_xref(reftarget="fig-a"), nodes.Text(after))]
    pictures.call_otherwise(None, page)

    def read(modes):
        parts = [text for text in page.findall(nodes.Text) if {*text.parent.get("classes", ())} <= modes]
        return "".join(part.astext() for part in parts)

    return read({"in-light", "in-wide"}), read({"in-dark", "in-narrow"})


@pytest.mark.parametrize(
    ("desk", "phone"),
    [
        ("Black: what is left. Right: the right ones.", "White: what is left. Below: the right ones."),
        ("Left and middle: a; right: b (left).", "Above and middle: a; below: b (above)."),
        ("Leftover; on its right; left where it is one.", "Leftover; on its right; above where it is one."),
    ],
)
def test_black_is_white_on_a_dark_page_and_left_is_above_on_a_phone(desk, phone):
    assert shown(desk) == (desk, phone)
    sides = phone.replace("Below", "Right").replace("below", "right").replace("Above", "Left").replace("above", "left")
    assert shown(desk, below=False) == (desk, sides), "panels that stay beside each other"


@pytest.mark.parametrize(
    ("desk", "phone"),
    [
        (", left) or right)", ", above) or right)"),
        (" (right) and (right)", " (below) and (right)"),
        (" left)", " left)"),
    ],
)
def test_a_reference_to_a_side_of_a_figure_is_to_that_on_a_phone(desk, phone):
    assert shown("", desk) == (desk, phone)
    assert shown("", desk, below=False) == (desk, desk)

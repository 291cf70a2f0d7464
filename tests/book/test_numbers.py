"""Numbers in the prose of the site, as a person writes them."""

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils import new_document

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))
from rnnbook import numbers


def test_no_line_breaks_before_a_percent_sign_but_in_code():
    document = new_document("page")
    document += nodes.paragraph(
        "", "in 95 % of 5 networks, or ", nodes.strong("", "7 %"), nodes.Text(" %, "), nodes.literal("", "9 % 4")
    )
    document += nodes.literal_block("", "9 % 4")
    numbers.Percent(document).run()
    shown = [part.astext() for part in document.findall(nodes.Text)]
    assert shown == ["in 95\u00a0% of 5 networks, or ", "7\u00a0%", " %, ", "9 % 4", "9 % 4"]

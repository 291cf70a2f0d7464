"""Numbers in the prose, as a person writes them.

All that {glue:text} shows, of its own page or of another's, goes through one function of MyST-NB's, which leaves it as
Python writes it: 12,000.0, 5e-10, and a hyphen before what is negative. And no line breaks before a percent sign.
"""

import re

from docutils import nodes
from myst_nb.core import variables
from myst_nb.ext.glue import crossref, roles
from sphinx.transforms.post_transforms import SphinxPostTransform

from rnnlab.book.writing import written

WHOLE = re.compile(r"(-?\d+)\.0")  # a whole number, glued as a float
PERCENT = re.compile(r"(?<=\d) %")


def setup(app):
    roles.format_plain_text = crossref.format_plain_text = text_of
    app.add_post_transform(Percent)


class Percent(SphinxPostTransform):
    """A percent sign stays on the line of its number; in code a space remains a space."""

    default_priority = 890  # before brackets are tied to formulas

    def run(self, **_):
        for text in list(self.document.findall(nodes.Text)):
            code = isinstance(text.parent, nodes.literal | nodes.FixedTextElement | nodes.math | nodes.raw)
            if not code and PERCENT.search(text):
                text.parent.replace(text, nodes.Text(PERCENT.sub("\u00a0%", text)))


def text_of(glued: str, spec: str) -> str:
    """Return what is glued, by the page's format."""
    whole = WHOLE.fullmatch(glued)
    return written(variables.format_plain_text(whole[1] if whole else glued, spec))

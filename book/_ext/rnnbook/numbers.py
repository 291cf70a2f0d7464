"""Numbers in the prose, as a person writes them.

All that {glue:text} shows, of its own page or of another's, goes through one function of MyST-NB's, which leaves it as
Python writes it: 12,000.0, 5e-10, and a hyphen before what is negative.
"""

import re

from myst_nb.core import variables
from myst_nb.ext.glue import crossref, roles

from rnnlab.book.writing import written

WHOLE = re.compile(r"(-?\d+)\.0")  # a whole number, glued as a float


def setup(app):
    roles.format_plain_text = crossref.format_plain_text = text_of


def text_of(glued: str, spec: str) -> str:
    """Return what is glued, by the page's format."""
    whole = WHOLE.fullmatch(glued)
    return written(variables.format_plain_text(whole[1] if whole else glued, spec))

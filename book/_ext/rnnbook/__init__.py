"""Sphinx extension of the book: how its pages are executed, and what its site is served with.

`execution`: kernels and autodoc import `rnnlab` from this checkout, installed or not; pages are executed side by side,
one core each; what they computed is kept as they end, until a page, its parameters, the package, a library or a stored
result changes; a page that fails fails the build, once every page has been tried. A rebuild is a build with other
parameters.

`site`: every page offers its executed notebook, and says how to run it again, and when, with what and on what it was
executed; what a page would load from another host is a warning, which fails a strict build.

`addresses`: pages say what they are about, and where they are and run, if that is known.

`formulas`: mathematics is MathML, written while the book is built.

`icons`: of a theme's thousands of icons a page loads those that it shows.

`ledger`: what the pages found about the papers' claims, in boxes and in one table.

`story`: each page ends with the question of the next, and a page of results tells them all.

`pictures`: figures are shown wide or narrow, in inks for light or for dark, and offered with their data.

`quoting`: a page that shows another's numbers is read after it, and again with it.

`numbers`: the prose shows numbers as a person writes them.

`docstrings`: the package's reference shows docstrings as they are written.
"""

import sys
from pathlib import Path

# This checkout's rnnlab, whether or not one is installed: for what follows, and for autodoc.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from . import addresses, docstrings, execution, formulas, icons, ledger, numbers, pictures, quoting, site, story


def setup(app):
    for part in (addresses, docstrings, execution, formulas, icons, ledger, numbers, pictures, quoting, site, story):
        part.setup(app)
    # Pages are read one after another: the ledger gathers from those before it.
    return {"parallel_read_safe": False, "parallel_write_safe": True, "env_version": 3}

"""Sphinx extension of the book: how its pages are executed, and what its site is served with.

`execution`: kernels and autodoc import `rnnlab` from this checkout, installed or not; pages are executed side by side,
one core each; what they computed is kept until a page, the package, a library or a stored result changes; a page that
fails fails the build, once every page has been tried.

`site`: every page offers its executed notebook; mathematics is drawn by a MathJax of the site's own; what a page would
load from another host is a warning, which fails a strict build.

`docstrings`: the package's reference shows docstrings as they are written.
"""

from . import docstrings, execution, site


def setup(app):
    docstrings.setup(app)
    execution.setup(app)
    site.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

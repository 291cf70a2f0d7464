"""What the built site brings along: the executed notebooks, MathJax, and nothing that lies on another host."""

import re
import shutil
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import nbformat
from sphinx.util import logging

from .execution import executed

log = logging.getLogger(__name__)

# The renderer, the macros that it loads when a page uses them, and its fonts.
MATHJAX = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")

# What a browser fetches to show a page; a link that a reader may follow is no such thing.
LOADED = re.compile(
    r"""<(?:script|img|link|iframe|source|embed|video|audio)\b[^>]*?\b(?:src|srcset|href)=["'](?P<tag>(?:https?:)?//[^"']+)
    | (?:url\(|@import)\s*["']?(?P<css>(?:https?:)?//[^"')\s]+)""",
    re.IGNORECASE | re.VERBOSE,
)


def setup(app):
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("config-inited", leave_out_thebe)
    app.connect("html-page-context", offer_notebook, priority=400)
    app.connect("build-finished", bring_mathjax)
    app.connect("build-finished", warn_of_other_hosts, priority=900)


def leave_out_thebe(app, config) -> None:
    """Leave out what would run cells on another host: Jupyter Book puts it on every page, twice, which is an error."""
    for event in ("env-before-read-docs", "doctree-resolved"):
        for listener in list(app.events.listeners[event]):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)


def offer_notebook(app, pagename, templatename, context, doctree) -> None:
    """Put the executed notebook behind the theme's download button."""
    if pagename in app.env.all_docs and (notebook := executed(app, pagename)):
        offered = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
        offered.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, offered)
        context["ipynb_source"] = f"{pagename}.ipynb"


def bring_mathjax(app, exception) -> None:
    """Copy the parts of MathJax that the pages load."""
    if exception is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    with as_file(files("sphinx-mathjax-offline") / "static" / "mathjax") as source:
        for part in MATHJAX:
            if (source / part).is_dir():
                shutil.copytree(source / part, target / part, dirs_exist_ok=True)
            else:
                shutil.copyfile(source / part, target / part)


def warn_of_other_hosts(app, exception) -> None:
    """Hold the site to loading nothing from elsewhere."""
    if exception is None and app.builder.format == "html":
        for page, address in other_hosts(Path(app.outdir)):
            log.warning("%s loads %s from another host", page.relative_to(app.outdir), address)


def other_hosts(site: Path) -> Iterator[tuple[Path, str]]:
    """Yield each page or style sheet of a built site with each address on another host that showing it fetches."""
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        for match in LOADED.finditer(path.read_text(encoding="utf8")):
            yield path, match["tag"] or match["css"]

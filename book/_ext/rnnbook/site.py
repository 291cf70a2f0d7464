"""What the built site brings along: executed notebooks, how they were made, scripts of interactive figures.

Nothing that a page loads comes from another host.
"""

import re
import shlex
from datetime import datetime
from pathlib import Path

import nbformat
from sphinx.util import logging

from rnnlab.book.running import STAMP

from .execution import executed

log = logging.getLogger(__name__)

# The scripts of interactive figures, a file each, what they share, how they look; the names of those a page asks for.
SCRIPTS = Path(__file__).parent / "interactive"
INTERACTIVE = re.compile(r'<script type="application/json" data-interactive="(\w+)"')

# The first cell of an offered notebook, where a checkout has to be brought.
ON_COLAB = """\
import sys
if "google.colab" in sys.modules:
    !git clone --quiet --depth 1 {0} checkout
    %pip install --quiet --editable "checkout[book]"
    sys.path.insert(0, "checkout")"""

# What a browser fetches to show a page; a link that a reader may follow is no such thing.
LOADED = re.compile(
    r"""<(?:script|img|link(?!\ rel="canonical")|iframe|source|embed|video|audio)\b
      [^>]*?\b(?:src|srcset|href)=["'](?P<tag>(?:https?:)?//[^"']+)
    | (?:url\(|@import)\s*["']?(?P<css>(?:https?:)?//[^"')\s]+)""",
    re.IGNORECASE | re.VERBOSE,
)


def setup(app):
    app.connect("config-inited", leave_out_thebe)
    app.connect("config-inited", add_box)
    app.connect("config-inited", bring_scripts)
    app.connect("html-page-context", offer_notebook, priority=400)
    app.connect("html-page-context", load_scripts)
    app.connect("html-page-context", list_references)
    app.connect("build-finished", warn_of_what_is_loaded, priority=900)


def leave_out_thebe(app, config) -> None:
    """Leave out what would run cells on another host: Jupyter Book puts it on every page, twice, which is an error."""
    for event in ("env-before-read-docs", "doctree-resolved"):
        for listener in list(app.events.listeners[event]):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)


def add_box(app, config) -> None:
    """Have the theme put a box below each article, which a rebuild with the same parameters gives to the letter."""
    config.templates_path.append(str(Path(__file__).parent / "templates"))
    config.html_theme_options.setdefault("article_footer_items", ["provenance.html"])


def bring_scripts(app, config) -> None:
    """Copy the scripts of interactive figures among the site's static files."""
    config.html_static_path.append(str(SCRIPTS))


def load_scripts(app, pagename, templatename, context, doctree) -> None:
    """Have a page load the scripts of the interactive figures that it asks for, and of no others."""
    names = sorted(set(INTERACTIVE.findall(context.get("body", ""))))
    for name in ["interactive", *names] if names else []:  # the first has what the others share
        app.add_js_file(f"{name}.js", loading_method="defer")
    if names:
        app.add_css_file("interactive.css")


def list_references(app, pagename, templatename, context, doctree) -> None:
    """Have entries of a list be what lists have: the role that Sphinx gives references stands in no list."""
    context["body"] = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')


def offer_notebook(app, pagename, templatename, context, doctree) -> None:
    """Put the executed notebook behind the theme's download button, and into the box how to make it, and how it was."""
    notebook = executed(app, pagename) if pagename in app.env.all_docs else None
    if notebook is None:
        return
    offered = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    offered.parent.mkdir(parents=True, exist_ok=True)
    if repository := app.config.html_theme_options["repository_url"]:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(ON_COLAB.format(repository)))
    nbformat.write(notebook, offered)
    context["ipynb_source"] = f"{pagename}.ipynb"
    stamp = notebook.metadata[STAMP]
    _, page, _, *parameters = shlex.split(stamp["command"])
    versions = sorted(stamp["versions"].items(), key=lambda item: item[0] not in ("rnnlab", "Python"))
    context["provenance"] = stamp | {
        "script": shlex.join(["rnnlab", "script", page, *parameters]),
        "notebook": f"_sources/{pagename}.ipynb",
        "when": datetime.fromisoformat(stamp["executed"]).strftime("%-d %B %Y, %H:%M UTC"),
        "versions": ", ".join(f"{name} {number}" for name, number in versions),
    }


def warn_of_what_is_loaded(app, exception) -> None:
    """Hold the site to loading what it has and nothing from elsewhere: name each page and style sheet that does not."""
    site = Path(app.outdir)
    files = [*site.rglob("*.html"), *site.rglob("*.css")] if exception is None and app.builder.format == "html" else []
    for path in sorted(files):
        text = path.read_text(encoding="utf8")
        for name in INTERACTIVE.findall(text):
            if not (SCRIPTS / f"{name}.js").is_file():
                log.warning("%s asks for the interactive figure %s, which has no script", path.relative_to(site), name)
        for match in LOADED.finditer(text):
            log.warning("%s loads %s from another host", path.relative_to(site), match["tag"] or match["css"])

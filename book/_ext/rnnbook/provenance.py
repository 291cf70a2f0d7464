"""A box below each page: how to run it again, and when, with what and on what it was executed.

It stands outside the page's article, which a rebuild with the same parameters reproduces to the letter.
"""

import shlex
from datetime import datetime
from pathlib import Path, PurePosixPath

from rnnlab.book.execution import STAMP

from .execution import executed

BOX = "provenance.html"


def setup(app):
    app.connect("config-inited", add_box)
    app.connect("html-page-context", fill_box)


def add_box(app, config) -> None:
    """Have the theme put the box below each article."""
    config.templates_path.append(str(Path(__file__).parent / "templates"))
    config.html_theme_options.setdefault("article_footer_items", [BOX])


def fill_box(app, pagename, templatename, context, doctree) -> None:
    """Give the box of a page that was executed its contents; other pages have none."""
    notebook = executed(app, pagename) if pagename in app.env.all_docs else None
    stamp = notebook.metadata.get(STAMP) if notebook else None
    if not stamp:
        return
    file = PurePosixPath(pagename).name
    versions = sorted(stamp["versions"].items(), key=lambda item: item[0] not in ("rnnlab", "Python"))
    page = shlex.quote(f"book/{pagename}.md")
    command = stamp.get("command", f"papermill {page} {shlex.quote(file)}.ipynb")
    context["provenance"] = {
        "command": command,
        "script": command.replace("papermill ", "rnnlab script ", 1).replace(f" {shlex.quote(file)}.ipynb", "", 1),
        "notebook": f"_sources/{pagename}.ipynb",
        "executed": stamp["executed"],
        "when": datetime.fromisoformat(stamp["executed"]).strftime("%-d %B %Y, %H:%M UTC"),
        "versions": ", ".join(f"{name} {number}" for name, number in versions),
        "commit": stamp["commit"],
        "machine": stamp["machine"],
    }

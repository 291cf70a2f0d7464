"""Pages that quote others are read after them, and again whenever one of them is.

A page quotes another when it shows a number that is glued there. A page that shows the ledger, or its counts, quotes
them all, and is read last of all.
"""

import re
from pathlib import Path

GLUED = re.compile(r"\{glue:\w*\}`[^`]*\.md::")
LEDGER = re.compile(r"^(```+|:::+)\{(ledger(-counts|-told)?|story)\b", re.MULTILINE)


def setup(app):
    app.connect("env-get-outdated", read_again)
    app.connect("env-before-read-docs", read_last, priority=400)


def read_again(app, env, added, changed, removed) -> list[str]:
    """Have the pages that quote read again whenever another page is."""
    return quoting(env, env.found_docs) if added or changed or removed else []


def read_last(app, env, docnames) -> None:
    """Put the pages that quote behind the others."""
    last = quoting(env, docnames)
    docnames[:] = [name for name in docnames if name not in last] + last


def quoting(env, docnames) -> list[str]:
    """Return which of the pages quote others, in the order in which they are to be read."""
    texts = {name: Path(env.doc2path(name)).read_text(encoding="utf8") for name in sorted(docnames)}
    some = [name for name, text in texts.items() if GLUED.search(text) and not LEDGER.search(text)]
    return some + [name for name, text in texts.items() if LEDGER.search(text)]

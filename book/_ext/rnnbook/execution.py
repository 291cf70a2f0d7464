"""Executes the book's pages with the package of this checkout, and shows them with what they put out.

myst-nb would execute each page as it comes to it, and forget all of an interrupted build. So pages are executed side by
side before the first is read, kept as they end, and given to myst-nb with their outputs.
"""

import os
import shlex
import sys
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from myst_nb import sphinx_
from myst_nb.core.read import NbReader, create_nb_reader
from nbformat import NotebookNode
from sphinx.util import logging

from rnnlab import machine
from rnnlab.book import running
from rnnlab.book.myst import open_page
from rnnlab.book.notebooks import put_in

log = logging.getLogger(__name__)

LONGEST = 40  # seconds of a core that a page may take; more only where all pages are slow

ROOT = Path(__file__).resolve().parents[3]


def longest(seconds: Collection[float]) -> float:
    """Seconds of a core that a page may take, of those of all pages: 40, or a twelfth of all on a slow machine."""
    return max(LONGEST, sum(seconds) / 12)


def setup(app):
    running.prepare_kernels(ROOT)
    app.rnnbook_stored = running.stored(ROOT)  # which may grow while the book is built
    # What results depend on beside the pages; a change makes Sphinx read them all again.
    app.add_config_value("rnnbook_state", running.fingerprint(ROOT), "env", str)
    app.add_config_value("rnnbook_given", {}, "env", dict)  # of a rebuild, from `notebooks.profile`
    app.add_config_value("rnnbook_jobs", 0, "", int)
    app.connect("builder-inited", read_pages)
    app.connect("env-get-outdated", try_again)
    app.connect("env-before-read-docs", execute)
    app.connect("build-finished", fail_if_a_page_failed)


def kept(app) -> running.Executed:
    """Return the pages that have been executed; `jupyter-book clean` leaves a folder of this name."""
    folder = Path(app.outdir).parent / ".jupyter_cache"
    return running.Executed(ROOT, folder, app.config.rnnbook_state, app.rnnbook_stored)


def find(app, docname: str) -> running.Page | None:
    """Return a page as it is to be executed; None for prose, and for what is not in MyST Markdown."""
    path = Path(app.env.doc2path(docname))
    notebook = open_page(path) if path.suffix == ".md" else None
    if notebook is None:
        return None
    given = app.config.rnnbook_given.get(docname, {"values": {}})
    source = ["-f", given["file"]] if "file" in given else []
    command = shlex.join(["papermill", f"book/{docname}.md", f"{PurePosixPath(docname).name}.ipynb", *source])
    return running.Page(docname, put_in(notebook, given["values"]), command)


def executed(app, docname: str) -> NotebookNode | None:
    """Return a page with its outputs; None for prose, and for a page that failed."""
    page = find(app, docname)
    return page.notebook if page and kept(app).read(page) else None


def try_again(app, env, added, changed, removed) -> list[str]:
    """Have the pages that failed, and those whose stored results have grown, read, and so executed, again."""
    pages = {docname: page for docname in sorted(env.found_docs) if (page := find(app, docname))}
    reads, before = {docname: kept(app).reads(page) for docname, page in pages.items()}, vars(env).get("rnnbook_reads")
    env.rnnbook_reads = reads
    grown = [docname for docname, read in reads.items() if before and before.get(docname) != read]
    return grown + [docname for docname in _failures(env) if docname in env.found_docs and docname not in grown]


def execute(app, env, docnames) -> None:
    """Execute the pages that are to be read and have no results, as many at a time as there are cores."""
    app.rnnbook_failed = {}  # what pages put out that failed
    if app.config.nb_execution_mode != "cache":
        return
    # Experiments take longest and stand last in the book: they start first.
    pages = [page for docname in sorted(docnames, reverse=True) if (page := find(app, docname))]
    waiting = [page for page in pages if not kept(app).read(page)]
    log.info("%d pages with code, of which %d are finished", len(pages), len(pages) - len(waiting))
    ended = kept(app).execute(
        waiting,
        jobs=app.config.rnnbook_jobs or machine.cores(),
        on_start=lambda page: log.info("   starts  %s", page.name),
        timeout=app.config.nb_execution_timeout,
        allow_errors=app.config.nb_execution_allow_errors,
    )
    for page in pages:
        _failures(env).pop(page.name, None)
    try:
        for page in ended:
            log.info("%7.1f s  %s%s", page.seconds, page.name, "  FAILED" if page.failure else "")
            if page.failure:
                _failures(env)[page.name] = page.failure
                app.rnnbook_failed[page.name] = page.notebook
        if pages and not app.config.rnnbook_given:
            read = {name: notebook for name in env.found_docs if (notebook := executed(app, name))}
            seconds = {name: one.metadata.get(running.STAMP, {}).get("seconds", 0) for name, one in read.items()}
            most = longest(seconds.values())
            for name in (page.name for page in pages if seconds.get(page.name, 0) > most):
                _failures(env)[name] = f"book/{name}.md took {seconds[name]} s of a core, and may take {most:.4g}"
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the pages that are finished", file=sys.stderr, flush=True)
        os._exit(130)  # kernels end with this process; waiting for them would be waiting for their pages


def read_pages(app) -> None:
    """Have myst-nb read pages by our function, with their outputs."""

    def reader(path: str, settings, *more) -> NbReader | None:
        if not path.endswith(".md"):
            return create_nb_reader(path, settings, *more)
        page = find(app, app.env.path2doc(path) or "")
        return page and NbReader(lambda text: _shown(app, page), settings)

    sphinx_.create_nb_reader = reader


def _shown(app, page: running.Page) -> NotebookNode:
    """A page as myst-nb is to show it: executed, and not to be executed, if we execute pages at all."""
    if app.config.nb_execution_mode != "cache":
        return page.notebook
    if page.name in app.rnnbook_failed:
        page.notebook = app.rnnbook_failed[page.name]
    elif not kept(app).read(page):
        _failures(app.env)[page.name] = f"book/{page.name}.md was edited while it was executed; build again"
    page.notebook.metadata.setdefault("mystnb", {})["execution_mode"] = "off"
    return page.notebook


def fail_if_a_page_failed(app, exception) -> None:
    """Name every page and cell that failed, and make the exit status say so, in this build and in every later one."""
    failures = [why for docname, why in sorted(_failures(app.env).items()) if docname in app.env.found_docs]
    if exception is None and failures:
        log.error("pages that failed: %d\n\n%s\n", len(failures), "\n\n".join(failures))
        app.statuscode = 1


def _failures(env) -> dict[str, str]:
    """Why pages failed, by page; kept with what Sphinx keeps from build to build."""
    return vars(env).setdefault("rnnbook_failures", {})

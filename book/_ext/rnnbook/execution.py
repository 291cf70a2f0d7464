"""Executes the book's pages with the package of this checkout, and keeps what they computed."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.cache import db
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.execute import cache as myst_nb_cache
from nbformat import NotebookNode
from sphinx.util import logging
from sqlalchemy import URL, create_engine

from rnnlab.book.execution import STAMP, cores, fingerprint, prepare_kernels, stamp
from rnnlab.book.myst import open_page

from . import rebuilt

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[3]

Page = tuple[Path, NotebookNode]


def setup(app):
    prepare_kernels(ROOT)
    # jupyter-cache writes the place of its database into an address, where % and ? mean something else.
    db.create_engine = lambda url: create_engine(URL.create("sqlite", database=url.removeprefix("sqlite:///")))
    app.add_config_value("rnnbook_fingerprint", "", "env", str)
    app.connect("config-inited", key_the_cache)
    app.connect("env-before-read-docs", execute_side_by_side)
    app.connect("build-finished", fail_if_a_page_failed)


def key_the_cache(app, config) -> None:
    """Give every state of the package its own cache; the changed value makes Sphinx read all pages again."""
    config.rnnbook_fingerprint = fingerprint(ROOT)
    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache" / config.rnnbook_fingerprint)


def execute_side_by_side(app, env, docnames) -> None:
    """Start executing the pages that the cache does not hold, as many at a time as there are cores.

    myst-nb reads the pages one after another, and would execute each as it comes to it; from here on it waits for the
    result instead, and goes on as ever: it keeps what succeeded and reports what failed.
    """
    if app.config.nb_execution_mode != "cache":
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    # Experiments take longest and stand last in the book: they start first.
    waiting = sorted(_uncached(env, cache, docnames), key=lambda page: page[0], reverse=True)
    pool = ThreadPoolExecutor(cores())
    started = {
        _key(notebook, path.parent): pool.submit(
            _execute,
            notebook,
            cwd=str(path.parent),
            timeout=app.config.nb_execution_timeout,
            allow_errors=app.config.nb_execution_allow_errors,
        )
        for path, notebook in waiting
    }

    def wait(notebook: NotebookNode, cwd: str, **settings) -> ExecutionResult:
        try:
            key = _key(notebook, cwd)
            result = started[key].result() if key in started else _execute(notebook, cwd=cwd, **settings)
        except BaseException:  # Ctrl-C among them: what has not started is not to start
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        notebook.update(result.nb)
        return result

    myst_nb_cache.single_nb_execution = wait


def _execute(notebook: NotebookNode, **settings) -> ExecutionResult:
    """Execute a page, and put down when, with what and on what."""
    result = single_nb_execution(notebook, **settings)
    result.nb.metadata[STAMP] = stamp(ROOT)
    return result


def _key(notebook: NotebookNode, folder: Path | str) -> tuple[str, ...]:
    return (str(Path(folder).resolve()), *(cell.source for cell in notebook.cells))


def executed(app, docname: str) -> NotebookNode | None:
    """Return a page with its outputs; None for prose, and for a page that failed.

    They come from the cache, or from the rebuild that is shown. The copy in `jupyter_execute` is no substitute: it has
    no outputs when myst-nb took them from the cache.
    """
    if app.config.rnnbook_pages:
        return rebuilt.executed(app.config, docname)
    notebook = open_page(Path(app.env.doc2path(docname)))
    if notebook is None:
        return None
    try:
        cache = get_cache(app.config.nb_execution_cache_path)
        return cache.merge_match_into_notebook(notebook, nb_meta=("kernelspec", "language_info", "widgets", STAMP))[1]
    except KeyError:
        return None


def _uncached(env, cache, docnames) -> Iterator[Page]:
    for docname in docnames:
        path = Path(env.doc2path(docname))
        notebook = open_page(path)
        if notebook is None:
            continue
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            yield path, notebook


def fail_if_a_page_failed(app, exception) -> None:
    """Name every page and cell that failed, and make the exit status say so: myst-nb only warns, and only once."""
    if exception is not None:
        return
    failures = []
    for page, metadata in sorted(app.env.nb_metadata.items()):
        execution = metadata.get("exec_data")
        if execution and not execution["succeeded"]:
            trace = re.sub(r"\x1b\[[0-9;]*m", "", execution["traceback"] or "")
            failures.append(f"{page}: {trace[max(trace.find('An error occurred'), 0) :].strip()}")
    if failures:
        log.error("pages that failed: %d\n\n%s\n", len(failures), "\n\n".join(failures))
        app.statuscode = 1

"""Builds of small books, each in a process of its own, forked from one that has read what all of them need.

Jupyter Book and its extensions take most of a small build to be read. Nothing of a book or of the package is read yet.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

READY = """
import importlib, json, os, sys
for name in {modules}:
    importlib.import_module(name)
assert "rnnlab" not in sys.modules
from jupyter_book.cli.main import main
for line in sys.stdin:
    folder, environment, arguments, said = json.loads(line)
    if not (child := os.fork()):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (1, 2):
            os.dup2(os.open(said, os.O_WRONLY | os.O_APPEND), number)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        sys.argv = ["jupyter-book", *arguments]
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
MODULES = ["jupyter_book.sphinx", "myst_nb.sphinx_ext", "sphinx.builders.html", "sphinx_book_theme", "nbclient"]
MODULES += ["sphinxcontrib.bibtex", "sphinx_external_toc", "jupyter_client.asynchronous", "fontTools.subset"]


@cache
def _ready() -> subprocess.Popen:
    command, known = [sys.executable, "-c", READY.format(modules=MODULES)], {**os.environ, "PYTHONPATH": ""}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=known)


STRICT = ("-W", "--keep-going", "-n")


def build(folder: Path, environment: Mapping[str, str], *options: str) -> subprocess.CompletedProcess:
    """Build the book in a folder as users do, strictly unless told; the output, that of errors among it, is text."""
    arguments, server = ["build", "book/", *(options or STRICT)], _ready()
    with tempfile.NamedTemporaryFile() as said:
        print(json.dumps([str(folder), dict(environment), arguments, said.name]), file=server.stdin, flush=True)
        assert select.select([server.stdout], [], [], 240)[0], "it took too long"
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, Path(said.name).read_text(encoding="utf8"))

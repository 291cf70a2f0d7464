"""Tables of the results' manifest, which a page makes: run as a script, with the parameters that the manifest says."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import xarray

from rnnlab.book import pages, script
from rnnlab.sweeps.making import Verified
from rnnlab.sweeps.results import Result, manifest
from rnnlab.sweeps.summaries import read_summary
from rnnlab.training.store import Store


def lacking(result: Result, folder: Path) -> bool:
    """Whether a result is not there as a whole, as far as that is known without a look at its networks.

    Args:
        result: of the manifest.
        folder: of summaries.
    """
    return result.make is None or result.held(folder) < result.wanted


def make(result: Result, folder: Path, store: Store) -> tuple[bool, str]:
    """Have a result's first page make its table, in a process of its own: whether it failed, and in words how it went.

    Args:
        result: a table of the manifest.
        folder: of summaries.
        store: where the page trains; two processes with the same make no table at once.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: it cannot be a script, or has no such parameters.
    """
    source = script.script(pages.RESULTS.parent / f"{result.pages[0]}.md", result.make or {})
    with store.alone(result.name) as mine, TemporaryDirectory() as place:
        if not mine:
            return False, "somebody else has it in hand"
        file = Path(place) / "page.py"
        file.write_text(source, encoding="utf8")
        where = os.environ | {"RNNLAB_STORE": str(store.folder)}
        command = [sys.executable, str(file), "--tables", str(folder.absolute())]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=where)
        if done.returncode:
            return True, f"its page failed, with status {done.returncode}"
    return False, f"{result.held(folder)} of {result.wanted} made"


def verify(folder: Path, names: Sequence[str]) -> Iterator[Verified]:
    """Make tables again, and compare each with the stored one, bit for bit but for when and how long it was made.

    Args:
        folder: of summaries, with a manifest.
        names: of results; those that are no tables are others' work.

    Raises:
        ValueError: a table is not there as a whole, so that there is nothing to compare with.
    """
    for result in manifest(folder, only=names).values() if names else ():
        if result.make is not None:
            if lacking(result, folder):
                held = f"holds {result.held(folder)} of {result.wanted}; `rnnlab results run` goes on"
                raise ValueError(f"--only {result.name} must be whole to be made again, and {held}")
            with TemporaryDirectory() as place:
                _, said = make(result, Path(place), Store(Path(place) / "store"))
                made, stored = (Path(one) / f"{result.name}.summary" for one in (place, folder))
                same = made.exists() and _same(read_summary(made), read_summary(stored))
            yield Verified(result.name, said, same, "the same table" if same else "another table")


def _same(made: xarray.Dataset, stored: xarray.Dataset) -> bool:
    when = ["date", "wall_s"]
    return made.drop_vars(when, errors="ignore").equals(stored.drop_vars(when, errors="ignore"))

"""Trials of search as a stored table: a cell is a method on a task, with its cap, and is kept as soon as it is made."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray

from rnnlab.methods.search import SearchMethod, search
from rnnlab.sweeps.summaries import read_summary, write_summary
from rnnlab.tasks.counted import CountedTask
from rnnlab.values import Seeds, as_seeds, checked


class Cell(NamedTuple):
    """A method on a task of some length, until a cap.

    Each length of `before` has a share of the cap, in turn, and at most; the task's own length has what is left.
    """

    task: CountedTask
    method: SearchMethod
    cap: int
    before: Sequence[int] = ()

    def tried(self, seeds: Sequence[int]) -> xarray.Dataset:
        """What `search` returns without the parameters, with all that was presented."""
        theta, used, task = None, np.zeros(len(seeds), int), self.task
        for length in (*self.before, task.length):
            cap: Any = self.cap // (len(self.before) + 1)
            cap = (self.cap - used).tolist() if length == task.length else cap
            shorter: Any = replace(task, length=length)  # type: ignore[type-var]
            made = search(shorter, self.method, seeds=seeds, cap=cap, theta=theta)
            theta, used = made["theta"].values, used + made["presented"].values
        return made.drop_vars("theta").assign(presented=("seed", used))


@checked
def fill(path: str | Path, cells: Iterable[tuple[dict, Cell]], *, seeds: Seeds, command: str) -> Iterator[dict]:
    """Put into a summary what it lacks; one that is ended goes on from the last cell that it finished.

    Args:
        path: of the summary.
        cells: each with labels, which become coordinates; one is there if it was made by the same `Cell`, and seeds.
        seeds: of all of these; a summary may hold other cells of other seeds.
        command: how the summary is made again.

    Yields:
        The labels of each cell that was made.
    """
    for labels, cell in cells:
        held, begun = read_summary(path) if Path(path).exists() else None, time.perf_counter()
        if held is not None:
            same = np.flatnonzero(held["spec"].values == str(tuple(cell)))
            if (
                len(same)
                and (held["presented"].isel(cell=same).reindex(seed=as_seeds(seeds), fill_value=-1) >= 0).all()
            ):
                continue
            held = held.drop_isel(cell=same)  # of fewer seeds
        made = cell.tried(as_seeds(seeds)).expand_dims(cell=1).assign_coords(check=[0])
        about = {"spec": str(tuple(cell)), "date": str(date.today()), "wall_s": round(time.perf_counter() - begun, 1)}
        made = made.assign_coords({name: ("cell", [x]) for name, x in (labels | about).items()})
        none = {"solved": False, "presented": -1, "error": np.nan}  # of seeds that are others' alone
        both = made if held is None else xarray.concat([held, made], "cell", join="outer", fill_value=none)
        write_summary(both.assign_attrs(engine=f"numpy {np.__version__}"), path, command=command)
        yield labels


def by_labels(kept: xarray.Dataset, *names: str) -> dict[tuple[Any, ...], xarray.Dataset]:
    """The cells of a summary, each with the seeds that it was tried on, by what some of their labels are."""
    labels = zip(*(kept[name].values.tolist() for name in names), strict=True)
    cells = (kept.isel(cell=i) for i in range(kept.sizes["cell"]))
    return {
        label: one.isel(seed=np.flatnonzero(one["presented"] >= 0)) for label, one in zip(labels, cells, strict=True)
    }

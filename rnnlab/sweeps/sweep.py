"""Sweeps: specifications over any axes, trained and gathered in one labelled dataset; and what a store has of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Any

import numpy as np
import pandas
import xarray

from rnnlab.sweeps.axes import UNITS, Axis, grid, labelled, labels
from rnnlab.sweeps.executors import Job, Pool, results_by
from rnnlab.sweeps.summaries import answers, due
from rnnlab.training.ensembles import Device
from rnnlab.training.progress import Progress, Watch, watching
from rnnlab.training.records import OUTCOMES, SERIES, begun, dataset, merged, own, totals
from rnnlab.training.specs import Spec, named
from rnnlab.training.store import RUN, Kept, Store
from rnnlab.values import Count, Seconds, Seeds, as_seeds, checked

_TOGETHER: Any = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "combine_attrs": "drop_conflicts"}


@checked
def run(
    base: Spec | xarray.DataArray,
    *,
    seeds: Seeds = 5,
    device: Device = "auto",
    progress: Watch = None,
    store: Kept = None,
    executor: Pool | None = None,
    chunk: Count | None = None,
    checkpoint_every: Seconds = 60.0,
    restart: bool = False,
    known: xarray.Dataset | None = None,
    **axes: Axis,
) -> xarray.Dataset:
    """Train the same seeds in every cell of a sweep, and gather what `train` returns.

    The seeds of a cell train side by side as one ensemble, or as several of at most `chunk` members. Each is a task of
    the executor, the longest first. With a store, what is finished there is read and not computed again; nor is what a
    summary says of another store's. Ctrl-C ends a sweep within seconds, wherever it is computed: what waits is given
    up, and what is being trained writes a checkpoint first.

    Args:
        base: what the cells share; or an array of specifications, as `grid` returns it.
        seeds: a count, from 0, or a sequence of seeds.
        device: where to train, as for `train`.
        progress: called after each ensemble, in steps that its networks made at most; None and False as for `train`.
        store: where results and checkpoints are kept, or the path of its folder; None keeps nothing.
        executor: who trains: anything like `concurrent.futures.Executor`, such as that of a Dask client; or a function
            that makes one, such as `ProcessPoolExecutor`, which is then called again if workers are lost. None for
            this process.
        chunk: largest number of members of an ensemble; all seeds of a cell unless told.
        checkpoint_every: seconds between checkpoints.
        restart: as for `train`.
        known: a summary, as `read_summary` returns it. A network of it stands for one that is asked for if it is that
            run, or the same with another budget and ended within this one. Of an ensemble that the store has begun,
            all or none. Results then have `totals` in place of parameters.
        axes: of the sweep, as for `grid`: `init={...}, algorithm=["MSGD", "MSGD-CR"], length=[50, 100]`.

    Returns:
        What `train` returns, with the sweep's dimensions in front of `seed` and `check`, and `spec` for each cell; NaN
        where a cell has no check, or fewer parameters than others.

    Raises:
        ValueError: an axis, seeds, `chunk`, `executor` or `known` make no sense.
        LostWorkersError: workers were lost again and again, and nothing was finished in between.
        OSError: the store cannot be written to at the start.
    """
    specs, every = grid(base, **axes), as_seeds(seeds)
    _require_apart(specs)
    cells = [Job(label, spec, every) for label, spec in labelled(specs)]
    held, jobs = ensembles(cells, chunk or len(every), store)
    how = {"device": device, "store": store, "checkpoint_every": checkpoint_every, "restart": restart}
    taken, left = ([], jobs) if known is None else answers(known, jobs, store)
    work, done, results = sum(job.work for job, _ in held) + sum(job.work for job in jobs), [], []
    made, networks, solved, told = 0, 0, 0, watching(progress, "steps of all networks")
    left = left if executor is None else sorted(left, key=lambda job: -job.work)
    with closing(results_by(left, executor, how)) as trained:  # also if progress is interrupted
        for job, result in chain(held, taken, trained):
            done.append(job)
            thin = known is not None and "theta" in result
            results.append(totals(result).drop_vars("theta") if thin else result)
            made, networks = made + job.work, networks + len(job.seeds)
            solved += int(result["first_below_1_percent"].notnull().sum())
            if told is not None:
                told(Progress(made, work, f"{job}: {networks} runs, {solved} solved"))
    where = {name: [job.labels[str(name)] for job in done] for name in specs.dims}
    runs = _over(where, [job.spec for job in done], results)
    runs = runs.sel(seed=every, **specs.indexes).assign_coords(specs.coords)
    return runs.assign(spec=runs["spec"].isel(seed=0, drop=True))


def _require_apart(specs: xarray.DataArray) -> None:
    """Refuse an axis that is called like something that is taken down, in whose place it would stand.

    Raises:
        ValueError: there is one.
    """
    names = set().union(SERIES, OUTCOMES, *(part for spec in specs.values.flat for part in own(spec)))
    if clash := names.intersection(map(str, specs.dims)):
        raise ValueError(f"axes must be called otherwise than what trainings take down, got {min(clash)!r} for both")


def ensembles(
    cells: Iterable[Job], size: int, store: Store | None
) -> tuple[list[tuple[Job, xarray.Dataset]], list[Job]]:
    """What a store has finished of all cells, seed by seed; and ensembles of what is left, begun ones as they are.

    Args:
        cells: all that is wanted of each specification.
        size: largest number of members of an ensemble.
        store: None has nothing.
    """
    kept: dict[str, list[tuple[str, int, list[int]]]] = {}
    for name, header, members in store.begun() if store else ():
        if not header["start"]:
            kept.setdefault(at_any_budget(header["spec"]), []).append((name, header["update"], members))
    held, jobs = [], []
    for job in cells:
        spec, left = job.spec, list(job.seeds)
        for name, update, members in kept.get(at_any_budget(named(spec)), ()):
            some = [seed for seed in left if seed in members]
            ended = store is not None and some and name.endswith(f"-{spec.updates:012}.{RUN}")
            file = store.read(name) if ended else None  # type: ignore[union-attr]
            if file is not None:
                held.append((job._replace(seeds=some), dataset(file.header, file.arrays).sel(seed=some)))
            elif len(some) == len(members) <= size and update < spec.updates:
                jobs.append(job._replace(seeds=members))  # goes on from there
            else:
                continue
            left = [seed for seed in left if seed not in some]
        jobs += [job._replace(seeds=left[first : first + size]) for first in range(0, len(left), size)]
    return held, jobs


def at_any_budget(canonical: str) -> str:
    """A specification's canonical JSON but for its budget."""
    said = json.loads(canonical or '{"spec": {}}')
    return json.dumps(said | {"spec": {name: part for name, part in said["spec"].items() if name != "updates"}})


def _over(axes: Mapping[Any, Sequence], specs: Sequence[Spec], results: Sequence[xarray.Dataset]) -> xarray.Dataset:
    """Ensembles' results as one, over axes that say by label where each belongs; NaN where there is nothing."""
    parts, networks = [], [result.sizes["seed"] for result in results]
    for result, count in zip(results, networks, strict=True):
        text = np.full(count, result.attrs["spec"], dtype=object), {"long_name": "canonical specification"}
        part = result.assign(spec=("seed", *text)).swap_dims(check="update")
        numbered = {dim: range(size) for dim, size in part.sizes.items() if dim == "parameter"}
        parts.append(part.drop_attrs(deep=False).assign_coords(numbered))
    runs = xarray.concat(parts, "seed", join="outer", **_TOGETHER).drop_vars("parameter", errors="ignore")
    ends = ((begun(result), spec) for spec, result in zip(specs, results, strict=True))
    every = np.unique(np.concatenate([first + due(spec.updates - first, spec.check_every) for first, spec in ends]))
    runs = runs.reindex(update=every).swap_dims(update="check").rename(seed="network")
    columns = {name: np.repeat(axis, networks) for name, axis in axes.items()} | {"seed": runs["network"].values}
    index = pandas.MultiIndex.from_arrays(list(columns.values()), names=list(columns))
    runs = runs.drop_vars("network").assign_coords(xarray.Coordinates.from_pandas_multiindex(index, "network"))
    runs = runs.unstack("network").transpose(*columns, "check", ...)
    runs["update"].attrs = results[0]["update"].attrs
    origins = [{name: value for name, value in result.attrs.items() if name != "spec"} for result in results]
    return runs.assign_attrs(merged(origins))


@checked
def gather(store: Store, *, updates: Count | None = None) -> xarray.Dataset:
    """What a store has finished, as `run` would return it; labels in alphabetical order, `totals` for parameters.

    Its axes are `init`, `algorithm`, `length`, and whatever else its trainings differ in. A run that was made in
    several ensembles, as two processes at once may do, comes once.

    Args:
        store: of trainings of one budget.
        updates: only those of this budget.

    Raises:
        ValueError: there is none, there are several budgets, a seed was trained from two starts, or a part from outside
            the package is not imported or was changed since.
    """
    budget = "*" if updates is None else f"{updates:012}"
    files = [store.read(path.name) for path in store.files(RUN) if path.match(f"*-{budget}.{RUN}")]
    results = _once([dataset(file.header, file.arrays).drop_vars("theta") for file in files if file])
    if not results:
        raise ValueError(f"updates must be the budget of a finished training in {store.folder}, got {updates}")
    specs = [Spec.from_canonical(result.attrs["spec"]) for result in results]
    axes = labels(specs)
    if conflict := _conflict(axes, specs, results):
        raise ValueError(
            f"updates must choose trainings of one budget, and each seed once, got {updates}; "
            f"{store.folder} holds {conflict}. Give each a store of its own"
        )
    runs = totals(_over(axes, specs, results))
    return runs.assign_coords({name: runs[name].assign_attrs(UNITS.get(name, {})) for name in axes})


def _once(results: Sequence[xarray.Dataset]) -> list[xarray.Dataset]:
    """Each run once."""
    seen: set[str] = set()
    found = []
    for result in results:
        if new := [m for m, run in enumerate(result["run"].values.tolist()) if run not in seen]:
            found.append(result.isel(seed=new))
        seen.update(result["run"].values.tolist())
    return found


def _conflict(axes: Mapping[str, Sequence[Any]], specs: Sequence[Spec], results: Sequence[xarray.Dataset]) -> str:
    """What keeps trainings from one grid, in words; nothing if nothing does."""
    ends = {(spec.updates, spec.check_every) for spec in specs}
    if len(ends) > 1:
        return f"trainings of (updates, check_every) {sorted(ends)}"
    seen: dict[tuple, list[int]] = {}
    for result, *cell in zip(results, *axes.values(), strict=True):
        seeds = result["seed"].values.tolist()
        for seed in seeds:
            if (others := seen.setdefault((*cell, seed), seeds)) is not seeds:
                named = f"seed {seed} of {', '.join(map(str, cell))}"
                return f"{named} twice, trained beside other seeds: {others} and {seeds}"
    starts = {begun(result) for result in results}
    return f"trainings that start from updates {sorted(starts)}" if len(starts) > 1 else ""

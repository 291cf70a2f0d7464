"""Sweeps: one specification over initializations, algorithms and lengths, gathered in one labelled dataset."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import Any

import xarray

from rnnlab.descent.algorithm import Algorithm
from rnnlab.naming import called
from rnnlab.network.inits import INITS, Init
from rnnlab.sweeps.executors import Job, results_by
from rnnlab.sweeps.summaries import AXES, answers, due
from rnnlab.sweeps.watching import Done, Watch
from rnnlab.training.loop import result_of
from rnnlab.training.records import merged, totals
from rnnlab.training.specs import Spec
from rnnlab.training.store import RUN, Store
from rnnlab.values import as_seeds, checked, whole

_STRICT: dict[str, Any] = {
    "coords": "minimal",
    "compat": "override",
    "join": "exact",
    "combine_attrs": "drop_conflicts",
}


@checked()
def grid(
    base: Spec, *, inits: Mapping[str, Init], algorithms: Mapping[str, Algorithm], lengths: Sequence[int]
) -> dict[tuple[str, str, int], Spec]:
    """The specifications of a sweep by (init, algorithm, length), the last fastest.

    Args:
        base: what they share: task but for its length, sizes, budget, tests.
        inits: initializations by label.
        algorithms: algorithms by label.
        lengths: of the task's sequences, in steps.

    Raises:
        ValueError: an axis is empty, a length comes twice or is too short for the task.
    """
    for name, axis in (("inits", inits), ("algorithms", algorithms), ("lengths", lengths)):
        if not axis:
            raise ValueError(f"{name} must hold at least one, got {axis!r}")
    if len(set(lengths)) < len(lengths):
        raise ValueError(f"lengths must be different, got {lengths!r}")
    tasks = {length: replace(base.task, length=length) for length in lengths}  # type: ignore[type-var]
    return {
        (init, algorithm, length): base.with_(init=inits[init], algorithm=algorithms[algorithm], task=task)
        for init in inits
        for algorithm in algorithms
        for length, task in tasks.items()
    }


@checked("seeds", "device", "chunk", "checkpoint_every", "executor")
def run(
    base: Spec,
    *,
    inits: Mapping[str, Init],
    algorithms: Mapping[str, Algorithm],
    lengths: Sequence[int],
    seeds: int | Sequence[int] = 5,
    device: str = "auto",
    progress: Callable[[Done], None] | None = None,
    store: Store | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    chunk: int | None = None,
    checkpoint_every: float = 60.0,
    restart: bool = False,
    known: xarray.Dataset | None = None,
) -> xarray.Dataset:
    """Train the same seeds in every cell of a grid, and gather what `train` returns.

    The seeds of a cell train side by side as one ensemble, or as several of at most `chunk` members. Each is a task of
    the executor, the longest first. With a store, what is finished there is read and not computed again; nor is what a
    summary says of another store's. Ctrl-C ends a sweep within seconds, wherever it is computed: what waits is given
    up, and what is being trained writes a checkpoint first.

    Args:
        base: what the cells share: task but for its length, sizes, budget, tests.
        inits: initializations by label.
        algorithms: algorithms by label.
        lengths: of the task's sequences, in steps.
        seeds: a count, from 0, or a sequence of seeds.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        progress: called whenever an ensemble is finished.
        store: where results and checkpoints are kept; the workers must reach it, too. None keeps nothing.
        executor: who computes: anything shaped like `concurrent.futures.Executor`, such as Dask's
            `Client.get_executor()`; a function that makes one, called anew when a process pool broke; or None for this
            process. Processes may be forked, spawned, or come from a fork server, also when PyTorch has computed here
            before, but for a GPU they must not be forked. A worker uses as many threads as PyTorch tells it: see
            OMP_NUM_THREADS.
        chunk: members of an ensemble, at most; all seeds unless told otherwise.
        checkpoint_every: seconds between checkpoints, as in `train`.
        restart: start again what another engine has begun, as in `train`.
        known: what `read_summary` returned. Networks are taken from it that it holds at this budget, or without error
            within it, also by an algorithm that differs in a threshold which no gradient reached; but of an ensemble
            that the store has begun, all or none. Then series have gaps, and `totals` stand for parameters.

    Returns:
        What `train` returns, with dimensions init, algorithm, length, seed, check, parameter; `update` says when
        a check was due; series are NaN after a member stopped. `spec` holds each cell's canonical JSON.

    Raises:
        ValueError: an axis is empty, a length comes twice or is too short, seeds, chunk or device make no sense, or
            `known` is no summary.
        LostWorkersError: workers were lost again and again.

    Source:
        Pascanu et al. 2013, section 4.1.1 and Fig. 7, for the axes.
    """
    cells = grid(base, inits=inits, algorithms=algorithms, lengths=lengths)
    every = as_seeds(seeds)
    if chunk is not None:
        chunk = whole("chunk", chunk)
    if not (executor is None or callable(executor) or hasattr(executor, "submit")):
        raise ValueError(f"executor must be an Executor, a function that makes one, or None, got {executor!r}")
    size = chunk or len(every)
    parts = [every[first : first + size] for first in range(0, len(every), size)]
    jobs = [Job(labels, spec, part) for labels, spec in cells.items() for part in parts]
    how = {"device": device, "store": store, "checkpoint_every": checkpoint_every, "restart": restart}
    taken = [] if known is None else list(_taken(known, jobs, store))
    left = _left(jobs, [job for job, _, _ in taken])
    watch = Watch([*(job for job, _, _ in taken), *left])
    results: dict[tuple[str, str, int], list[xarray.Dataset]] = {labels: [] for labels in cells}
    with closing(results_by(left, executor, how)) as trained:  # also if progress is interrupted
        for job, result, computed in chain(taken, trained):
            plain = known is None or "theta" not in result
            results[job.labels].append(result if plain else totals(result).drop_vars("theta"))
            done = watch.after(job, result, computed=computed)
            if progress is not None:
                progress(done)

    cell = {labels: _joined(results[labels], spec).sel(seed=every) for labels, spec in cells.items()}
    runs = xarray.combine_nested(
        [[[cell[i, a, length] for length in lengths] for a in algorithms] for i in inits],
        concat_dim=list(AXES),
        data_vars="all",
        **_STRICT,
    )
    runs = runs.assign_coords(init=list(inits), algorithm=list(algorithms), length=list(lengths))
    return _finish(runs, chain.from_iterable(results.values()))


def _taken(
    known: xarray.Dataset, jobs: Sequence[Job], store: Store | None
) -> Iterator[tuple[Job, xarray.Dataset, bool]]:
    """What a summary answers; of an ensemble that the store has begun, all of it or nothing, so that it can go on."""
    for job, part, answer in answers(known, jobs):
        begun = store is not None and store.family(job.spec.family(job.seeds))
        if len(part.seeds) == len(job.seeds) or not begun:
            yield part, answer, False


def _left(jobs: Sequence[Job], answered: Sequence[Job]) -> list[Job]:
    """The jobs without the networks that are answered."""
    known = {(job.labels, seed) for job in answered for seed in job.seeds}
    left = [replace(job, seeds=[seed for seed in job.seeds if (job.labels, seed) not in known]) for job in jobs]
    return [job for job in left if job.seeds]


@checked("updates")
def gather(store: Store, *, updates: int | None = None) -> xarray.Dataset:
    """What a store has finished, as `run` would return it; labels in alphabetical order, `totals` for parameters.

    Args:
        store: of trainings that differ in initialization, algorithm, length and seed alone.
        updates: only those of this budget.

    Raises:
        ValueError: there is none, or they differ in more.
    """
    if updates is not None:
        updates = whole("updates", updates)
    budget = "*" if updates is None else f"{updates:012}"
    files = [store.read(path.name) for path in store.files(RUN) if path.match(f"*-{budget}.{RUN}")]
    results = [result_of(file).drop_vars("theta") for file in files if file]
    if not results:
        raise ValueError(f"updates must be the budget of a finished training in {store.folder}, got {updates}")
    specs = [json.loads(result.attrs["spec"])["spec"] for result in results]
    ends = {(spec["updates"], spec["check_every"]) for spec in specs}
    labels = [(*_labels(spec), seed) for spec, r in zip(specs, results, strict=True) for seed in r["seed"].values]
    if conflict := _conflict(specs, results):
        raise ValueError(
            f"updates must choose trainings that differ in {', '.join(AXES)} and seed alone, got {updates}; "
            f"{store.folder} holds {conflict}. Give each a store of its own"
        )
    parts = [_whole(result, *ends.copy().pop()).rename(seed="network") for result in results]
    parts = [part.assign(spec=("network", [part["spec"].item()] * part.sizes["network"])) for part in parts]
    runs = xarray.concat(parts, "network", data_vars="minimal", **_STRICT).drop_vars("network")
    columns = dict(zip((*AXES, "seed"), zip(*labels, strict=True), strict=True))
    runs = runs.assign_coords({name: ("network", list(column)) for name, column in columns.items()})
    return totals(_finish(runs.set_index(network=list(columns)).unstack("network"), results))


def _conflict(specs: Sequence[Mapping[str, Any]], results: Sequence[xarray.Dataset]) -> str:
    """What keeps trainings from one grid, in words; nothing if nothing does."""
    ends = {(spec["updates"], spec["check_every"]) for spec in specs}
    if len(ends) > 1:
        return f"trainings of (updates, check_every) {sorted(ends)}"
    seen: dict[tuple, tuple[Mapping[str, Any], list[int]]] = {}
    meant: dict[str, Mapping[str, Any]] = {}  # of each label, and of what no label tells
    for spec, result in zip(specs, results, strict=True):
        seeds, labels = result["seed"].values.tolist(), _labels(spec)
        for seed in seeds:
            other, others = seen.setdefault((*labels, seed), (spec, seeds))
            named = f"seed {seed} of {', '.join(map(str, labels))} twice"
            if other != spec:
                return f"{named}, with {_differences(other, spec)}"
            if others is not seeds:
                return f"{named}, trained beside other seeds: {others} and {seeds}"
        rest = dict(spec, init=None, algorithm=None, task=dict(spec["task"], length=None))
        parts = {"": rest, f"of init {labels[0]} ": spec["init"], f"of algorithm {labels[1]} ": spec["algorithm"]}
        for label, part in parts.items():
            if (first := meant.setdefault(label, part)) != part:
                return f"trainings {label}with {_differences(first, part)}"
    return ""


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ", ".join(sorted(set(_leaves(one)).symmetric_difference(_leaves(other))))


def _leaves(value: Any, name: str = "") -> Iterator[str]:
    """The numbers and words of nested JSON, each after its path."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}".lstrip("."))
    else:
        yield f"{name} {value}"


def _labels(spec: Mapping[str, Any]) -> tuple[str, str, Any]:
    """Initialization, algorithm and length as the paper calls them, from a specification's JSON."""
    names = {init.__name__: name for name, init in INITS.items()}
    algorithm, init = spec["algorithm"], called(spec["init"])
    remedies = "C" * (called(algorithm["clip"]) != "NoClip") + "R" * (algorithm["omega"] is not None)
    length = spec["task"]["length"]
    return names.get(init, init), f"MSGD-{remedies}".removesuffix("-"), length if type(length) is int else str(length)


def _finish(runs: xarray.Dataset, results: Iterable[xarray.Dataset]) -> xarray.Dataset:
    """The gathered results with axes in order, and by what they came."""
    runs["length"].attrs = {"long_name": "sequence length", "units": "steps"}
    runs.attrs = merged([{**result.attrs, "spec": ""} for result in results])
    del runs.attrs["spec"]
    return runs.transpose(*AXES, "seed", "check", ...)


def _whole(result: xarray.Dataset, budget: int, check_every: int) -> xarray.Dataset:
    """One ensemble's result with every check of its budget; those that no member lived to are NaN."""
    updates = due(budget, check_every)
    missing = len(updates) - result.sizes["check"]
    padded = result.drop_vars("update").pad(check=(0, missing), keep_attrs=True)
    padded["spec"] = ((), padded.attrs.pop("spec"), {"long_name": "canonical specification"})
    return padded.assign_coords(update=("check", updates, result["update"].attrs))


def _joined(parts: Sequence[xarray.Dataset], spec: Spec) -> xarray.Dataset:
    """One cell's ensembles as one."""
    whole = [_whole(part, spec.updates, spec.check_every) for part in parts]
    return xarray.concat(whole, "seed", data_vars="minimal", **_STRICT) if len(whole) > 1 else whole[0]

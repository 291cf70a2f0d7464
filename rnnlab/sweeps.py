"""Sweeps: one specification over initializations, algorithms and lengths, gathered in one labelled dataset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray

from rnnlab.engine.contract import Algorithm
from rnnlab.inits import Init
from rnnlab.records import wilson
from rnnlab.specs import Spec
from rnnlab.training import train

AXES = ("init", "algorithm", "length")


@dataclass(frozen=True)
class Done:
    """A cell of a sweep that has just been trained: its labels, and the how manieth of how many it was."""

    init: str
    algorithm: str
    length: int
    number: int
    cells: int


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


def run(
    base: Spec,
    *,
    inits: Mapping[str, Init],
    algorithms: Mapping[str, Algorithm],
    lengths: Sequence[int],
    seeds: int | Sequence[int] = 5,
    device: str = "auto",
    progress: Callable[[Done], None] | None = None,
) -> xarray.Dataset:
    """Train the same seeds in every cell of a grid, all seeds of a cell at once, and gather what `train` returns.

    Args:
        base: what the cells share: task but for its length, sizes, budget, tests.
        inits: initializations by label.
        algorithms: algorithms by label.
        lengths: of the task's sequences, in steps.
        seeds: a count, from 0, or a sequence of seeds.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        progress: called after every cell.

    Returns:
        Series over `init`, `algorithm`, `length`, `seed` and `check`, outcomes without `check`, and final parameters,
        with the names and units of `train`. `check` covers the whole budget, and `update` (updates) says when each
        was due; series are NaN after a member stopped. `spec` holds each cell's canonical JSON.

    Raises:
        ValueError: an axis is empty, a length comes twice or is too short, seeds or device make no sense.

    Source:
        Pascanu et al. 2013, section 4.1.1 and Fig. 7, for the axes.
    """
    cells = grid(base, inits=inits, algorithms=algorithms, lengths=lengths)
    results = {}
    for number, (labels, spec) in enumerate(cells.items(), start=1):
        results[labels] = _whole(train(spec, seeds=seeds, device=device), spec)
        if progress is not None:
            progress(Done(*labels, number=number, cells=len(cells)))
    nested = [[[results[i, a, length] for length in lengths] for a in algorithms] for i in inits]
    runs = xarray.combine_nested(
        nested,
        concat_dim=list(AXES),
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="drop_conflicts",
    )
    runs = runs.assign_coords(init=list(inits), algorithm=list(algorithms), length=list(lengths))
    runs["length"].attrs = {"long_name": "sequence length", "units": "steps"}
    return runs.transpose(*AXES, "seed", "check", "parameter")


def _whole(result: xarray.Dataset, spec: Spec) -> xarray.Dataset:
    """One cell's result with every check of its budget; those that no member lived to are NaN."""
    updates = np.append(np.arange(spec.check_every, spec.updates, spec.check_every), spec.updates)
    missing = len(updates) - result.sizes["check"]
    padded = result.drop_vars("update").pad(check=(0, missing), keep_attrs=True)
    padded["spec"] = ((), padded.attrs.pop("spec"), {"long_name": "canonical specification"})
    return padded.assign_coords(update=("check", updates, result["update"].attrs))


def success(runs: xarray.Dataset, *, event: str = "first_below_1_percent") -> xarray.Dataset:
    """The share of seeds that got there, with Wilson's 95 % interval.

    Args:
        runs: what `run` or `rnnlab.train` returned.
        event: an outcome that holds an update (updates), NaN where it did not happen.

    Returns:
        `rate`, `low` and `high` (dimensionless) over the dimensions of `runs[event]` but `seed`.

    Raises:
        ValueError: `runs` has no such outcome.

    Source:
        Wilson 1927, for the interval.
    """
    if event not in runs or "seed" not in runs[event].dims:
        known = [str(name) for name in runs if runs[name].attrs.get("units") == "updates"]
        raise ValueError(f"event must be one of {known}, got {event!r}")
    solved = runs[event].notnull()
    trials = solved.sizes["seed"]
    count = solved.sum("seed")
    low, high = xarray.apply_ufunc(
        np.vectorize(lambda k: wilson(int(k), trials), otypes=[float, float]), count, output_core_dims=[[], []]
    )
    rates = xarray.Dataset({"rate": count / trials, "low": low, "high": high}, attrs={"trials": trials})
    for name, text in (("rate", "success rate"), ("low", "Wilson 95 %, lower end"), ("high", "Wilson 95 %, upper end")):
        rates[name].attrs = {"long_name": text, "units": "1"}
    return rates

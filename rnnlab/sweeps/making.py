"""The making of stored results: how far they are, what is missing, and whether what is stored can be made again."""

import fcntl
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray

from rnnlab.descent.clipping import NoClip
from rnnlab.naming import digest
from rnnlab.sweeps.axes import labelled
from rnnlab.sweeps.executors import Job, Pool, results_by
from rnnlab.sweeps.results import MAKER, ORIGIN, Result, joined, manifest, places, table
from rnnlab.sweeps.summaries import due, write_summary
from rnnlab.sweeps.sweep import at_any_budget, ensembles
from rnnlab.tasks.task import length_range
from rnnlab.training.ensembles import Device, pick_device
from rnnlab.training.loop import OtherEngineError, train
from rnnlab.training.records import OUTCOMES, SERIES, TOTALS, totals
from rnnlab.training.specs import Spec
from rnnlab.training.store import Store
from rnnlab.values import Count, Natural, Seconds, checked

_COST = 7e-11  # seconds of one core with AVX-512, for a step of a sequence and a weight


class Standing(NamedTuple):
    """How far a result is: networks that are finished, begun and wanted, their budget in updates, and what is left.

    Of a table it is cells, and the budget is 0.

    `hours` are those of one core with AVX-512, at most: none of what is left would end early.
    """

    result: Result
    finished: int
    begun: int
    wanted: int
    updates: int
    hours: float


class Verified(NamedTuple):
    """A stored network, or table, that was made again: whether it `holds`, and in words what was compared."""

    result: str
    which: str
    holds: bool
    said: str


def missing(result: Result, networks: xarray.Dataset) -> list[Job]:
    """What is still to be trained of a result, or again as it has no digest; by cell, the shortest first.

    What trains without clipping comes last, since it may turn out to be there then.
    """
    known = np.append(networks["digest"].values != "", False)  # the last stands for what is not there
    there, jobs = known[places(result, networks).values], []
    for (labels, spec), finished in zip(labelled(result.specs), there.reshape(-1, len(result.seeds)), strict=True):
        left = [seed for seed, ended in zip(result.seeds, finished, strict=True) if not ended]
        jobs += [Job({"result": result.name, **labels}, spec, left)] if left else []
    plain = [isinstance(getattr(job.spec.algorithm, "clip", None), NoClip) for job in jobs]
    order = sorted(range(len(jobs)), key=lambda j: (jobs[j].spec.task.longest, plain[j]))
    return [jobs[j] for j in order]


@checked
def status(folder: str | Path, store: Store) -> list[Standing]:
    """How far each result of the manifest is; networks that two of them want count for both, and cells of a table.

    Args:
        folder: of summaries, with a manifest.
        store: where trainings are begun.
    """
    networks = table(Path(folder).glob("*.summary"))
    begun, found = dict[tuple[str, int], int](), []
    for _, header, seeds in reversed(store.begun()):  # the furthest counts
        begun |= {(at_any_budget(header["spec"]), seed): header["update"] for seed in seeds}
    for result in manifest(folder).values():
        if result.make is not None:
            held = min(result.held(Path(folder)), result.wanted)
            found.append(Standing(result, held, 0, result.wanted, 0, result.hours * (1 - held / result.wanted)))
            continue
        left = [(job.spec, seed) for job in missing(result, networks) for seed in job.seeds]
        made = [begun.get((at_any_budget(spec.canonical()), seed), 0) for spec, seed in left]
        seconds = sum(max(0, spec.updates - n) * _seconds(spec) for (spec, _), n in zip(left, made, strict=True))
        budget = max(spec.updates for spec in result.specs.values.flat)
        wanted = result.specs.size * len(result.seeds)
        found.append(Standing(result, wanted - len(left), sum(n > 0 for n in made), wanted, budget, seconds / 3600))
    return found


def _seconds(spec: Spec) -> float:
    """What an update of one network takes a core, about."""
    steps = sum(length_range(getattr(spec.task, "length", spec.task.longest))) / 2 * spec.batch
    return _COST * steps * spec.units * (spec.units + spec.task.inputs + spec.task.outputs)


@checked
def run(
    folder: str | Path,
    *,
    store: Store,
    only: Sequence[str] = (),
    device: Device = "auto",
    executor: Pool | None = None,
    chunk: Count = 5,
    checkpoint_every: Seconds = 60.0,
    restart: bool = False,
) -> Generator[tuple[Job, xarray.Dataset | None], None, None]:
    """Train what is missing, the most urgent first, and put each cell into its summary as soon as it is finished.

    It goes on where a store's checkpoints are, and may be ended wherever it is. Others may do the same at once, with
    the same store: each takes what nobody has in hand.

    Args:
        folder: of summaries, with a manifest.
        store: where trainings are begun.
        only: names of results; all, unless told.
        device: as for `train`.
        executor: who trains, as for `sweeps.run`; workers must reach the folder and the store.
        chunk: largest number of networks that train side by side.
        checkpoint_every: seconds between checkpoints.
        restart: start again what the store has by another engine, which else is left to that.

    Yields:
        Which networks, and what `train` returned; None if somebody else has them in hand, or had.
    """
    results, everyone = manifest(folder, only=only), manifest(folder).values()
    networks = table(Path(folder).glob("*.summary"))
    for result in everyone:
        add(Path(folder), result, networks)
    wanted = [job for result in results.values() for job in missing(result, networks)]
    held, left = ensembles(wanted, chunk, store)
    how = {"device": device, "store": store, "checkpoint_every": checkpoint_every, "restart": restart}
    with closing(results_by(left, executor, how, partial(_unless_done, folder=Path(folder)))) as trained:
        for job, made in chain(held, trained):
            for result in everyone if made is not None else ():
                add(Path(folder), result, rows(made, command=f"rnnlab results run --only {job.labels['result']}"))
            yield job, made


def _unless_done(spec: Spec, *, seeds: list[int], folder: Path, store: Store, **how: Any) -> xarray.Dataset | None:
    """What `train` returns of the networks that are still missing, if nobody else has them in hand."""
    wanted = Result("", xarray.DataArray(np.array(spec, dtype=object)), seeds)
    with store.alone(spec.family(seeds)) as mine:
        left = missing(wanted, table(folder.glob("*.summary"))) if mine else []
        try:
            with _own_stream(how["device"]):
                return train(spec, seeds=left[0].seeds, store=store, **how) if left else None
        except OtherEngineError as reason:
            warnings.warn(f"left where it was begun: {reason}", stacklevel=2)
            return None
        except FileNotFoundError as reason:
            warnings.warn(f"left until its corpus is there: {reason}", stacklevel=2)
            return None


def _own_stream(device: Device) -> AbstractContextManager:
    """On a GPU a queue of kernels that waits for no other thread's."""
    on = pick_device(device)
    return nullcontext() if on.type == "cpu" else torch.cuda.stream(torch.cuda.Stream(on))


def rows(made: xarray.Dataset, *, command: str) -> xarray.Dataset:
    """What `train` returned as a table of networks, with digests of their parameters and how they came about."""
    origin = made.attrs | {"command": command, "wall_s": round(made.attrs["wall_s"] / made.sizes["seed"], 3)}  # of one
    columns = {name: ("seed", np.full(made.sizes["seed"], origin[name])) for name in (*ORIGIN, "spec")}
    columns["digest"] = "seed", np.array([digest(row.tobytes().hex()) for row in made["theta"].values])
    flat = totals(made).drop_attrs(deep=False).assign(columns).rename_dims(seed="network")
    return flat.drop_indexes("seed").reset_coords("seed")


def add(folder: Path, result: Result, networks: xarray.Dataset) -> None:
    """Put into a result's summary what it wants of a table's networks, and does not have; what it has stays.

    Args:
        folder: of summaries.
        result: which.
        networks: over `network`, as `table` and `rows` return them.
    """
    wanted, path = np.unique(places(result, networks)), folder / f"{result.name}.summary"
    with _alone(folder):
        old = table([path])
        known = old["run"].values[old["digest"].values != ""]
        fresh = networks.isel(network=wanted[wanted >= 0])
        fresh = fresh.isel(network=~np.isin(fresh["run"], known) & (fresh["digest"] != "").values)
        if fresh.sizes["network"]:
            when = np.unique(np.concatenate([due(spec.updates, spec.check_every) for spec in result.specs.values.flat]))
            shown = when[np.unique(np.linspace(0, len(when) - 1, result.checks).round().astype(int))]
            fresh = fresh.swap_dims(check="update").reindex(update=shown).swap_dims(update="check")
            common = {*SERIES, *OUTCOMES, *TOTALS, *ORIGIN}
            others = [name for name, x in fresh.items() if name not in common and x.isnull().all()]
            fresh = fresh.drop_vars(others if result.theta else {*others, "theta"}, errors="ignore")
            both = joined([old, fresh] if path.exists() else [fresh])
            write_summary(both, path, command=f"rnnlab results run --only {result.name}", theta=result.theta)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process of this machine is within the same meanwhile."""
    hold = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(hold, fcntl.LOCK_EX)
        yield
    finally:
        os.close(hold)


@checked
def verify(
    folder: str | Path, *, sample: Count = 1, only: Sequence[str] = (), seed: Natural = 0, device: Device = "auto"
) -> Iterator[Verified]:
    """Train some stored networks again, and compare.

    By the same engine on the same instruction set the final parameters must be the same bits. Else, or where a summary
    has no digest, outcomes are compared: each must be the same to be said so; other engines part after some thousand
    updates, since training is chaotic, and only whether a network was solved can then be said of both.

    Args:
        folder: of summaries, with a manifest.
        sample: how many networks of each result.
        only: names of results; all, unless told.
        seed: of the choice.
        device: as for `train`.
    """
    for result in manifest(folder, only=only).values():
        networks = table([Path(folder) / f"{result.name}.summary"])
        found = np.unique(places(result, networks))
        found = found[found >= 0]
        for n in np.random.default_rng(seed).permutation(found)[:sample]:
            row = networks.isel(network=n)
            spec, member = Spec.from_canonical(row["spec"].item()), int(row["seed"])
            again = train(spec, seeds=[member], device=device, progress=False)
            yield Verified(result.name, spec.id(member), *_compared(row, totals(again).isel(seed=0)))


def _compared(row: xarray.Dataset, again: xarray.Dataset) -> tuple[bool, str]:
    """Whether a network holds that was trained again, and in words why."""
    same = all(row[name].item() == again.attrs[name] for name in MAKER)
    if row["digest"] == digest(again["theta"].values.tobytes().hex()):
        return True, "the same bits"
    if same and row["digest"] != "":
        return False, "other bits by the same engine"
    names = [name for name in (*OUTCOMES, *TOTALS) if row[name].notnull() or not name.startswith("fresh")]
    if other := [name for name in names if not np.array_equal(row[name], again[name], equal_nan=True)]:
        alike = bool(row["first_below_1_percent"].notnull() == again["first_below_1_percent"].notnull())
        said = f"by {again.attrs['engine']} instead of {row['engine'].item()}: other {', '.join(other)}"
        return alike and not same, said
    return True, "the same outcomes"

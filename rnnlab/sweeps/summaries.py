"""Summaries of sweeps: files small enough for the book; and the networks that they hold, which need not train again."""

import json
import lzma
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_LZMA, ZipFile

import numpy as np
import xarray

from rnnlab.sweeps.executors import Job
from rnnlab.training.checks import STOPS
from rnnlab.training.records import OUTCOMES, SERIES, TOTALS
from rnnlab.training.specs import named, run_id
from rnnlab.training.store import SUMMARY, DamagedError, File, Store, decode, encode, expanded, written
from rnnlab.values import checked

LIMIT = 200_000  # bytes of a summary
SOLID = "arrays in one"
RUN = "run"  # left out where specifications and seeds say it
HEADER = "header"  # dimensions and attributes, beside the arrays, as they repeat what is in those


@checked
def write_summary(runs: xarray.Dataset, path: str | Path, *, command: str, theta: bool = False) -> None:
    """Keep outcomes of all networks, and series of few checks, in a file small enough for the book.

    Series are rounded to 11 bits (0.05 %) and thinned until the file fits into 200 kB.

    Args:
        runs: what `rnnlab.train`, `sweeps.run` or `sweeps.gather` returned.
        path: where to.
        command: how it can be computed again.
        theta: whether final parameters are kept.

    Raises:
        ValueError: `runs` has no checks, or even two of each network do not fit.
    """
    if "check" not in runs.dims:
        raise ValueError(f"runs must have a dimension check, got {dict(runs.sizes)}")
    for checks in (50, 40, 30, 20, 15, 10, 5, 2):
        kept = np.unique(np.linspace(0, runs.sizes["check"] - 1, checks).round().astype(int))
        thin = (runs if theta else runs.drop_vars("theta", errors="ignore")).isel(check=kept)
        total = str(runs.attrs.get("checks", runs.sizes["check"])).rpartition(" of ")[2]  # also of a summary
        told = {"command": command, "checks": f"{len(kept)} of {total}"}
        if _fits(thin.assign_attrs(runs.attrs | told), path):
            return
    raise ValueError(f"runs must be few enough for {LIMIT} bytes, got {dict(runs.sizes)}")


@checked
def write_table(table: xarray.Dataset, path: str | Path) -> None:
    """Keep a table that is no record of trainings, every digit of it, in a file small enough for the book.

    Args:
        table: arrays by name; its attributes say how it can be computed again.
        path: where to; `read_summary` reads it.

    Raises:
        ValueError: it does not fit into 200 kB.
    """
    if not _fits(table, path):
        raise ValueError(f"table must be small enough for {LIMIT} bytes, got {dict(table.sizes)}")


def _fits(table: xarray.Dataset, path: str | Path) -> bool:
    """Whether the file is small enough; if so, it is written."""
    if HEADER in table.variables:
        raise ValueError(f"no variable of a summary may be called {HEADER!r}, which is what its file calls its own")
    header = np.frombuffer(json.dumps(table.to_dict(data=False)).encode(), dtype=np.uint8)
    arrays = {HEADER: header} | {str(name): _plain(variable) for name, variable in table.variables.items()}
    if RUN in arrays and (ids := _ids(table)) is not None and np.array_equal(ids, arrays[RUN]):
        del arrays[RUN]
    data = encode(File(SUMMARY, {}, arrays), save=_packed)
    if fits := len(data) <= LIMIT:
        with written(expanded(path).absolute()) as stream:
            stream.write(data)
    return fits


def _packed(stream: BytesIO, *, rnnlab: np.ndarray, **arrays: np.ndarray) -> None:
    """All arrays as one, by LZMA: they repeat each other, and alone they take more room."""
    inside = BytesIO()
    np.savez(inside, **arrays)  # type: ignore[arg-type]
    solid = np.frombuffer(lzma.compress(inside.getvalue(), preset=9), dtype=np.uint8)
    with ZipFile(stream, "w", ZIP_LZMA) as archive:
        for name, array in {"rnnlab": rnnlab, SOLID: solid}.items():
            with archive.open(f"{name}.npy", "w") as part:
                np.lib.format.write_array(part, array, allow_pickle=False)


def _unpacked(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """What `_packed` was given, or an earlier version wrote one by one."""
    if SOLID not in arrays:
        return arrays
    with np.load(BytesIO(lzma.decompress(arrays[SOLID].tobytes())), allow_pickle=False) as inside:
        return dict(inside)


@checked
def read_summary(path: str | Path) -> xarray.Dataset:
    """What `write_summary` kept; how the runs came about is in the attributes. NaN where nothing was measured then.

    Raises:
        DamagedError: the file is not as it was written, or is something else.
        FileNotFoundError: there is none.
    """
    file = decode(expanded(path).read_bytes(), name=str(path))
    if file.name != SUMMARY:
        raise DamagedError(f"{path} is no summary, but {file.name}")
    arrays = _unpacked(file.arrays)
    header = file.header or json.loads(arrays[HEADER].tobytes())  # an earlier version has it outside
    for name, variable in (header["coords"] | header["data_vars"]).items():
        if name == RUN and RUN not in arrays:
            variable["data"] = np.empty(variable["shape"], dtype="U16")
            continue
        apart = variable["dtype"] == "float32" and arrays[name].dtype == np.uint8
        variable["data"] = _together(arrays[name]) if apart else arrays[name]
    table = xarray.Dataset.from_dict(header)
    if RUN in table and RUN not in arrays:
        table[RUN].values = _ids(table)
    return table


def _ids(table: xarray.Dataset) -> np.ndarray | None:
    """Names of the runs as specifications and seeds give them, "" where there are none; None where they do not."""
    if not {"spec", "seed"} <= set(table.variables):
        return None
    spec = table["spec"].where(table["spec"].notnull(), "").astype(str)
    of = np.vectorize(lambda spec, seed: run_id(spec, int(seed)) if spec else "", otypes=[str])
    ids, dims = xarray.apply_ufunc(of, spec, table["seed"]), table[RUN].dims
    return ids.transpose(*dims).values if set(ids.dims) == set(dims) else None


def _plain(variable: xarray.Variable) -> np.ndarray:
    """The values; words where there are some, numbers of every check rounded, and other float32 byte by byte."""
    if variable.dtype.kind in "OUS":
        return np.where(variable.isnull(), "", variable.values).astype(str)
    if variable.dtype.kind == "f" and "check" in variable.dims:
        return rounded(variable.values, 11)
    return _apart(variable.values) if variable.dtype == np.float32 else variable.values


def _apart(values: np.ndarray) -> np.ndarray:
    """All first bytes of float32, then all second ones, and so on: like stands beside like, and takes less room."""
    return np.moveaxis(np.array(values, dtype="<f4", order="C")[..., None].view(np.uint8), -1, 0)


def _together(data: np.ndarray) -> np.ndarray:
    """What `_apart` was given."""
    return np.ascontiguousarray(np.moveaxis(data, 0, -1)).view("<f4")[..., 0]


@checked
def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Numbers in float32 with so many of its 24 bits; the others are zero, so that they take little room in a file.

    Args:
        values: of any shape; NaN stays.
        bits: 1 to 24; 16 keep the parameters of a network to one part in 10^5.

    Raises:
        ValueError: float32 has no such number of bits.
    """
    if not 1 <= bits <= 24:
        raise ValueError(f"bits must be 1 to 24, as many as float32 has, got {bits}")
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits).astype(np.float32)


def answers(
    known: xarray.Dataset, jobs: Sequence[Job], store: Store | None
) -> tuple[list[tuple[Job, xarray.Dataset]], list[Job]]:
    """The networks that a summary holds, and the jobs that are left to be trained.

    It holds a network if that is the same run; or the same with another budget, if it ended within this one, at a
    check that is due here.

    Args:
        known: what `read_summary` returned.
        jobs: ensembles to be trained.
        store: where some of them may have been begun; of such a one the summary gives all or none, so that it can go
            on.

    Raises:
        ValueError: `known` is no summary of trainings.
    """
    needed = {*SERIES, *OUTCOMES, *TOTALS, "run", "spec", "seed", "update"}
    if not (isinstance(known, xarray.Dataset) and needed <= set(known.variables)):
        raise ValueError(f"known must be what `read_summary` returned for a sweep's `totals`, got {known!r:.200}")
    axes = [name for name in known["run"].dims if name != "seed"]
    networks = known.stack(network=[*axes, "seed"], create_index=False)
    budgets = {json.loads(text)["spec"]["updates"] for text in np.unique(known["spec"].values) if text}
    origin = {name: value for name, value in known.attrs.items() if name not in ("command", "checks", "wall_s")}
    taken, left = [], []
    for job in jobs:
        held = _held(networks, job, budgets)
        if store is not None and len(held) < len(job.seeds) and store.family(job.spec.family(job.seeds)):
            held = {}
        if held:
            checks = networks.isel(network=list(held.values())).swap_dims(check="update")
            answer = checks.reindex(update=due(job.spec.updates, job.spec.check_every)).drop_vars([*axes, "spec"])
            answer = answer.swap_dims(update="check", network="seed").assign_attrs(origin, spec=job.spec.canonical())
            answer["update"].attrs = known["update"].attrs
            taken.append((job._replace(seeds=list(held)), answer))
        if rest := [seed for seed in job.seeds if seed not in held]:
            left.append(job._replace(seeds=rest))
    return taken, left


def _held(networks: xarray.Dataset, job: Job, budgets: Iterable[int]) -> dict[int, int]:
    """Where a job's networks are among those of a summary, by seed."""
    spec, runs = job.spec, networks["run"].values
    held: dict[int, int] = {}
    when = networks[STOPS[spec.stop].name].values if spec.stop in STOPS else np.full(len(runs), np.nan)
    early = (when <= spec.updates) & (when % spec.check_every == 0)
    possible = [budget for budget in budgets if budget <= spec.check_every * 10**6]  # as for any specification
    for budget in possible if named(spec) else ():
        ids = {run_id(spec.with_(updates=budget).canonical(), seed): seed for seed in job.seeds}
        fit = np.isin(runs, list(ids)) & (early | (budget == spec.updates))
        held |= {ids[runs[n]]: int(n) for n in np.flatnonzero(fit)}
    return held


def due(budget: int, check_every: int) -> np.ndarray:
    """The updates after which checks are due, for a budget in updates and the number of updates between checks."""
    return np.append(np.arange(check_every, budget, check_every), budget)

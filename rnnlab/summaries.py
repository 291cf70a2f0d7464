"""Summaries of sweeps: files small enough for the book; and what they answer, which then need not run again."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from rnnlab.checking import checked
from rnnlab.executors import Job
from rnnlab.records import OUTCOMES, SERIES, TOTALS
from rnnlab.store import SUMMARY, DamagedError, File, decode, encode, put

AXES = ("init", "algorithm", "length")
LIMIT = 200_000  # bytes of a summary


@checked()
def write_summary(runs: xarray.Dataset, path: str | Path, *, command: str) -> None:
    """Keep outcomes of all networks, and series of few checks, in a file small enough for the book.

    Series are rounded to 11 bits (0.05 %) and thinned until the file fits into 200 kB; parameters are left out.

    Args:
        runs: what `rnnlab.train`, `sweeps.run` or `sweeps.gather` returned.
        path: where to.
        command: how it can be computed again.

    Raises:
        ValueError: `runs` has no checks, or even two of each network do not fit.
    """
    if "check" not in runs.dims:
        raise ValueError(f"runs must have a dimension check, got {dict(runs.sizes)}")
    for checks in (50, 40, 30, 20, 15, 10, 5, 2):
        kept = np.unique(np.linspace(0, runs.sizes["check"] - 1, checks).round().astype(int))
        inner = zlib.compress(encode(_plain(runs.drop_vars("theta", errors="ignore").isel(check=kept))), 9)
        said = {"command": command, "checks": f"{len(kept)} of {runs.sizes['check']}"} | runs.attrs
        data = encode(File(SUMMARY, said, {"dataset": np.frombuffer(inner, dtype=np.uint8)}))
        if len(data) <= LIMIT:
            put(Path(path).absolute(), data)
            return
    raise ValueError(f"runs must be few enough for {LIMIT} bytes, got {dict(runs.sizes)}")


@checked()
def read_summary(path: str | Path) -> xarray.Dataset:
    """What `write_summary` kept; how the runs came about is in the attributes.

    Raises:
        DamagedError: the file is not as it was written, or is something else.
        FileNotFoundError: there is none.
    """
    try:
        outer = decode(Path(path).read_bytes())
    except DamagedError as error:
        raise DamagedError(f"{path} is {error}") from error
    if outer.name != SUMMARY:
        raise DamagedError(f"{path} is no summary, but {outer.name}")
    inner = decode(zlib.decompress(outer.arrays["dataset"].tobytes()))
    columns = inner.header["columns"]
    values = {name: inner.arrays.get(name, column.get("text")) for name, column in columns.items()}
    variables = {name: (tuple(column["dims"]), values[name], column["attrs"]) for name, column in columns.items()}
    coords = {name: variables.pop(name) for name in inner.header["coords"]}
    return xarray.Dataset(variables, coords, outer.header)


def _plain(runs: xarray.Dataset) -> File:
    """A dataset as words and arrays; numbers of every check are rounded."""
    columns: dict[str, dict[str, Any]] = {}
    arrays = {}
    for name, variable in runs.variables.items():
        values = variable.values
        columns[str(name)] = {"dims": variable.dims, "attrs": variable.attrs}
        if values.dtype.kind in "OUS":
            columns[str(name)]["text"] = np.where(variable.isnull(), "", values).astype(str).tolist()
        else:
            series = values.dtype.kind == "f" and "check" in variable.dims
            arrays[str(name)] = _rounded(values) if series else values
    return File(SUMMARY, {"columns": columns, "coords": [str(name) for name in runs.coords]}, arrays)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Numbers in float32, of whose 24 bits the last 13 are zero, so that they take little room."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, 11)), exponent - 11).astype(np.float32)


def answers(known: xarray.Dataset, jobs: Sequence[Job]) -> list[tuple[Job, xarray.Dataset, bool]]:
    """The jobs that a summary answers, each with its answer, and that it was not computed.

    Args:
        known: what `read_summary` returned.
        jobs: ensembles to be trained; answered where every member is there with its whole budget, or ended within it.

    Raises:
        ValueError: `known` is no summary of a sweep.
    """
    needed = {*SERIES, *OUTCOMES, *TOTALS, *AXES, "run", "spec", "seed", "update"}
    if not (isinstance(known, xarray.Dataset) and needed <= set(known.variables)):
        raise ValueError(f"known must be what `read_summary` returned for a sweep's `totals`, got {known!r:.200}")
    networks = known.stack(network=[*AXES, "seed"], create_index=False)
    texts, seeds = networks["spec"].values, networks["seed"].values
    at = {(_begun(text), int(seed)): n for n, (text, seed) in enumerate(zip(texts, seeds, strict=True)) if text}
    origin = {name: value for name, value in known.attrs.items() if name not in ("command", "checks", "wall_s")}
    found = []
    for job in jobs:
        spec, text = job.spec, job.spec.canonical()
        numbers = [at.get((_begun(text), seed), -1) for seed in job.seeds]
        members = networks.isel(network=numbers)
        end = members["first_no_error"]
        early = (end <= spec.updates) & (end % spec.check_every == 0) & (spec.stop == "no error")
        if -1 not in numbers and (early | (members["spec"] == text)).all():
            checks = members.swap_dims(check="update").reindex(update=due(spec.updates, spec.check_every))
            answer = checks.drop_vars([*AXES, "spec"]).swap_dims(update="check", network="seed")
            answer["update"].attrs = known["update"].attrs
            found.append((job, answer.assign_attrs(origin, spec=text), False))
    return found


def _begun(text: str) -> str:
    """A specification's canonical JSON without its budget."""
    told = json.loads(text)
    del told["spec"]["updates"]
    return json.dumps(told, sort_keys=True)


def due(budget: int, check_every: int) -> np.ndarray:
    """The updates after which checks are due, for a budget in updates and the number of updates between checks."""
    return np.append(np.arange(check_every, budget, check_every), budget)

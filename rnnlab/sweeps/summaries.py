"""Summaries of sweeps: files small enough for the book; and what they answer, which then need not run again."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray

from rnnlab.sweeps.executors import Job
from rnnlab.training.records import OUTCOMES, SERIES, TOTALS
from rnnlab.training.specs import Spec, named
from rnnlab.training.store import SUMMARY, DamagedError, File, decode, encode, expanded, written
from rnnlab.values import checked

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
        thin = runs.drop_vars("theta", errors="ignore").isel(check=kept)
        told = {"command": command, "checks": f"{len(kept)} of {runs.sizes['check']}"}
        words = thin.assign_attrs(told | runs.attrs).to_dict(data=False)
        arrays = {str(name): _plain(variable) for name, variable in thin.variables.items()}
        data = encode(File(SUMMARY, words, arrays), save=np.savez_compressed)
        if len(data) <= LIMIT:
            with written(expanded(path).absolute()) as stream:
                stream.write(data)
            return
    raise ValueError(f"runs must be few enough for {LIMIT} bytes, got {dict(runs.sizes)}")


@checked()
def read_summary(path: str | Path) -> xarray.Dataset:
    """What `write_summary` kept; how the runs came about is in the attributes. NaN where nothing was measured then.

    Raises:
        DamagedError: the file is not as it was written, or is something else.
        FileNotFoundError: there is none.
    """
    try:
        file = decode(expanded(path).read_bytes())
    except DamagedError as error:
        raise DamagedError(f"{path} is {error}") from error
    if file.name != SUMMARY:
        raise DamagedError(f"{path} is no summary, but {file.name}")
    for name, variable in (file.header["coords"] | file.header["data_vars"]).items():
        variable["data"] = file.arrays[name]
    return xarray.Dataset.from_dict(file.header)


def _plain(variable: xarray.Variable) -> np.ndarray:
    """The values; words where there are some, and numbers of every check rounded."""
    if variable.dtype.kind in "OUS":
        return np.where(variable.isnull(), "", variable.values).astype(str)
    return _rounded(variable.values) if variable.dtype.kind == "f" and "check" in variable.dims else variable.values


def _rounded(values: np.ndarray) -> np.ndarray:
    """Numbers in float32, of whose 24 bits the last 13 are zero, so that they take little room."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, 11)), exponent - 11).astype(np.float32)


def answers(known: xarray.Dataset, jobs: Sequence[Job]) -> list[tuple[Job, Job, xarray.Dataset]]:
    """The networks that a summary answers.

    A network is answered by itself, with its whole budget or ended within it, or by one that was trained with another
    threshold of the gradient's norm, or none, if its norm stayed below both: then clipping never changed a bit.

    Args:
        known: what `read_summary` returned.
        jobs: ensembles to be trained.

    Returns:
        A job, the same with the answered seeds alone, and the answer; `run` says which run that is from.

    Raises:
        ValueError: `known` is no summary of a sweep.
    """
    needed = {*SERIES, *OUTCOMES, *TOTALS, *AXES, "run", "spec", "seed", "update"}
    if not (isinstance(known, xarray.Dataset) and needed <= set(known.variables)):
        raise ValueError(f"known must be what `read_summary` returned for a sweep's `totals`, got {known!r:.200}")
    networks = known.stack(network=[*AXES, "seed"], create_index=False)
    held: dict[tuple[str, int], list[_Held]] = {}
    columns = ("spec", "seed", "first_no_error", "largest_norm", "clipped_share", "diverged_at")
    for n, (text, seed, *said) in enumerate(zip(*(networks[name].values.tolist() for name in columns), strict=True)):
        if text:
            asked = _Asked.of(text)
            held.setdefault((asked.question, seed), []).append(_Held(n, asked, *said))
    origin = {name: value for name, value in known.attrs.items() if name not in ("command", "checks", "wall_s")}
    found = []
    for job in jobs:
        spec, text = job.spec, named(job.spec)
        if not text:
            continue
        asked, numbers = _Asked.of(text), {}
        for seed in job.seeds:
            fit = [one for one in held.get((asked.question, seed), ()) if one.answers(asked, spec)]
            if fit:  # its own run rather than another algorithm's
                numbers[seed] = min(fit, key=lambda one: one.asked.clip != asked.clip).number
        if numbers:
            checks = networks.isel(network=list(numbers.values())).swap_dims(check="update")
            answer = checks.reindex(update=due(spec.updates, spec.check_every)).drop_vars([*AXES, "spec"])
            answer = answer.swap_dims(update="check", network="seed").assign_attrs(origin, spec=text)
            answer["update"].attrs = known["update"].attrs
            found.append((job, replace(job, seeds=list(numbers)), answer))
    return found


@dataclass(frozen=True)
class _Asked:
    """A specification's canonical JSON in parts: what matters in any case, the budget, the clipping.

    `room` is the norm below which the clipping lets a gradient be.
    """

    question: str
    updates: int
    clip: str
    room: float

    @classmethod
    def of(cls, text: str) -> "_Asked":
        told = json.loads(text)
        updates, clip = told["spec"].pop("updates"), told["spec"]["algorithm"].pop("clip")
        guard = clip.get("guard") or {}
        limits = [clip.get("threshold", math.inf), guard.get("limit", math.inf)]
        room = min(limits) if clip.get("type") in ("Norm", "NoClip") and "class" not in guard else 0.0
        return cls(json.dumps(told, sort_keys=True), updates, json.dumps(clip, sort_keys=True), room)


@dataclass(frozen=True)
class _Held:
    """A network of a summary: its number there, what it was trained for, and what came of it."""

    number: int
    asked: _Asked
    no_error: float
    largest_norm: float
    clipped_share: float
    diverged_at: float

    def answers(self, asked: _Asked, spec: Spec) -> bool:
        """Whether its training is, bit for bit, what another one with the same question would be."""
        early = spec.stop == "no error" and self.no_error <= spec.updates and self.no_error % spec.check_every == 0
        untouched = self.largest_norm < min(self.asked.room, asked.room) and self.clipped_share == 0
        alike = self.asked.clip == asked.clip or (untouched and math.isnan(self.diverged_at))
        return alike and (early or self.asked.updates == asked.updates)


def due(budget: int, check_every: int) -> np.ndarray:
    """The updates after which checks are due, for a budget in updates and the number of updates between checks."""
    return np.append(np.arange(check_every, budget, check_every), budget)

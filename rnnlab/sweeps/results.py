"""Long runs as data: a manifest says which are wanted, and summaries which networks there are.

Such a result is a sweep of trainings, or a table that a page makes. The summary of a sweep is a table of networks, in
which what a result wants is looked up by specification and seed. One that ended within a smaller budget stands for
that of a larger one, too; and one that was never clipped is also that which trains without clipping, to the last bit.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import NoClip
from rnnlab.naming import form
from rnnlab.network.inits import INITS
from rnnlab.sweeps.axes import grid
from rnnlab.sweeps.summaries import read_summary
from rnnlab.sweeps.sweep import at_any_budget
from rnnlab.training.records import OUTCOMES, SERIES, TOTALS, merged
from rnnlab.training.specs import Spec, part
from rnnlab.values import among, as_seeds, checked

MANIFEST = "manifest.yml"
MAKER = ("engine", "device", "torch")  # what the last digit may depend on
ORIGIN = (*MAKER, "date", "wall_s", "command")  # how each network came about
_NEEDED, _FREE = ("pages", "why", "priority", "base", "axes", "seeds"), ("checks", "theta")
_OF_TABLES = ("pages", "why", "priority", "make", "hours"), ("wanted",)


@dataclass(frozen=True)
class Result:
    """Networks, or a table, that the book wants.

    Args:
        name: of the result, and of the summary that its networks are put into.
        specs: a specification for each cell, as `grid` returns them; none of a table.
        seeds: of every cell.
        pages: that speak from it.
        why: what it is to decide.
        priority: the lowest is made first.
        checks: of how many checks series are kept.
        theta: whether final parameters are kept.
        make: the parameters with which the first page makes it, if it is a table.
        hours: of one core that this takes, about.
        wanted: how many cells the table has; 1 if it has none.
    """

    name: str
    specs: xarray.DataArray
    seeds: Sequence[int]
    pages: Sequence[str] = ()
    why: str = ""
    priority: float = 0
    checks: int = 3
    theta: bool = False
    make: Mapping[str, Any] | None = None
    hours: float = 0
    wanted: int = 1

    def held(self, folder: Path) -> int:
        """How many cells of a table there are: by its attribute `cells`, else over its dimension `cell`."""
        if not (path := folder / f"{self.name}.summary").exists():
            return 0
        table = read_summary(path)
        return int(table.attrs.get("cells", table.sizes.get("cell", 1)))


@checked
def manifest(folder: str | Path, *, only: Sequence[str] = ()) -> dict[str, Result]:
    """The results that a folder's manifest.yml asks for, by name, the most urgent first.

    Each has `pages`, `why`, `priority`, `base` (fields of a `Spec`), `axes` (values by axis, as for `grid`) and
    `seeds`, and may have `checks` and `theta`; a table, which its first page makes, `make` (that page's parameters)
    and `hours` in place of the last three, and perhaps `wanted`. Parts are written as `{type: Addition, length: 50}`,
    a class of the package and its fields; initializations and algorithms by their names in the paper, too.

    Args:
        folder: of summaries.
        only: names of results; all, unless told.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: it asks for what cannot be, or has no such result.
    """
    path = Path(folder) / MANIFEST
    said = _said(path, path.stat().st_mtime_ns)
    if unknown := [name for name in only if name not in said]:
        raise ValueError(f"only must be of {', '.join(said)}, got {unknown[0]!r}")
    found = [_result(str(name), told) for name, told in said.items() if not only or name in only]
    return {result.name: result for result in sorted(found, key=lambda result: result.priority)}


def asked(folder: str | Path) -> list[str]:
    """The names of the results that a folder's manifest asks for; none if there is no manifest."""
    path = Path(folder) / MANIFEST
    return [str(name) for name in _said(path, path.stat().st_mtime_ns)] if path.exists() else []


@cache
def _said(path: Path, changed: int) -> dict[Any, Any]:
    """What a manifest says that was changed then; pages ask for many results of one."""
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} must be YAML: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path} must hold results by name, got {said!r:.100}")
    return said


def _result(name: str, told: Any) -> Result:
    table = isinstance(told, dict) and "make" in told
    needed, free = _OF_TABLES if table else (_NEEDED, _FREE)
    if not isinstance(told, dict) or not set(needed) <= set(told) <= {*needed, *free}:
        had = ", ".join(map(str, told)) if isinstance(told, dict) else f"{told!r:.100}"
        raise ValueError(f"{name} must have {', '.join(needed)}, and may have {', '.join(free)}, got {had}")
    if table:
        return Result(name, xarray.DataArray(np.array([], dtype=object), dims="cell"), (), **told)
    try:
        base = {field: _value(field, value) for field, value in told["base"].items()}
        specs = grid(Spec(**base), **{axis: _values(axis, values) for axis, values in told["axes"].items()})
        more = {key: value for key, value in told.items() if key not in ("base", "axes", "seeds")}
        return Result(name, specs, as_seeds(told["seeds"]), **more)
    except (AttributeError, KeyError, TypeError, ValueError) as reason:
        raise ValueError(f"{name} must ask for networks that can be trained: {reason}") from reason


def _values(axis: str, said: Any) -> dict[Any, Any]:
    """The values of an axis, by label: their own, or what is said."""
    told = said if isinstance(said, dict) else {str(one) if isinstance(one, list) else one: one for one in said}
    return {label: _value(axis, one) for label, one in told.items()}


def _value(field: str, said: Any) -> Any:
    if field == "init" and isinstance(said, str):
        return INITS[among(*INITS)(field, said)]()
    return Algorithm.named(said) if field == "algorithm" and isinstance(said, str) else part(said)


@checked
def table(summaries: Iterable[Path]) -> xarray.Dataset:
    """All networks that summaries hold, over `network`; those that have a digest stand last.

    Beside outcomes, a few checks and `totals` they have `run`, `seed`, `spec`, `digest` (of the final parameters, as
    in `Start.names`; "" in summaries of sweeps), and how they came about: `ORIGIN`.
    """
    read = [read_summary(path) for path in sorted(summaries) if path.exists()]
    flat = [_flat(one) for one in read if {"run", "spec", *OUTCOMES, *TOTALS} <= set(one.variables)]
    return joined(sorted(flat, key=lambda one: bool((one["digest"] != "").any())))


def _flat(kept: xarray.Dataset) -> xarray.Dataset:
    """A summary as a table, if it is none: over the axes of a sweep."""
    if "digest" not in kept:
        axes = list(kept["run"].dims)
        origin = {name: kept.attrs[name] for name in ORIGIN} | {"digest": ""}
        origin["wall_s"] = origin["wall_s"] / int((kept["run"] != "").sum())
        kept = kept.assign(
            {name: kept["run"].copy(data=np.full(kept["run"].shape, one)) for name, one in origin.items()}
        )
        kept = kept.assign(spec=kept["spec"].broadcast_like(kept["run"]))
        kept = kept.stack(network=axes, create_index=False)
        kept = kept.reset_coords("seed").drop_vars([name for name in axes if name != "seed"])
        kept = kept.isel(network=np.flatnonzero(kept["run"] != ""))
    return kept.drop_attrs(deep=False)


def joined(tables: Sequence[xarray.Dataset]) -> xarray.Dataset:
    """Tables as one; NaN for what one does not have."""
    if not tables:
        none = {"run": str, "spec": str, "digest": str, "seed": int, "clipped_share": float, "diverged_at": float}
        return xarray.Dataset({name: ("network", np.array([], dtype=kind)) for name, kind in none.items()})
    along: Any = {"join": "outer", "coords": "minimal", "compat": "override", "combine_attrs": "override"}
    by_update = [one.swap_dims(check="update") for one in tables]
    return xarray.concat(by_update, "network", **along).swap_dims(update="check")


@cache
def forms(canonical: str) -> tuple[str, str]:
    """A specification but for its budget; and that without clipping, if its rule takes down whenever it acts."""
    said = json.loads(canonical)
    clip, without = said["spec"]["algorithm"].get("clip", {}), ""
    if clip.get("type") == "Norm" and clip["signal_threshold"] is None:
        said["spec"]["algorithm"]["clip"] = form(NoClip())
        without = at_any_budget(json.dumps(said, sort_keys=True))
    return at_any_budget(canonical), without


@checked
def places(result: Result, networks: xarray.Dataset) -> xarray.DataArray:
    """Where in a `table` the networks of a result are, over its axes and `seed`; -1 for those that are not there."""
    held: dict[tuple[str, int], list[int]] = {}
    texts = networks["spec"].values.tolist()
    seeds, budgets = networks["seed"].values.tolist(), [json.loads(text)["spec"]["updates"] for text in texts]
    for n, text in enumerate(texts):
        held.setdefault((forms(text)[0], seeds[n]), []).insert(0, n)
    for n in np.flatnonzero((networks["clipped_share"] == 0) & networks["diverged_at"].isnull()).tolist():
        if without := forms(texts[n])[1]:
            held.setdefault((without, seeds[n]), []).append(n)

    def place(spec: Spec, seed: int) -> int:
        ends = networks[spec.ends.name].values if spec.ends and spec.ends.name in networks else [nan] * len(texts)
        for n in held.get((forms(spec.canonical())[0], seed), ()):
            if budgets[n] == spec.updates or (ends[n] <= spec.updates and ends[n] % spec.check_every == 0):
                return n
        return -1

    found = [place(spec, seed) for spec in result.specs.values.flat for seed in result.seeds]
    shape, dims = (*result.specs.shape, len(result.seeds)), [*result.specs.dims, "seed"]
    return xarray.DataArray(np.reshape(found, shape), {**result.specs.coords, "seed": list(result.seeds)}, dims)


@checked
def stored(folder: str | Path, name: str) -> xarray.Dataset:
    """What there is of a result, over its axes and `seed`, like a summary of a sweep; NaN where a network is not yet.

    A table is returned as its page made it.

    Attributes say how it came about, of all its networks together.

    Raises:
        FileNotFoundError: the folder has no manifest, or not the table.
        ValueError: that has no such result, or nothing of it is finished.
    """
    (result,), path = manifest(folder, only=[name]).values(), Path(folder) / f"{name}.summary"
    if result.make is not None:
        return read_summary(path)
    networks = table([path])
    where = places(result, networks)
    if not (found := sorted(set(where.values.flat) - {-1})):
        raise ValueError(f"name must be of a result of which something is finished, got {name!r}")
    origin = [{key: networks[key].values[n].item() for key in ORIGIN} for n in found]
    there = networks.drop_vars([*ORIGIN, "seed"]).isel(network=where).where(where >= 0)
    words = {name: there[name].fillna("").astype(str) for name in ("run", "spec", "digest")}
    there = there.assign(words).isel(check=np.flatnonzero(there["error"].notnull().any(where.dims)))
    there = there.transpose(*where.dims, "check", ...)
    for key, (text, units) in (SERIES | OUTCOMES | TOTALS | {"update": ("updates", "updates")}).items():
        there[key].attrs = {"long_name": text, "units": units}
    return there.assign_attrs(merged(origin))

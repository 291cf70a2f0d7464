"""What a training leaves behind: series and outcomes by member."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray

from rnnlab.descent.clipping import Event
from rnnlab.engine.contract import Trace
from rnnlab.network.parameters import Parameters
from rnnlab.training.checks import FRESH, MEASURES, STOPS, Named, Series
from rnnlab.training.specs import Spec, run_id
from rnnlab.values import checked


def _said(*those: Named) -> dict[str, tuple[str, str]]:
    return {one.name: (one.long_name, one.units) for one in those}


SERIES = {
    "loss": ("mean training loss since the last check", "loss"),
    "omega": ("mean omega since the last check, unweighted", "1"),
    "norm": ("mean gradient norm before clipping since the last check", "loss per weight"),
    "norm_max": ("largest gradient norm before clipping since the last check", "loss per weight"),
    "clipped": ("share of updates clipped or guarded since the last check", "1"),
} | _said(*MEASURES)
OUTCOMES = _said(*STOPS.values()) | {
    "final_error": ("share of wrong sequences at the last check", "1"),
    "diverged_at": ("first update whose gradient was not finite and not guarded", "updates"),
    "guarded": ("updates in which the guard replaced the gradient", "updates"),
    **{name: (text, "1") for name, text in FRESH.items()},
}
EVENTS = (*(stop.name for stop in STOPS.values()), "diverged_at")  # NaN where they did not happen
TOTALS = {
    "final_rho": ("spectral radius of W_rec at the last check", "1"),
    "largest_norm": ("largest gradient norm before clipping", "loss per weight"),
    "clipped_share": ("share of all updates clipped or guarded", "1"),
}
_OTHER = ["theta", "chosen", "run", "seed", "seeds", "members", "update", "updates", "learning_rate"]
_OTHER += ["events", "chosen_at", "check", "parameter", "network", "spec", *TOTALS]
_PREFIXES = ("state_", "trace_")  # by which a checkpoint tells from series what goes on from update to update


def own(spec: Spec) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    """The series and the outcomes that not every training has, each with a few words and its unit.

    Raises:
        ValueError: one is called like something else.
    """
    outcomes = [] if isinstance(spec.stop, str) else [spec.stop, *spec.stop.afterwards(spec.task)]
    taken = getattr(spec.algorithm, "series", {})
    names = [*SERIES, *OUTCOMES, *_OTHER, *taken, *(one.name for one in (*spec.measures, *outcomes))]
    unfit = (name for name in names if not str(name).isidentifier() or str(name).startswith(_PREFIXES))
    if wrong := [*unfit, *(name for name in names if names.count(name) > 1)]:
        raise ValueError(
            "measures and stop must have names of their own, and so must an algorithm's series, none beginning with "
            f"{' or '.join(_PREFIXES)}, each an identifier, got {wrong[-1]!r}"
        )
    rates = {"learning_rate": ("learning rate after the check", "1")} if spec.rate else {}
    chosen = {"chosen_at": ("update of the check whose networks were chosen", "updates")} if spec.choose else {}
    return _said(*spec.measures) | rates | dict(taken), _said(*outcomes) | chosen


class Record:
    """Series and outcomes of a training, by member and check, filled as it goes.

    Args:
        spec: of the training.
        members: how many.
        begun: updates made before.
    """

    def __init__(self, spec: Spec, members: int, begun: int = 0) -> None:
        series, outcomes = own(spec)
        checks = math.ceil((spec.updates - begun) / spec.check_every)
        self.series = {name: np.full((members, checks), np.nan) for name in (*SERIES, *series)}
        self.outcomes = {name: np.full(members, np.nan) for name in (*OUTCOMES, *outcomes)}
        self.outcomes["guarded"][:] = 0
        self.updates: list[int] = []  # of the checks made
        self.begun = begun

    @property
    def last(self) -> int:
        """Updates made at the last check."""
        return self.updates[-1] if self.updates else self.begun

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it so far, as `restore` takes it."""
        held = {name: series[:, : len(self.updates)] for name, series in self.series.items()}
        return held | self.outcomes | {"updates": np.array(self.updates, dtype=np.int64)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what an earlier record held, of as many members and no more checks."""
        self.updates = arrays["updates"].tolist()
        for name, held in (self.series | self.outcomes).items():
            held[..., : arrays[name].shape[-1]] = arrays[name]

    def of(self, members: list[int]) -> Series:
        """The series so far of these members, by name."""

        def series(name: str) -> np.ndarray:
            if name not in self.series:
                raise ValueError(f"series must be one of {list(self.series)}, got {name!r}")
            return self.series[name][members, : len(self.updates)]

        return series

    def add(self, members: list[int], trace: Trace, measured: Mapping[str, Any]) -> None:
        """One check of these members: what their updates left behind, and a number of each for each measure."""
        first_update, c = self.last, len(self.updates)
        self.updates.append(first_update + trace.loss.shape[0])
        # A member that diverged is averaged up to there; a method may have no norm.
        finite = trace.norm.isfinite() | (trace.norm.isnan() & (trace.events < Event.GUARDED))
        averaged = {name: part for name, part in trace.parts.items() if name != "events"}
        means = {name: torch.where(finite, part, torch.nan) for name, part in averaged.items()}
        values = {name: value.double().nanmean(dim=0) for name, value in means.items()}
        highest = torch.where(finite, trace.norm, -torch.inf).amax(dim=0)
        values["norm_max"] = highest.where(highest.isfinite(), torch.nan)
        values["clipped"] = ((trace.events == Event.CLIPPED) | (trace.events == Event.GUARDED)).double().mean(dim=0)
        for name, value in {**values, **measured}.items():
            self.series[name][members, c] = value.cpu().numpy()
        self.outcomes["final_error"][members] = self.series["error"][members, c]
        self.outcomes["guarded"][members] += (trace.events == Event.GUARDED).sum(dim=0).cpu().numpy()
        diverged = (trace.events == Event.DIVERGED).cpu().numpy()
        at = np.where(diverged.any(axis=0), first_update + diverged.argmax(axis=0), np.nan)
        self.happened("diverged_at", members, at)

    def happened(self, name: str, members: list[int], update: np.ndarray) -> None:
        """When something happened, NaN where it did not; what stands stays."""
        old = self.outcomes[name][members]
        self.outcomes[name][members] = np.where(np.isnan(old), update, old)


def dataset(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> xarray.Dataset:
    """What `train` returns, from what a store holds: arrays with names and units, and by what they came."""
    seeds, begun = arrays["seeds"].tolist(), header["start"] or itertools.repeat("")
    variables: dict[str, tuple] = {
        name: (("seed", "check")[: arrays[name].ndim], arrays[name], {"long_name": text, "units": units})
        for name, (text, units) in (SERIES | OUTCOMES | header["own"]).items()
    }
    theta = arrays.get("chosen", arrays["theta"])
    variables["theta"] = (("seed", "parameter"), theta, {"long_name": "final parameters, flat", "units": "1"})
    runs = [run_id(header["spec"], seed, start) for seed, start in zip(seeds, begun, strict=False)]
    variables["run"] = (("seed",), runs, {"long_name": "id of the run"})
    update = ("check", arrays["updates"], {"long_name": "updates", "units": "updates"})
    attrs = {"spec": header["spec"]} | ({"start": ", ".join(header["start"])} if header["start"] else {})
    return xarray.Dataset(variables, {"seed": seeds, "update": update}, attrs | header["provenance"])


@checked
def networks(runs: xarray.Dataset) -> Parameters:
    """The trained networks of a result, one for each of its seeds, on the CPU.

    Args:
        runs: what `rnnlab.train` returned, or one cell of what `rnnlab.sweeps.run` did, such as
            `runs.sel(init="smart tanh", algorithm="MSGD-CR", length=50)`.

    Raises:
        ValueError: there are several cells, or no parameters, as in a summary.
    """
    if "theta" not in runs:
        raise ValueError(f"runs must hold theta, as what `train` returns does and a summary does not, got {list(runs)}")
    if cells := [str(name) for name in runs["theta"].dims if name not in ("seed", "parameter")]:
        raise ValueError(f"runs must be of one cell: choose one of each of {cells}, as by runs.isel({cells[0]}=0)")
    text = runs.attrs.get("spec") or (runs["spec"].item() if "spec" in runs else "")
    if not text:
        raise ValueError("runs must say their specification in attrs['spec'], which an unnamed one cannot, got none")
    spec = Spec.from_canonical(str(text))
    theta = np.atleast_2d(runs["theta"].values)[:, : spec.sizes.P]  # in a sweep, those of other cells may be more
    return Parameters(torch.from_numpy(theta.copy()), spec.sizes)


def begun(runs: xarray.Dataset) -> int:
    """The update that trainings start from: 0, unless they go on from others' networks."""
    return int(runs.attrs.get("start", "0").partition(":")[0])


def totals(runs: xarray.Dataset) -> xarray.Dataset:
    """The same with what series come to, by member: `final_rho`, `largest_norm` and `clipped_share`.

    Args:
        runs: what `rnnlab.train` or `rnnlab.sweeps.run` returned.
    """
    last = runs["rho"].notnull().cumsum("check").argmax("check")  # checks of others may lie between its own
    when = runs["update"].where(runs["clipped"].notnull())
    passed = np.maximum.accumulate(when.fillna(begun(runs)).values, axis=when.get_axis_num("check"))
    before = when.copy(data=passed).shift(check=1, fill_value=begun(runs))
    clipped = runs["clipped"].weighted((when - before).fillna(0)).mean("check")
    sums = runs["rho"].isel(check=last), runs["norm_max"].max("check"), clipped
    for total, (name, (text, units)) in zip(sums, TOTALS.items(), strict=True):
        runs = runs.assign({name: (total.dims, total.values, {"long_name": text, "units": units})})
    return runs


def merged(provenances: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The provenance of several trainings as one: seconds add up, the last date counts, and all else is listed."""
    one: dict[str, Any] = {}
    for name in dict.fromkeys(itertools.chain.from_iterable(provenances)):
        values = [provenance[name] for provenance in provenances if name in provenance]
        joined = values[0] if len(set(values)) == 1 else ", ".join(map(str, dict.fromkeys(values)))
        one[name] = round(sum(values), 3) if name == "wall_s" else max(values) if name == "date" else joined
    return one

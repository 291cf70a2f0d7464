"""What a training leaves behind: series and outcomes by member, and intervals for success rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray
from torch import Tensor

from rnnlab.descent.clipping import Event
from rnnlab.engine.contract import Trace
from rnnlab.training.specs import run_id


@dataclass(frozen=True)
class Progress:
    """Where a training stands: updates made, of how many; members in all, still training, below 1 % so far."""

    update: int
    updates: int
    members: int
    training: int
    solved: int

    @property
    def over(self) -> bool:
        """Whether this is the end."""
        return self.training == 0 or self.update >= self.updates

    @property
    def status(self) -> str:
        """In a few words, for a progress bar."""
        return f"{self.update:,} updates, {self.training} of {self.members} still train"


SERIES = {
    "loss": ("mean training loss since the last check", "loss"),
    "omega": ("mean omega since the last check, unweighted", "1"),
    "norm": ("mean gradient norm before clipping since the last check", "loss per weight"),
    "norm_max": ("largest gradient norm before clipping since the last check", "loss per weight"),
    "clipped": ("share of updates clipped or guarded since the last check", "1"),
    "rho": ("spectral radius of W_rec", "1"),
    "error": ("share of wrong sequences", "1"),
}
OUTCOMES = {
    "first_below_1_percent": ("update of the first check below 1 %", "updates"),
    "first_no_error": ("update of the first check with no error", "updates"),
    "final_error": ("share of wrong sequences at the last check", "1"),
    "diverged_at": ("first update whose gradient was not finite and not guarded", "updates"),
    "guarded": ("updates in which the guard replaced the gradient", "updates"),
    "fresh_error": ("share of wrong sequences in a fresh test after the end", "1"),
    "fresh_error_shortest": ("the same at the shortest length of the task", "1"),
    "fresh_error_longest": ("the same at the longest length of the task", "1"),
}
EVENTS = ("first_below_1_percent", "first_no_error", "diverged_at")  # NaN where they did not happen
FRESH = ("fresh_error", "fresh_error_shortest", "fresh_error_longest")  # what older files lack
TOTALS = {
    "final_rho": ("spectral radius of W_rec at the last check", "1"),
    "largest_norm": ("largest gradient norm before clipping", "loss per weight"),
    "clipped_share": ("share of all updates clipped or guarded", "1"),
}


class Record:
    """Series and outcomes of a training, by member and check, filled as it goes."""

    def __init__(self, members: int, checks: int) -> None:
        self.series = {name: np.full((members, checks), np.nan) for name in SERIES}
        self.outcomes = {name: np.full(members, np.nan) for name in OUTCOMES}
        self.outcomes["guarded"][:] = 0
        self.updates: list[int] = []

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it so far, as `restore` takes it."""
        held = {name: series[:, : len(self.updates)] for name, series in self.series.items()}
        return held | self.outcomes | {"updates": np.array(self.updates, dtype=np.int64)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what an earlier record held, of as many members and no more checks."""
        self.updates = arrays["updates"].tolist()
        for name, series in self.series.items():
            series[:, : len(self.updates)] = arrays[name]
        for name, outcome in self.outcomes.items():
            outcome[:] = arrays.get(name, np.nan) if name in FRESH else arrays[name]

    def add(self, members: list[int], first_update: int, trace: Trace, rho: Tensor, error: Tensor) -> None:
        """One check of these members."""
        c = len(self.updates)
        self.updates.append(first_update + trace.loss.shape[0])
        # A member that diverged is averaged up to there.
        finite = trace.norm.isfinite()
        means = {name: torch.where(finite, getattr(trace, name), torch.nan) for name in ("loss", "omega", "norm")}
        touched = (trace.events == Event.CLIPPED) | (trace.events == Event.GUARDED)
        values = {name: value.double().nanmean(dim=0) for name, value in means.items()}
        highest = torch.where(finite, trace.norm, -torch.inf).amax(dim=0)
        values["norm_max"] = highest.where(highest.isfinite(), torch.nan)
        values["clipped"] = touched.double().mean(dim=0)
        values |= {"rho": rho, "error": error}
        for name, value in values.items():
            self.series[name][members, c] = value.cpu().numpy()
        self.outcomes["guarded"][members] += (trace.events == Event.GUARDED).sum(dim=0).cpu().numpy()
        diverged = (trace.events == Event.DIVERGED).cpu().numpy()
        at = np.where(diverged.any(axis=0), first_update + diverged.argmax(axis=0), np.nan)
        self._first("diverged_at", members, at)
        self.outcomes["final_error"][members] = error.numpy()
        for name, solved in (("first_below_1_percent", error < 0.01), ("first_no_error", error == 0)):
            self._first(name, members, np.where(solved.numpy(), self.updates[-1], np.nan))

    def _first(self, name: str, members: list[int], value: np.ndarray) -> None:
        """Keep what stands; fill in what does not."""
        old = self.outcomes[name][members]
        self.outcomes[name][members] = np.where(np.isnan(old), value, old)

    def dataset(
        self, spec: str, seeds: list[int], theta: np.ndarray, *, provenance: Mapping[str, Any]
    ) -> xarray.Dataset:
        """All of it, with names and units; in the attributes the canonical specification, and by what it came."""
        checks = len(self.updates)
        variables: dict[str, tuple] = {
            name: (("seed", "check"), self.series[name][:, :checks], {"long_name": text, "units": units})
            for name, (text, units) in SERIES.items()
        }
        variables |= {
            name: (("seed",), self.outcomes[name], {"long_name": text, "units": units})
            for name, (text, units) in OUTCOMES.items()
        }
        variables["theta"] = (("seed", "parameter"), theta, {"long_name": "final parameters, flat", "units": "1"})
        variables["run"] = (("seed",), [run_id(spec, seed) for seed in seeds], {"long_name": "id of the run"})
        return xarray.Dataset(
            variables,
            coords={"seed": seeds, "update": ("check", self.updates, {"long_name": "updates", "units": "updates"})},
            attrs={"spec": spec} | dict(provenance),
        )


def totals(runs: xarray.Dataset) -> xarray.Dataset:
    """The same with what series come to, by member: `final_rho`, `largest_norm` and `clipped_share`.

    Args:
        runs: what `rnnlab.train` or `rnnlab.sweeps.run` returned.
    """
    last = (runs["rho"].notnull().sum("check") - 1).clip(0)
    updates = runs["update"].copy(data=np.diff(runs["update"], prepend=0))  # since the check before
    clipped = runs["clipped"].weighted(updates).mean("check")
    sums = runs["rho"].isel(check=last), runs["norm_max"].max("check"), clipped
    return runs.assign(
        {
            name: (total.dims, total.values, {"long_name": text, "units": units})
            for total, (name, (text, units)) in zip(sums, TOTALS.items(), strict=True)
        }
    )


def merged(provenances: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The provenance of several trainings as one: seconds add up, the last date counts, and all else is listed."""
    one: dict[str, Any] = {}
    for name in dict.fromkeys(name for provenance in provenances for name in provenance):
        values = [provenance[name] for provenance in provenances if name in provenance]
        different = list(dict.fromkeys(values))
        one[name] = different[0] if len(different) == 1 else ", ".join(map(str, different))
        if name in ("wall_s", "date"):
            one[name] = round(sum(values), 3) if name == "wall_s" else max(values)
    return one

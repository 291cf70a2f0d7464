"""Training: a specification and seeds in, one record and one outcome per member out."""

import copy
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import xarray

from rnnlab import __version__
from rnnlab.engine.contract import Trace
from rnnlab.training.checks import FRESH, MEASURES, STOPS, Measure, fresh, measured
from rnnlab.training.ensembles import PARCEL, Device, Ensemble, Memory, join
from rnnlab.training.progress import Progress, Watch, watching
from rnnlab.training.records import Record, dataset, own
from rnnlab.training.specs import Spec, Start, named
from rnnlab.training.store import CHECKPOINT, RUN, File, Kept, Store
from rnnlab.values import Seconds, Seeds, as_seeds, checked


class OtherEngineError(RuntimeError):
    """What is stored was begun by another engine; going on by this one would give numbers that neither gives."""


class _Run:
    """A training between two updates: all that its future depends on, and all that it has left behind so far."""

    def __init__(self, ensemble: Ensemble, start: Start | None) -> None:
        self.ensemble = ensemble  # of the members that still train
        self.seeds, self.spec, self.start = ensemble.seeds, ensemble.spec, start
        self.members = list(range(len(self.seeds)))
        self.record = Record(self.spec, len(self.seeds), ensemble.update)
        self.theta = ensemble.parameters.theta.cpu().numpy().copy()
        self.chosen = self.theta.copy()  # the networks of the checks that `spec.choose` has chosen
        self.traces: list[Trace] = []  # since the last check
        self.began = time.monotonic()

    @property
    def going(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self.members) and self.record.last < self.spec.updates

    def step(self) -> bool:
        """Make some updates, and the check if it is due; say whether it was."""
        goal = min(self.record.last + self.spec.check_every, self.spec.updates)
        self.traces.append(self.ensemble.advance(min(PARCEL, goal - self.ensemble.update)))
        if due := self.ensemble.update == goal:
            self._check()
        return due

    def _check(self) -> None:
        """Test the members that still train, and let those end that are to."""
        self._keep_theta()
        spec, record, members = self.spec, self.record, self.members
        trace, self.traces = join(self.traces, dim=0), []
        record.add(members, trace, measured((*MEASURES, *spec.measures), self.ensemble))
        for stop in dict.fromkeys(stop for stop in (*STOPS.values(), spec.ends) if stop is not None):
            applies = np.asarray(stop(self.ensemble, record.of(members)))
            if applies.dtype != bool or applies.shape != (len(members),):
                raise ValueError(f"stop must give {len(members)} truth values, got {applies!r:.100} from {stop}")
            record.happened(stop.name, members, np.where(applies, record.last, np.nan))
        self._choose()
        ended = diverged = ~np.isnan(record.outcomes["diverged_at"][members])
        if spec.ends is not None:
            ended = diverged | ~np.isnan(record.outcomes[spec.ends.name][members])
            self._measure(ended & ~diverged, spec.ends.afterwards(spec.task))
        over = ended | (record.last == spec.updates)
        self._measure(over & ~diverged, fresh(spec.task, spec.confirm_sequences))
        self._rate()
        if ended.any():
            self.ensemble = self.ensemble.select(np.flatnonzero(~ended).tolist())
            self.members = np.array(members)[~ended].tolist()

    def _choose(self) -> None:
        """Keep the networks of this check, where they are the best so far."""
        if self.spec.choose is None:
            return
        members, update = np.array(self.members), self.record.last
        better = np.asarray(self.spec.choose(self.record.of(self.members)))
        if better.dtype != bool or better.shape != members.shape:
            said = f"choose must give {len(members)} truth values"
            raise ValueError(f"{said}, got {better!r:.100} from {self.spec.choose}")
        sound, first = (np.isnan(self.record.outcomes[name][members]) for name in ("diverged_at", "chosen_at"))
        chosen = members[better & sound | first]  # what a check takes down may be from before a member diverged
        self.chosen[chosen], self.record.outcomes["chosen_at"][chosen] = self.theta[chosen], update

    def _keep_theta(self) -> None:
        self.theta[self.members] = self.ensemble.parameters.theta.cpu().numpy()

    def _measure(self, which: np.ndarray, measures: Sequence[Measure]) -> None:
        """Measure outcomes of these of the members that still train."""
        if which.any():
            ending = self.ensemble.select(np.flatnonzero(which).tolist())
            if self.spec.choose is not None:
                ending.parameters.theta.copy_(torch.from_numpy(self.chosen[np.array(self.members)[which]]))
            for name, values in measured(measures, ending).items():
                self.record.outcomes[name][np.array(self.members)[which]] = values.cpu().numpy()

    def _rate(self) -> None:
        """Ask for the learning rates until the next check."""
        if self.spec.rate is None:
            return
        record, M = self.record, len(self.members)
        rates = np.asarray(self.spec.rate(np.array(self.ensemble.rates), record.of(self.members)))
        if rates.shape != (M,) or not np.issubdtype(rates.dtype, np.floating) or not (rates > 0).all():
            raise ValueError(f"rate must give {M} positive learning rates, got {rates!r:.100} from {self.spec.rate}")
        record.series["learning_rate"][self.members, len(record.updates) - 1] = rates
        self.ensemble.rates = rates.tolist()

    def mark(self) -> "_Run":
        """What it is now, to be kept wherever within the next step it is interrupted."""
        twin, twin.record = copy.copy(self), copy.copy(self.record)
        twin.record.updates = list(self.record.updates)
        twin.chosen = self.chosen.copy()
        twin.record.outcomes = {name: outcome.copy() for name, outcome in self.record.outcomes.items()}
        # Threads of the engine may still be writing into what it was given.
        twin.ensemble, twin.traces = self.ensemble.select(list(range(len(self.members)))), list(self.traces)
        return twin

    def progress(self) -> Progress:
        """Where it stands."""
        total, solved = self.spec.updates - self.record.begun, self.record.outcomes["first_below_1_percent"]
        training = len(self.members) if self.going else 0
        note = f"{training} of {len(self.seeds)} still train, {np.isfinite(solved).sum()} solved"
        return Progress(self.record.last - self.record.begun if self.going else total, total, note)

    def file(self) -> File:
        """All of it, for a store."""
        self._keep_theta()
        arrays = self.record.arrays() | {"theta": self.theta}
        arrays |= {"chosen": self.chosen} if self.spec.choose else {}
        arrays |= {f"state_{name}": x.cpu().numpy() for name, x in self.ensemble.state.items()}
        arrays |= {"seeds": np.array(self.seeds), "members": np.array(self.members, dtype=np.int64)}
        if self.traces:
            arrays |= {f"trace_{name}": part.cpu().numpy() for name, part in join(self.traces, dim=0).parts.items()}
        series, outcomes = own(self.spec)
        header: dict[str, Any] = {"spec": named(self.spec), "update": self.ensemble.update, "own": series | outcomes}
        header |= {"start": self.start.names if self.start else [], "provenance": self._provenance()}
        kind = CHECKPOINT if self.going else RUN
        return File(_name(self.spec, self.seeds, self.start, kind) if header["spec"] else "", header, arrays)

    def restore(self, file: File) -> None:
        """Go on from what a store has of it."""
        arrays, where = file.arrays, self.ensemble.parameters.theta.device
        self.record.restore(arrays)
        self.theta[:], self.members = arrays["theta"], arrays["members"].tolist()
        for name in FRESH:
            self.record.outcomes[name][self.members] = np.nan  # a shorter budget's end is none
        self.ensemble = self.ensemble.select(self.members)
        self.ensemble.parameters.theta.copy_(torch.from_numpy(self.theta[self.members]))
        self.ensemble.state = {name: torch.from_numpy(x).to(where) for name, x in _under("state_", arrays)}
        self.chosen = arrays.get("chosen", self.chosen).copy()
        self.ensemble.update = file.header["update"]
        if self.spec.rate is not None and self.record.updates:
            self.ensemble.rates = arrays["learning_rate"][self.members, -1].tolist()
        if "trace_loss" in arrays:
            self.traces = [Trace.of({name: torch.from_numpy(x).to(where) for name, x in _under("trace_", arrays)})]
        self.began -= file.header["provenance"]["wall_s"]

    def resume(self, store: Store, *, restart: bool) -> None:
        """Go on from the furthest that the store has of this ensemble by this engine, be it a shorter budget's end.

        Raises:
            OtherEngineError: all that it has was made by others, and `restart` is not set.
        """
        spec, begun, here = self.spec, self.record.begun, _maker(self._provenance())
        family = store.family(spec.family(self.seeds, self.start))
        files = [file for file in family if file.header["update"] <= spec.updates]
        # A budget that is no multiple of check_every ends with a check that a longer one does not make.
        files = [file for file in files if not ((file.arrays["updates"] - begun) % spec.check_every).any()]
        if ours := [file for file in files if _maker(file.header["provenance"]) == here]:
            self.restore(ours[0])
        elif files and not restart:
            path, header = store.folder / files[0].name, files[0].header
            there = f"{path} holds {header['update']} updates by {_maker(header['provenance'])}"
            remedy = "go on where it was begun, or start again with restart=True"
            raise OtherEngineError(f"{there}, but here is {here}; {remedy}")

    def _provenance(self) -> dict[str, Any]:
        """By what it is computed, today, in how many seconds."""
        device = self.ensemble.parameters.theta.device
        gpu = device.type == "cuda"
        processor = torch.cuda.get_device_name(device) if gpu else torch.backends.cpu.get_cpu_capability()
        return {
            "engine": self.ensemble.engine.describe(self.spec.units),
            "device": f"{device.type} {processor}",
            "torch": str(torch.__version__),  # whose type is a subclass, which netCDF refuses
            "python": platform.python_version(),
            "numpy": np.__version__,
            "rnnlab": __version__,
            "threads": torch.get_num_threads(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": round(time.monotonic() - self.began, 3),
        }


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The arrays whose names begin like this, by the rest of their names."""
    return [(name.removeprefix(prefix), x) for name, x in arrays.items() if name.startswith(prefix)]


def _maker(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What the last digit may depend on."""
    return {key: provenance[key] for key in ("engine", "device", "torch")}


def _name(spec: Spec, seeds: Sequence[int], start: Start | None, kind: str) -> str:
    return f"{spec.family(seeds, start)}-{spec.updates:012}.{kind}"


@checked
def finished(spec: Spec, seeds: Seeds, store: Store, *, start: Start | None = None) -> xarray.Dataset | None:
    """What `train` has stored for these seeds as one ensemble, or None; whichever engine computed it.

    Raises:
        ValueError: seeds make no sense.
    """
    file = store.read(_name(spec, as_seeds(seeds), start, RUN))
    return None if file is None else dataset(file.header, file.arrays)


@checked
def train(
    spec: Spec,
    *,
    seeds: Seeds = 5,
    start: Start | None = None,
    device: Device = "auto",
    memory: Memory = 2**30,
    progress: Watch = None,
    store: Kept = None,
    checkpoint_every: Seconds = 60.0,
    restart: bool = False,
) -> xarray.Dataset:
    """Train one network per seed, all at once, and return their curves and outcomes.

    With a store a finished training is read from it, and one that was interrupted goes on where its last checkpoint
    was, as does one of a larger budget from the end of a smaller one: with the same bits as if it had never stopped.

    Args:
        spec: what they train on and how.
        seeds: a count, from 0, or a sequence of seeds.
        start: what they were trained to before, in the order of the seeds; `spec.updates` counts those updates, too.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        memory: bytes that batches may take at a time.
        progress: called after every check with the updates made, and at the end with the budget. None is a bar in a
            terminal or a notebook once it takes a second, False none.
        store: where the result is kept, and checkpoints until then, or the path of its folder; None keeps nothing.
        checkpoint_every: seconds between checkpoints; one may wait until `PARCEL` updates of all members are made.
        restart: start again where what is stored was begun by another engine, instead of refusing.

    Returns:
        Series by `seed` and `check` (`loss`, `omega`, `norm`, `norm_max`, `clipped`, `rho`, `error`; the coordinate
        `update` says when), outcomes by `seed` (`first_below_1_percent`, `first_no_error`, `final_error`,
        `diverged_at`, `guarded`; NaN where it did not happen) and the final parameters `theta`. A test that ended a
        training was lucky more often than not, so that each member that did not diverge is tested once more when it
        ends, on `confirm_sequences` of a reserved stream: `fresh_error`, and at the ends of a range of lengths
        `fresh_error_shortest` and `fresh_error_longest`. Series of a member that has stopped are NaN. So are called
        what `spec.measures`, a method and an object for `spec.stop` add; `learning_rate` is there if `spec.rate` is.
        With `spec.choose`, theta and the tests after the end are those of the check that was chosen, at `chosen_at`.
        Attributes say how it came about.

    Raises:
        ValueError: seeds, start, device or interval make no sense, or a part of the specification breaks its contract.
        OtherEngineError: what is stored was begun by another engine, kernel, instruction set or version of PyTorch.
        OSError: the store cannot be written to at the start; later that is a warning, and the result is returned.
    """
    if start is not None and start.update >= spec.updates:
        raise ValueError(f"start must have fewer than the budget of {spec.updates} updates, got {start.update}")
    kept = None if store is None else finished(spec, seeds, store, start=start)
    if kept is not None:
        return kept
    run = _Run(Ensemble(spec, seeds, start=start, device=device, memory=memory), start)
    if store is not None:
        store.prepare()
        run.resume(store, restart=restart)
    saved, mark, told = time.monotonic(), run, watching(progress, "updates")
    try:
        while run.going and kept is None:
            mark = run.mark()
            due = run.step()
            if store is not None and run.going and time.monotonic() - saved >= checkpoint_every:
                _keep(store, run.file())
                saved = time.monotonic()
                kept = finished(spec, seeds, store, start=start)  # by another worker, in the meantime
            if due and told is not None:
                told(run.progress())
        if store is not None and (kept is not None or _keep(store, run.file())):
            store.remove(_name(spec, run.seeds, start, CHECKPOINT))
    except KeyboardInterrupt:
        if store is not None:
            _keep(store, mark.file())
        raise
    ended = run.file()
    return dataset(ended.header, ended.arrays) if kept is None else kept


def _keep(store: Store, file: File) -> bool:
    """Write to the store; where that fails, warn of it, since what is computed is worth more than what is kept."""
    try:
        store.write(file)
    except OSError as error:
        warnings.warn(f"{store.folder / file.name} could not be written, and training goes on: {error}", stacklevel=3)
        return False
    return True

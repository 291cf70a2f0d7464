"""Training: a specification and seeds in, one record and one outcome per member out."""

import math
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import xarray
from torch import Tensor

from rnnlab import __version__, bits
from rnnlab.engine.contract import Trace
from rnnlab.network.parameters import Parameters, spectral_radius
from rnnlab.tasks.task import length_range
from rnnlab.training.ensembles import PARCEL, Ensemble, join
from rnnlab.training.records import FRESH, Progress, Record
from rnnlab.training.specs import Spec, named
from rnnlab.training.store import CHECKPOINT, RUN, File, Store
from rnnlab.values import as_seeds, checked, positive


class OtherEngineError(RuntimeError):
    """What is stored was begun by another engine; going on by this one would give numbers that neither gives."""


class _Run:
    """A training between two updates: all that its future depends on, and all that it has left behind so far."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble  # of the members that still train
        self.seeds, self.spec = ensemble.seeds, ensemble.spec
        self.members = list(range(len(self.seeds)))
        self.record = Record(len(self.seeds), math.ceil(self.spec.updates / self.spec.check_every))
        self.theta = ensemble.parameters.theta.cpu().numpy().copy()
        self.traces: list[Trace] = []  # since the last check
        self.began, self.before = time.monotonic(), 0.0

    @property
    def checked(self) -> int:
        """Updates made at the last check."""
        return self.record.updates[-1] if self.record.updates else 0

    @property
    def going(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self.members) and self.checked < self.spec.updates

    def step(self) -> bool:
        """Make some updates, and the check if it is due; say whether it was."""
        goal = min(self.checked + self.spec.check_every, self.spec.updates)
        self.traces.append(self.ensemble.advance(min(PARCEL, goal - self.ensemble.update)))
        if self.ensemble.update == goal:
            self._check()
        return not self.traces

    def _look(self) -> None:
        """Take down the parameters of the members that still train."""
        self.theta[self.members] = self.ensemble.parameters.theta.cpu().numpy()

    def _check(self) -> None:
        """Test the members that still train, and let those end that are to."""
        self._look()
        spec, record = self.spec, self.record
        trace, self.traces = join(self.traces, dim=0), []
        rho = spectral_radius(self.ensemble.parameters.W_rec)
        record.add(self.members, self.checked, trace, rho, _errors(self.ensemble))
        ended = diverged = ~np.isnan(record.outcomes["diverged_at"])
        if spec.stop != "never":
            reached = "first_below_1_percent" if spec.stop == "below 1 %" else "first_no_error"
            ended = diverged | ~np.isnan(record.outcomes[reached])
        over = [i for i, m in enumerate(self.members) if not diverged[m] and (ended[m] or self.checked == spec.updates)]
        if over:
            for name, fresh in zip(FRESH, _fresh(self.ensemble.select(over)), strict=True):
                record.outcomes[name][[self.members[i] for i in over]] = fresh.numpy()
        going = [m for m in self.members if not ended[m]]
        if len(going) < len(self.members):
            self.ensemble = self.ensemble.select([i for i, m in enumerate(self.members) if not ended[m]])
            self.members = going

    def mark(self) -> Callable[[], None]:
        """How to come back to where it is now, from anywhere within the next step."""
        ensemble, members, traces = self.ensemble, self.members, list(self.traces)
        theta, update, checks = ensemble.parameters.theta.clone(), ensemble.update, len(self.record.updates)
        outcomes = {name: outcome.copy() for name, outcome in self.record.outcomes.items()}

        def back() -> None:
            self.ensemble, self.members, self.traces, self.record.outcomes = ensemble, members, traces, outcomes
            # Not copied into the old memory: threads of the engine may still be writing there.
            ensemble.parameters, ensemble.update = Parameters(theta, self.spec.sizes), update
            del self.record.updates[checks:]

        return back

    def progress(self) -> Progress:
        """Where it stands."""
        solved = int(np.isfinite(self.record.outcomes["first_below_1_percent"]).sum())
        return Progress(self.checked, self.spec.updates, len(self.seeds), len(self.members), solved)

    def provenance(self) -> dict[str, Any]:
        """By what it is computed, when and how long."""
        return provenance(self.ensemble, wall_s=self.before + time.monotonic() - self.began)

    def file(self) -> File:
        """All of it, for a store."""
        self._look()
        arrays = self.record.arrays() | {"theta": self.theta}
        arrays |= {"seeds": np.array(self.seeds), "members": np.array(self.members, dtype=np.int64)}
        if self.traces:
            trace = join(self.traces, dim=0)
            arrays |= {f"trace_{f.name}": getattr(trace, f.name).cpu().numpy() for f in fields(Trace)}
        kind = CHECKPOINT if self.going else RUN
        header = {"spec": self.spec.canonical(), "update": self.ensemble.update, "provenance": self.provenance()}
        return File(_name(self.spec, self.seeds, kind), header, arrays)

    def restore(self, file: File) -> None:
        """Go on from what a store has of it."""
        arrays, where = file.arrays, self.ensemble.parameters.theta.device
        self.record.restore(arrays)
        self.theta[:], self.members = arrays["theta"], arrays["members"].tolist()
        for name in FRESH:
            self.record.outcomes[name][self.members] = np.nan  # a shorter budget's end is none
        self.ensemble = self.ensemble.select(self.members)
        self.ensemble.parameters.theta.copy_(torch.from_numpy(self.theta[self.members]))
        self.ensemble.update = file.header["update"]
        if "trace_loss" in arrays:
            parts = {f.name: torch.from_numpy(arrays[f"trace_{f.name}"]).to(where) for f in fields(Trace)}
            self.traces = [Trace(**parts)]
        self.before = file.header["provenance"]["wall_s"]


def maker(ensemble: Ensemble) -> dict[str, str]:
    """What computes it, as far as the last digit may depend on that: engine and kernel, device, library."""
    device = ensemble.parameters.theta.device
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "engine": ensemble.engine.describe(ensemble.spec.units),
        "device": f"{device.type} {processor}",
        "torch": str(torch.__version__),  # whose type is a subclass, which netCDF refuses
    }


def provenance(ensemble: Ensemble, *, wall_s: float) -> dict[str, Any]:
    """By what it is computed, today, in so many seconds."""
    return maker(ensemble) | {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "rnnlab": __version__,
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_s": round(wall_s, 3),
    }


def _name(spec: Spec, seeds: Sequence[int], kind: str) -> str:
    return f"{spec.family(seeds)}-{spec.updates:012}.{kind}"


@checked("seeds")
def finished(spec: Spec, seeds: int | Sequence[int], store: Store) -> xarray.Dataset | None:
    """What `train` has stored for these seeds as one ensemble, or None; whichever engine computed it.

    Raises:
        ValueError: seeds make no sense.
    """
    file = store.read(_name(spec, as_seeds(seeds), RUN))
    return None if file is None else result_of(file)


def result_of(file: File) -> xarray.Dataset:
    """What `train` returned when it wrote this file of a store."""
    arrays, header = file.arrays, file.header
    record = Record(len(arrays["seeds"]), len(arrays["updates"]))
    record.restore(arrays)
    return record.dataset(header["spec"], arrays["seeds"].tolist(), arrays["theta"], provenance=header["provenance"])


def _resume(run: _Run, store: Store, *, restart: bool) -> None:
    """Go on from the furthest that the store has of this ensemble, be it a shorter budget's end."""
    spec = run.spec
    begun = [
        file
        for file in store.family(spec.family(run.seeds))
        # A budget that is no multiple of check_every ends with a check that a longer one does not make.
        if file.header["update"] <= spec.updates and not (file.arrays["updates"] % spec.check_every).any()
    ]
    if file := begun_here(begun, run.ensemble, store, restart=restart):
        run.restore(file)


def begun_here(begun: Sequence[File], ensemble: Ensemble, store: Store, *, restart: bool) -> File | None:
    """The first of these files that the engine at hand made; None to start.

    Raises:
        OtherEngineError: all of them were made by others, and `restart` is not set.
    """
    ours = maker(ensemble)
    for file in begun:
        if all(file.header["provenance"][key] == value for key, value in ours.items()):
            return file
    if begun and not restart:
        theirs = {key: begun[0].header["provenance"][key] for key in ours}
        raise OtherEngineError(
            f"{store.folder / begun[0].name} holds {begun[0].header['update']} updates by {theirs}, but here "
            f"is {ours}; go on where it was begun, or start again with restart=True"
        )
    return None


@checked("seeds", "device", "memory", "checkpoint_every")
def train(
    spec: Spec,
    *,
    seeds: int | Sequence[int] = 5,
    device: str = "auto",
    memory: int = 2**30,
    progress: Callable[[Progress], None] | None = None,
    store: Store | None = None,
    checkpoint_every: float = 60.0,
    restart: bool = False,
) -> xarray.Dataset:
    """Train one network per seed, all at once, and return their curves and outcomes.

    With a store a finished training is read from it, and one that was interrupted goes on where its last checkpoint
    was, as does one of a larger budget from the end of a smaller one: with the same bits as if it had never stopped.

    Args:
        spec: what they train on and how.
        seeds: a count, from 0, or a sequence of seeds.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        memory: bytes that batches may take at a time.
        progress: called after every check.
        store: where the result is kept, and checkpoints until then; None keeps nothing.
        checkpoint_every: seconds between checkpoints; one may wait until `PARCEL` updates of all members are made.
        restart: start again where what is stored was begun by another engine, instead of refusing.

    Returns:
        Series by `seed` and `check` (`loss`, `omega`, `norm`, `norm_max`, `clipped`, `rho`, `error`; the coordinate
        `update` says when), outcomes by `seed` (`first_below_1_percent`, `first_no_error`, `final_error`,
        `diverged_at`, `guarded`; NaN where it did not happen) and the final parameters `theta`. A test that ended a
        training was lucky more often than not, so that each member that did not diverge is tested once more when it
        ends, on `confirm_sequences` of a reserved stream: `fresh_error`, and at the ends of a range of lengths
        `fresh_error_shortest` and `fresh_error_longest`; NaN in what was stored before these were measured. Series of
        a member that has stopped are NaN. Attributes say how it came about.

    Raises:
        ValueError: seeds, device or interval make no sense.
        OtherEngineError: what is stored was begun by another engine, kernel, instruction set or version of PyTorch.
        OSError: the store cannot be written to at the start; later that is a warning, and the result is returned.
    """
    checkpoint_every = positive("checkpoint_every", checkpoint_every, zero=True, infinite=True)
    if store is not None and (kept := finished(spec, seeds, store)) is not None:
        return kept
    run = _Run(Ensemble(spec, seeds, device=device, memory=memory))
    if store is not None:
        store.prepare()
        _resume(run, store, restart=restart)
    saved, back = time.monotonic(), run.mark()
    try:
        while run.going:
            if store is not None:
                back = run.mark()
            checked = run.step()
            if store is not None and run.going and time.monotonic() - saved >= checkpoint_every:
                keep(store, run.file())
                saved = time.monotonic()
                if (kept := finished(spec, seeds, store)) is not None:  # by another worker, in the meantime
                    store.remove(_name(spec, run.seeds, CHECKPOINT))
                    return kept
            if checked and progress is not None:
                progress(run.progress())
        if store is not None and keep(store, run.file()):
            store.remove(_name(spec, run.seeds, CHECKPOINT))
    except KeyboardInterrupt:
        if store is not None:
            back()
            keep(store, run.file())
        raise
    return run.record.dataset(named(spec), run.seeds, run.theta, provenance=run.provenance())


def keep(store: Store, file: File) -> bool:
    """Write to the store; where that fails, warn of it, since what is computed is worth more than what is kept."""
    try:
        store.write(file)
    except OSError as error:
        warnings.warn(f"{store.folder / file.name} could not be written, and training goes on: {error}", stacklevel=3)
        return False
    return True


def _errors(ensemble: Ensemble) -> Tensor:
    """Error of each member on the ordinary test, or on the larger one where that is below 1 %."""
    error = ensemble.errors(ensemble.spec.check_sequences)
    promising = [m for m, e in enumerate(error.tolist()) if e < 0.01]
    if promising:
        error[promising] = ensemble.select(promising).errors(ensemble.spec.confirm_sequences, stream=bits.TEST)
    return error


def _fresh(ensemble: Ensemble) -> tuple[Tensor, Tensor, Tensor]:
    """Error of each member on the reserved stream: on its own task, and at the shortest and longest of its lengths."""
    sequences, task = ensemble.spec.confirm_sequences, ensemble.spec.task
    low, end = length_range(task.length)
    error = ensemble.errors(sequences, stream=bits.FRESH)
    if end - low == 1:
        return error, error, error
    ends = [replace(task, length=length) for length in (low, end - 1)]  # type: ignore[type-var]
    shortest, longest = (ensemble.errors(sequences, stream=bits.FRESH, task=task) for task in ends)
    return error, shortest, longest

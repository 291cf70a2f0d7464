"""Training that goes on after a network has solved its task, until it answers longer sequences as well."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from rnnlab import bits
from rnnlab.tasks.task import Task
from rnnlab.training.ensembles import Ensemble
from rnnlab.training.loop import begun_here, keep, provenance
from rnnlab.training.specs import Spec, tested
from rnnlab.training.store import FURTHER, File, Store
from rnnlab.values import checked, positive, whole


@dataclass(frozen=True, eq=False)
class Further:
    """Where a network that trained on has come to.

    Args:
        update: updates made, those before included.
        held: whether its last test had no error at any length.
        over: whether it is to train no further.
        theta: its parameters `P`; NaN unless it holds.
        fresh: share of wrong sequences (1) in a fresh test after the one that it was ended by, on its own task and at
            each length; NaN unless it holds, or where a store's file is older than this test.
    """

    update: int
    held: bool
    over: bool
    theta: np.ndarray
    fresh: np.ndarray

    @property
    def status(self) -> str:
        """In a few words, for a progress bar."""
        return f"{self.update:,} updates, {'holds' if self.held else 'does not hold yet'}"


@checked("seed", "update", "more", "sequences", "checkpoint_every")
def train_on(
    spec: Spec,
    theta: Float[np.ndarray, "P"],
    *,
    seed: int,
    update: int,
    lengths: Sequence[int],
    more: int,
    sequences: int = 1_000,
    device: str = "auto",
    progress: Callable[[Further], None] | None = None,
    store: Store | None = None,
    checkpoint_every: float = 60.0,
    restart: bool = False,
) -> Further:
    """Train a network on, by the same specification, until it makes no error at lengths that it need not be trained on.

    Every `spec.check_every` updates it answers fresh sequences of its own task and of each length. With a store, what
    was interrupted goes on where its last checkpoint was, also with a larger `more`.

    Args:
        spec: what it was trained on and how; `updates` and `stop` say nothing here.
        theta: its parameters so far.
        seed: its seed.
        update: updates made so far.
        lengths: of the sequences to answer without error, in steps.
        more: updates to make, at most, rounded up to a multiple of `spec.check_every`.
        sequences: of each length in a test; at most 1,000, or a multiple of 1,000.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        progress: called after every test.
        store: where checkpoints and the result are kept; None keeps nothing.
        checkpoint_every: seconds between checkpoints.
        restart: start again where what is stored was begun by another engine, instead of refusing.

    Raises:
        ValueError: a number or a length makes no sense, or `theta` has another size than the specification's networks.
        OtherEngineError: what is stored was begun by another engine.
        OSError: the store cannot be written to at the start.

    Source:
        Pascanu et al. 2013, section 4.1.1, for networks that answer longer sequences than they are trained on.
    """
    update = whole("update", update, at_least=0)
    more = whole("more", more, at_least=0)
    checkpoint_every = positive("checkpoint_every", checkpoint_every, zero=True, infinite=True)
    sequences = tested("sequences", sequences)
    ensemble = Ensemble(spec, [seed], device=device)
    if theta.shape != ensemble.parameters.theta.shape[1:]:
        raise ValueError(f"theta must hold {ensemble.parameters.theta.shape[1]} parameters, got shape {theta.shape}")
    ensemble.parameters.theta.copy_(torch.from_numpy(theta))
    ensemble.update = update
    name = _name(ensemble, lengths, sequences)
    tasks = [replace(spec.task, length=length) for length in lengths]  # type: ignore[type-var]
    limit = update + math.ceil(more / spec.check_every) * spec.check_every
    began, held, fresh = time.monotonic(), False, np.full(1 + len(tasks), np.nan)
    if store is not None:
        store.prepare()
        if file := _begun(store, name, ensemble, limit, restart=restart):
            ensemble.parameters.theta.copy_(torch.from_numpy(file.arrays["theta"]))
            ensemble.update, held = file.header["update"], file.header["held"]
            fresh = file.arrays.get("fresh", fresh)
            began -= file.header["provenance"]["wall_s"]
    saved, now = time.monotonic(), _further(ensemble, limit, held=held, fresh=fresh)
    while not now.over:
        ensemble.advance(spec.check_every)
        held = _answers(ensemble, tasks, sequences)
        if held:
            tests = [ensemble.errors(sequences, stream=bits.FRESH, task=task) for task in (spec.task, *tasks)]
            fresh = torch.cat(tests).numpy()
        now = _further(ensemble, limit, held=held, fresh=fresh)
        if store is not None and (now.over or time.monotonic() - saved >= checkpoint_every):
            keep(store, _file(name, ensemble, limit, now, wall_s=time.monotonic() - began))
            saved = time.monotonic()
        if progress is not None:
            progress(now)
    return now


def _name(ensemble: Ensemble, lengths: Sequence[int], sequences: int) -> str:
    """Of the file in a store: by all that decides how a network trains on and when it ends, but for the budget."""
    theta = hashlib.sha256(ensemble.parameters.theta.cpu().numpy().tobytes()).hexdigest()
    key = f"{ensemble.spec.family(ensemble.seeds)}:{theta}:{list(lengths)}:{sequences}"
    return f"{hashlib.sha256(key.encode()).hexdigest()[:20]}-{ensemble.update:012}.{FURTHER}"


def _begun(store: Store, name: str, ensemble: Ensemble, limit: int, *, restart: bool) -> File | None:
    """What a store has: the end, whichever engine made it, or where the engine at hand can go on."""
    file = store.read(name)
    if file is None or file.header["held"] or file.header["update"] >= limit:
        return file
    return begun_here([file], ensemble, store, restart=restart)


def _answers(ensemble: Ensemble, tasks: Sequence[Task], sequences: int) -> bool:
    """Whether a network is free of error on its own task and on these; the first error ends the test."""
    return ensemble.errors(sequences).item() == 0 and not any(
        ensemble.errors(sequences, stream=bits.TEST, task=task).item() for task in tasks
    )


def _file(name: str, ensemble: Ensemble, limit: int, now: Further, *, wall_s: float) -> File:
    """All that a store keeps; as far as its specification says, `limit` is the budget."""
    header = {"spec": ensemble.spec.with_(updates=limit).canonical(), "update": ensemble.update, "held": now.held}
    header["provenance"] = provenance(ensemble, wall_s=wall_s)
    theta = ensemble.parameters.theta.cpu().numpy()
    return File(name, header, {"seeds": np.array(ensemble.seeds), "theta": theta, "fresh": now.fresh})


def _further(ensemble: Ensemble, limit: int, *, held: bool, fresh: np.ndarray) -> Further:
    """Where it stands, to one who asked for no more than `limit`, though a store may have gone beyond."""
    held = held and ensemble.update <= limit
    theta = ensemble.parameters.theta[0].cpu().numpy()
    over = held or ensemble.update >= limit
    known, nothing = (theta, fresh), (np.full_like(theta, np.nan), np.full_like(fresh, np.nan))
    return Further(min(ensemble.update, limit), held, over, *(known if held else nothing))

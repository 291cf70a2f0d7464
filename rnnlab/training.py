"""Training: a specification and seeds in, one record and one outcome per member out."""

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import torch
import xarray
from torch import Tensor

from rnnlab import random
from rnnlab.cells import Parameters, spectral_radius
from rnnlab.engine import choose
from rnnlab.engine.contract import Trace, counted
from rnnlab.records import Progress, Record
from rnnlab.sequences import Batch, Task
from rnnlab.specs import PIECE, Spec, as_seeds

_BYTES = 40  # that drawing one step of one sequence takes at its peak
_HISTORY = 16 * 2**20  # bytes of states that a tile of members may keep


def pick_device(device: str = "auto") -> torch.device:
    """The device meant by a name; "auto" is a GPU if PyTorch can reach one, else the CPU.

    Raises:
        ValueError: PyTorch has no such device, or it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be 'auto' or 'cpu' here, got 'cuda': PyTorch reaches no GPU")
    try:
        return torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}") from None


class Ensemble:
    """Networks of one specification in the middle of their training.

    Args:
        spec: what they train on and how.
        seeds: one per member: a count, from 0, or a sequence.
        device: "auto", "cpu" or "cuda".
        memory: bytes that the batches of one call may take.

    `parameters` holds all members, `update` counts the updates made, `engine` makes them.
    """

    def __init__(self, spec: Spec, seeds: int | Sequence[int], *, device: str = "auto", memory: int = 2**30) -> None:
        self.spec = spec
        self.seeds = as_seeds(seeds)
        self.update = 0
        self.memory = memory
        where = pick_device(device)
        self.parameters = spec.init.parameters(spec.sizes, self.seeds).to(where)
        what = {"sigma": spec.init.sigma, "loss": spec.task.loss, "algorithm": spec.algorithm}
        self.engine = choose(**what, units=spec.units, device=where)
        self._seeds = torch.tensor(self.seeds, dtype=torch.int64, device=where)

    def select(self, members: Sequence[int]) -> "Ensemble":
        """An ensemble of copies of these members, as far in their training as they are."""
        chosen = copy.copy(self)
        chosen.seeds = [self.seeds[m] for m in members]
        chosen.parameters = self.parameters.select(list(members))
        chosen._seeds = self._seeds[list(members)]
        return chosen

    def advance(self, updates: int) -> Trace:
        """Make so many updates of every member, and return what they left behind (`K M`)."""
        spec, traces = self.spec, []
        tiles = self._tiles(spec.batch, spec.task.longest)
        for tile in tiles:
            network = Parameters(self.parameters.theta[tile], spec.sizes)
            per_update = _BYTES * network.members * spec.task.longest * spec.batch
            K = max(1, min(128, self.memory // per_update))
            parts = []
            for first in range(self.update, self.update + updates, K):
                numbers = torch.arange(first, min(first + K, self.update + updates), device=self._seeds.device)
                parts.append(
                    self.engine.sgd(
                        network,
                        spec.task.chunk(self._seeds[tile], numbers, batch=spec.batch),
                        sigma=spec.init.sigma,
                        loss=spec.task.loss,
                        algorithm=spec.algorithm,
                        first_update=first,
                    )
                )
            traces.append(_join(parts, dim=0))
        self.update += updates
        return _join(traces, dim=1)

    def errors(self, sequences: int, *, stream: int = random.CHECK, task: Task | None = None) -> Tensor:
        """Share of wrong ones among so many fresh sequences, for each member; `M`, float64, on the CPU.

        Args:
            sequences: at most 1,000, or a multiple of 1,000.
            stream: purpose: `random.CHECK` or `random.TEST`.
            task: another length of the task, say; the specification's own unless told otherwise.
        """
        task = task or self.spec.task
        B = min(sequences, PIECE)
        pieces = sequences // B
        # Rounded up: the last check of a budget that is no multiple of check_every has sequences of its own.
        first = math.ceil(self.update / self.spec.check_every) * pieces
        wrong = torch.zeros(len(self.seeds), dtype=torch.float64)
        for tile in self._tiles(B, 1):
            network = Parameters(self.parameters.theta[tile], self.spec.sizes)
            for number in range(first, first + pieces):
                missed = self._wrong(network, self._seeds[tile], task, number, B, stream)
                wrong[tile] += missed.sum(dim=1).cpu()
        return wrong / (B * pieces)

    def _wrong(self, network: Parameters, seeds: Tensor, task: Task, number: int, B: int, stream: int) -> Tensor:
        """Which sequences of one test batch are wrong, `M B`; the inputs stream through in windows of steps."""
        window = max(1, _HISTORY // (4 * network.members * B * self.spec.units))
        numbers = torch.tensor([number], device=seeds.device)
        loss, h, start = task.loss, None, 0
        wrong = torch.zeros(network.members, B, dtype=torch.bool, device=seeds.device)
        while True:
            chunk = task.chunk(seeds, numbers, batch=B, stream=stream, steps=range(start, start + window))
            lengths = chunk.lengths[0]
            stop = min(start + window, int(lengths.max()))
            targets = chunk.targets[0][:, start:stop] if loss.every_step else chunk.targets[0]
            part = Batch(chunk.inputs[0][:, : stop - start], targets, (lengths - start).clamp(0, stop - start))
            y, h = self.engine.outputs(network, part, sigma=self.spec.init.sigma, loss=loss, h_0=h)
            if loss.every_step or stop == int(lengths.max()):
                scored = counted(part, loss)
                wrong |= loss.wrong(y, targets.to(y.dtype) if targets.is_floating_point() else targets, scored)
            if stop == int(lengths.max()):
                return wrong
            start = stop

    def _tiles(self, B: int, T: int) -> list[slice]:
        """Members in groups small enough for memory, and on a CPU for the cache that the batched engine works in."""
        states = _HISTORY if self._seeds.device.type == "cpu" else self.memory // 3
        size = max(1, min(states // (4 * B * T * self.spec.units), self.memory // (16 * _BYTES * B * T)))
        M = len(self.seeds)
        count = math.ceil(M / size)
        bounds = [round(M * i / count) for i in range(count + 1)]
        return [slice(low, high) for low, high in itertools.pairwise(bounds)]


def _join(traces: Sequence[Trace], *, dim: int) -> Trace:
    return Trace(*(torch.cat([getattr(t, f.name) for t in traces], dim=dim) for f in fields(Trace)))


def train(
    spec: Spec,
    *,
    seeds: int | Sequence[int] = 5,
    device: str = "auto",
    memory: int = 2**30,
    progress: Callable[[Progress], None] | None = None,
) -> xarray.Dataset:
    """Train one network per seed, all at once, and return their curves and outcomes.

    Args:
        spec: what they train on and how.
        seeds: a count, from 0, or a sequence of seeds.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        memory: bytes that batches may take at a time.
        progress: called after every check.

    Returns:
        Series by `seed` and `check` (`loss`, `omega`, `norm`, `norm_max`, `clipped`, `rho`, `error`; the coordinate
        `update` says when), outcomes by `seed` (`first_below_1_percent`, `first_no_error`, `final_error`,
        `diverged_at`, `guarded`; NaN where it did not happen) and the final parameters `theta`. Series of a member
        that has stopped are NaN.

    Raises:
        ValueError: seeds or device make no sense.
    """
    ensemble = Ensemble(spec, seeds, device=device, memory=memory)
    every = ensemble.seeds
    record = Record(len(every), math.ceil(spec.updates / spec.check_every))
    theta = ensemble.parameters.theta.cpu().numpy().copy()
    members = list(range(len(every)))
    while members and ensemble.update < spec.updates:
        first = ensemble.update
        trace = ensemble.advance(min(spec.check_every, spec.updates - first))
        record.add(members, first, trace, spectral_radius(ensemble.parameters.W_rec), _errors(ensemble))
        theta[members] = ensemble.parameters.theta.cpu().numpy()
        ended = ~np.isnan(record.outcomes["diverged_at"])
        if spec.stop != "never":
            reached = "first_below_1_percent" if spec.stop == "below 1 %" else "first_no_error"
            ended |= ~np.isnan(record.outcomes[reached])
        going = [m for m in members if not ended[m]]
        if len(going) < len(members):
            ensemble = ensemble.select([i for i, m in enumerate(members) if not ended[m]])
            members = going
        if progress is not None:
            solved = int(np.isfinite(record.outcomes["first_below_1_percent"]).sum())
            progress(Progress(ensemble.update, spec.updates, len(every), len(members), solved))
    return record.dataset(spec, every, theta, engine=ensemble.engine.describe(), device=ensemble._seeds.device)


def _errors(ensemble: Ensemble) -> Tensor:
    """Error of each member on the ordinary test, or on the larger one where that is below 1 %."""
    error = ensemble.errors(ensemble.spec.check_sequences)
    promising = [m for m, e in enumerate(error.tolist()) if e < 0.01]
    if promising:
        error[promising] = ensemble.select(promising).errors(ensemble.spec.confirm_sequences, stream=random.TEST)
    return error

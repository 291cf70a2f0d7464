"""Networks of one specification side by side, in the middle of their training."""

import copy
import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab import bits
from rnnlab.descent.algorithm import Algorithm, check_steady
from rnnlab.dynamics.backward import Signal, signal
from rnnlab.engine.choosing import choose
from rnnlab.engine.contract import CARRIED, Trace, counted
from rnnlab.methods.method import Networks, advanced, apart, require_state
from rnnlab.naming import outside
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.conformance import require, require_windows
from rnnlab.tasks.task import Batch, Chunk, Task
from rnnlab.training.checks import PIECE, Sequences
from rnnlab.training.specs import Spec, Start
from rnnlab.values import Seeds, as_seeds, checked, whole

PARCEL = 128  # updates that an engine makes at a time
_CALL = 2**32  # products of a state and a weight in one call for one member; Ctrl-C waits for its end
_BYTES = 40  # that drawing one step of one sequence takes at its peak
_IMPORTED = os.getpid()
_HISTORY = 16 * 2**20  # bytes of states that one call may keep on a CPU: they stay in its caches


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device meant by a name; "auto" is a GPU if PyTorch can reach one, else the CPU.

    Raises:
        ValueError: PyTorch has no such device, or it is not there.
    """
    known = isinstance(device, str | torch.device) and re.fullmatch("auto|(cpu|cuda)(:([1-9]?[0-9]))?", str(device))
    if not known:
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if known[1] == "cuda" and int(known[3] or 0) >= torch.cuda.device_count():
        reached = f"{torch.cuda.device_count()} GPUs" if torch.cuda.is_available() else "no GPU"
        raise ValueError(f"device must be 'auto' or 'cpu' here, got {str(device)!r}: PyTorch reaches {reached}")
    return torch.device(device)


Device = Annotated[str | torch.device, lambda _, device: pick_device(device)]
Memory = Annotated[int, partial(whole, at_most=2**62)]


class Ensemble:
    """Networks of one specification in the middle of their training.

    Args:
        spec: what they train on and how.
        seeds: one per member: a count, from 0, or a sequence.
        start: what they were trained to before, in the order of the seeds; None begins as `spec.init` says.
        device: "auto", "cpu" or "cuda".
        memory: bytes that the batches of one call may take.

    `parameters` holds all members, `state` what goes on from update to update, `rates` their learning rates; `update`
    counts the updates made, `engine` makes them.
    """

    @checked
    def __init__(
        self, spec: Spec, seeds: Seeds, *, start: Start | None = None, device: Device = "auto", memory: Memory = 2**30
    ) -> None:
        if os.getpid() != _IMPORTED and threading.current_thread() is threading.main_thread():
            torch.set_num_threads(1)  # OpenMP would wait for threads that a forked process does not have
        self.spec = spec
        self.memory = memory
        self.seeds = as_seeds(seeds)
        self.rates = [getattr(spec.algorithm, "learning_rate", math.nan)] * len(self.seeds)
        self.update = 0
        where = pick_device(device)
        self.parameters = spec.init.parameters(spec.sizes, self.seeds).to(where)
        if start is not None:
            if start.theta.shape != (shape := tuple(self.parameters.theta.shape)):
                raise ValueError(f"start must hold theta of shape {shape}, got {start.theta.shape}")
            self.parameters.theta.copy_(torch.from_numpy(start.theta))
            self.update = start.update
        descent = spec.algorithm if isinstance(spec.algorithm, Algorithm) else Algorithm()
        check_steady(descent, self.parameters)
        parts: dict[str, Any] = {"sigma": spec.sigma, "loss": spec.task.loss, "algorithm": descent}
        self.engine = choose(**parts, sizes=spec.sizes, device=where)
        self._seeds = torch.tensor(self.seeds, dtype=torch.int64, device=where)
        state = spec.algorithm.init(self._networks(slice(None)))
        require_state(state, len(self.seeds), spec.algorithm)
        self.state = apart(state)
        self._held: Task | None = None  # the task that was last held to its contract
        self._streamed: tuple[Task, int] | None = None  # and the one last held to it in windows of so many steps

    @checked
    def select(self, members: Sequence[int]) -> "Ensemble":
        """An ensemble of copies of these members, as far in their training as they are.

        Raises:
            ValueError: it has no such member.
        """
        if any(not 0 <= m < len(self.seeds) for m in members):
            raise ValueError(f"members must be from 0 to {len(self.seeds) - 1}, got {members!r}")
        chosen = copy.copy(self)
        chosen.seeds, chosen.rates = [self.seeds[m] for m in members], [self.rates[m] for m in members]
        chosen.parameters = self.parameters.select(list(members))
        chosen.state = {name: x[list(members)] for name, x in self.state.items()}
        chosen._seeds = self._seeds[list(members)]
        return chosen

    def advance(self, updates: int) -> Trace:
        """Make so many updates of every member, or none if it is interrupted; return what they left behind (`K M`).

        Raises:
            ValueError: `updates` is not a positive integer, or the task breaks its contract.
        """
        updates = whole("updates", updates)
        if not self.seeds:
            raise ValueError("members must be at least one to be trained, got an ensemble of none")
        before, state = self.parameters.theta.clone(), {name: x.clone() for name, x in self.state.items()}
        try:
            return self._advance(updates)
        except BaseException:  # Ctrl-C among them; threads of the engine may still be writing into what they were given
            self.parameters, self.state = Parameters(before, self.spec.sizes), state
            raise

    def _advance(self, updates: int) -> Trace:
        if len(set(self.rates)) > 1:
            return self._by_rates(updates)
        spec, method, traces, states, end = self.spec, self.spec.algorithm, [], [], self.update + updates
        if getattr(method, "learning_rate", None) not in (None, self.rates[0]):
            method = replace(method, learning_rate=self.rates[0])  # type: ignore[type-var]
        for tile, K in self._tiles(spec.batch, spec.task.longest):
            network, parts, state = self._networks(tile), [], {name: x[tile] for name, x in self.state.items()}
            for first in range(self.update, end, K):
                numbers = torch.arange(first, min(first + K, end), dtype=torch.int64, device=self._seeds.device)
                chunk = self._chunk(spec.task, self._seeds[tile], numbers, batch=spec.batch)
                state, trace = advanced(method, replace(network, update=first), state, chunk)
                parts.append(trace)
            traces.append(join(parts, dim=0))
            states.append(state)
        self.state = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        self.update = end
        return join(traces, dim=1)

    def _networks(self, tile: slice) -> Networks:
        """Some of the members, as methods see them."""
        network = Parameters(self.parameters.theta[tile], self.spec.sizes)
        return Networks(network, self.spec.task.loss, self.spec.sigma, self.engine, self._seeds[tile], self.update)

    def _by_rates(self, updates: int) -> Trace:
        """The members of one learning rate, then those of the next."""
        groups = [[m for m, other in enumerate(self.rates) if other == rate] for rate in dict.fromkeys(self.rates)]
        chosen = [self.select(members) for members in groups]
        trace, order = join([group._advance(updates) for group in chosen], dim=1), np.concatenate(groups).argsort()
        self.parameters.theta.copy_(torch.cat([group.parameters.theta for group in chosen])[order])
        self.state = {name: torch.cat([group.state[name] for group in chosen])[order] for name in chosen[0].state}
        self.update += updates
        return Trace.of({name: part[:, order] for name, part in trace.parts.items()})

    @checked
    def errors(self, sequences: Sequences, *, stream: int = bits.CHECK, task: Task | None = None) -> Tensor:
        """Share of wrong ones among so many fresh sequences, for each member; `M`, float64, on the CPU.

        All begin where the cell begins, those too of which the task says that they go on. They are minibatches of at
        most 1,000; where a task draws a length for each, 1,000 sequences have one length and 10,000 have ten.

        Args:
            sequences: at most 1,000, or a multiple of 1,000.
            stream: purpose: `bits.CHECK`, `bits.TEST` or `bits.FRESH`.
            task: another length of the task, say; the specification's own unless told otherwise.

        Raises:
            ValueError: `sequences` is neither, the networks cannot read that task, or it breaks its contract.
        """
        task = task or self.spec.task
        if any(getattr(task, name) != getattr(self.spec.task, name) for name in ("inputs", "outputs", "loss")):
            raise ValueError(f"task must have the inputs, outputs and loss of {self.spec.task}, got {task}")
        pieces = sequences // (B := min(sequences, PIECE))
        # Rounded up: the last check of a budget that is no multiple of check_every has sequences of its own.
        first = math.ceil(self.update / self.spec.check_every) * pieces
        wrong = torch.zeros(len(self.seeds), dtype=torch.float64, device="cpu")
        for tile, _ in self._tiles(B, 1):
            network = Parameters(self.parameters.theta[tile], self.spec.sizes)
            for number in range(first, first + pieces):
                wrong[tile] += self._wrong(network, self._seeds[tile], task, number, B, stream).sum(dim=1).cpu()
        return wrong / (B * pieces)

    def _wrong(self, network: Parameters, seeds: Tensor, task: Task, number: int, B: int, stream: int) -> Tensor:
        """Which sequences of one test batch are wrong, `M B`; the inputs stream through in windows of steps."""
        window = max(1, self._room // (4 * network.members * B * self.spec.units))
        numbers = torch.tensor([number], dtype=torch.int64, device=seeds.device)
        if outside(type(task)) and self._streamed != (task, window):
            require_windows(task, seeds[:1], numbers, stream=stream, window=window)
            self._streamed = task, window
        loss, h = task.loss, None
        wrong = torch.zeros(network.members, B, dtype=torch.bool, device=seeds.device)
        for start in range(0, task.longest, window):
            chunk = self._chunk(task, seeds, numbers, batch=B, stream=stream, steps=range(start, start + window))
            lengths, targets = chunk.lengths[0], chunk.targets[0]
            stop = min(start + window, end := int(lengths.max()))
            targets = targets[:, start:stop] if loss.every_step else targets
            part = Batch(chunk.inputs[0][:, : stop - start], targets, (lengths - start).clamp(0, stop - start))
            y, h = self.engine.outputs(network, part, sigma=self.spec.sigma, loss=loss, h_0=h)
            if loss.every_step or stop == end:
                targets = targets.to(y.dtype) if targets.is_floating_point() else targets
                wrong |= loss.wrong(y, targets, counted(part, loss))
            if stop == end:  # of these members' lengths; the task has longer ones
                break
        return wrong

    def _chunk(self, task: Task, seeds: Tensor, updates: Tensor, **how: Any) -> Chunk:
        """What a task draws, held to its contract: thoroughly at first, then a task from outside in its ranges."""
        chunk, new = task.chunk(seeds, updates, **how), task is not self._held
        if new or outside(type(task)):
            require(task, chunk, seeds, updates, **how, thoroughly=new)
        self._held = task
        return chunk

    @property
    def _room(self) -> int:
        """Bytes of states that one call may keep."""
        return _HISTORY if self._seeds.device.type == "cpu" else self.memory // 3

    def _tiles(self, B: int, T: int) -> Iterator[tuple[slice, int]]:
        """Members in groups, each with the updates that one call makes of it, so many as there is room for.

        The states of a group's sweep, `4 B T N` bytes a member, are to stay in the cache that the batched engine works
        in, or on a GPU within a third of the memory; and the batches of at least 16 updates are to fit into all of it.
        """
        M, states, drawn = len(self.seeds), 4 * B * T * self.spec.units, _BYTES * B * T
        count = math.ceil(M / max(1, min(self._room // states, self.memory // (16 * drawn))))
        for i in range(count):
            tile = slice(round(M * i / count), round(M * (i + 1) / count))
            most = self.memory // (drawn * (tile.stop - tile.start)), _CALL // (B * T * self.spec.units**2)
            yield tile, max(1, min(PARCEL, *most))


def join(traces: Sequence[Trace], *, dim: int) -> Trace:
    """Traces of updates that follow each other (dim 0), or of members side by side (dim 1), as one."""
    return Trace.of({name: torch.cat([trace.parts[name] for trace in traces], dim=dim) for name in traces[0].parts})


@checked
def along(ensemble: Ensemble, stops: Iterable[int]) -> Iterator[tuple[int, Signal, Float[Tensor, "K M"]]]:
    """Train on to each stop, and take apart the sweep that the next update is going to make, but for its noise.

    Args:
        ensemble: trained in place.
        stops: numbers of updates, increasing, none below `ensemble.update`.

    Yields:
        The stop, the signal there, and the norms before clipping of the gradients since the last stop.
    """
    spec = ensemble.spec
    seeds = torch.tensor(ensemble.seeds, dtype=torch.int64, device="cpu")
    for stop in stops:
        none = torch.zeros(0, len(seeds), dtype=torch.float32, device="cpu")
        passed = ensemble.advance(stop - ensemble.update).norm.cpu() if stop > ensemble.update else none
        number = torch.tensor([stop], dtype=torch.int64, device="cpu")
        batch = spec.task.chunk(seeds, number, batch=spec.batch)[0]
        begun = ensemble.parameters.theta.new_zeros(len(seeds), spec.batch, spec.sizes.width)
        h_0 = None if batch.begins is None else ensemble.state.get(CARRIED, begun)
        yield stop, signal(ensemble.parameters, batch, sigma=spec.sigma, loss=spec.task.loss, h_0=h_0), passed

"""Whether a task keeps what a task promises, in sentences that say where it does not."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from rnnlab import bits
from rnnlab.network.losses import Loss
from rnnlab.tasks.task import LONGEST, Chunk, Task, check_length, length_range
from rnnlab.values import Count, checked, taken, whole

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_REAL = (torch.float32, torch.float16, torch.bfloat16)  # networks train in float32


_SAID: dict[str, Any] = {"name": str, "symbols": bool, "inputs": Count, "outputs": Count, "loss": Loss}
_SAID |= {"longest": Annotated[int, functools.partial(whole, at_most=LONGEST)]}


@dataclass(frozen=True)
class _Asked:
    """What a task is asked to draw."""

    task: Task
    seeds: Tensor
    updates: Tensor
    batch: int
    stream: int = bits.TRAIN
    steps: range | None = None

    def drawn(self) -> Chunk:
        """What it draws."""
        return self.task.chunk(self.seeds, self.updates, batch=self.batch, stream=self.stream, steps=self.steps)

    def wrong(self, whole: Chunk, complaint: str, *, first: int = 0) -> str | None:
        """What is wrong with it, or which field is not as in a chunk whose inputs begin with step `first`."""
        part, start = self.drawn(), self.steps.start if self.steps else first
        said = next(_form(self, part), None)
        if said is None and (name := _differ(whole, part, at=start - first, start=start)):
            said = f"{name}{complaint}"
        return f"for steps={self.steps}, {said}" if said and self.steps else said


@checked
def check_task(task: object, *, batch: Annotated[int, functools.partial(whole, at_most=2**20)] = 4) -> list[str]:
    """What is wrong with a task, in sentences; none if nothing is.

    It says its sizes, its loss and its name. What it draws is a `Chunk` of the shapes, types and ranges that these ask
    for, a pure function of (seed, update, stream) whoever else is drawn, other for each of them, and the same in any
    window of steps. A task that says `every_pattern`, as one may whose batch lists all its patterns, may draw the same
    for all seeds, updates and streams. On a machine with a GPU, the GPU draws what the CPU does.

    Training itself refuses what is wrong with the first chunk that it draws.

    Args:
        task: of a user, say; made, not its class.
        batch: sequences a batch; 27 batches, as long as the task's longest, are drawn at a time.

    Raises:
        ValueError: `batch` is not a positive integer.
    """
    try:
        said = list(_words(task))
        return list(_draws(task, batch)) if not said and isinstance(task, Task) else said
    except Exception as error:  # whatever a user's code may raise
        return [f"it raises {type(error).__name__} when it is asked for what training asks for: {error}"]


def require(
    task: Task,
    chunk: Chunk,
    seeds: Tensor,
    updates: Tensor,
    *,
    batch: int,
    stream: int = bits.TRAIN,
    steps: range | None = None,
    thoroughly: bool = True,
) -> None:
    """Refuse a chunk that no engine should read, or, thoroughly, that a task draws otherwise when it draws less.

    Args:
        task: that drew it.
        chunk: as it came.
        seeds: it was asked for these,
        updates: these,
        batch: as many sequences,
        stream: for this purpose, and
        steps: in this window.
        thoroughly: draw some steps of one update of one member once more, alone, and compare.

    Raises:
        ValueError: the task breaks its contract; names the task and says how.
    """
    said = next(_form(_Asked(task, seeds, updates, batch, stream, steps), chunk), None)
    if said is None and thoroughly:
        first = steps.start if steps else 0
        m = int(chunk.lengths[-1].argmax())
        k, m_ = slice(len(updates) - 1, None), slice(m, m + 1)
        seen = min(chunk.inputs.shape[2], int(chunk.lengths[-1, m]) - first)
        some = range(first + seen // 2, first + seen // 2 + max(1, seen // 3))
        alone = _Asked(task, seeds[m_], updates[k], batch, stream, some)
        complaint = ", drawn alone for one seed and update, are not those that were drawn with others"
        said = alone.wrong(_part(chunk, k, m_), complaint, first=first)
    _refuse(task, said)


def require_windows(task: Task, seeds: Tensor, updates: Tensor, *, stream: int, window: int) -> None:
    """Refuse a task whose sequences, drawn in windows as a test draws them, are not those of the whole.

    Args:
        task: that draws two sequences a batch here.
        seeds: of these,
        updates: for these, and
        stream: for this purpose.
        window: steps of a window; the first begins at 0.

    Raises:
        ValueError: the task breaks its contract; names the task and the window.
    """
    asked = _Asked(task, seeds, updates, 2, stream)
    drawn = asked.drawn()
    for start in range(0, int(drawn.lengths.max()), window):
        part = replace(asked, steps=range(start, start + window))
        _refuse(task, part.wrong(drawn, " are not those of the whole"))


def _refuse(task: Task, said: str | None) -> None:
    if said is not None:
        raise ValueError(f"task {task.name!r} breaks its contract: {said} (rnnlab.check_task says more)")


def _form(asked: _Asked, chunk: object) -> Iterator[str]:
    """What is wrong with the shapes, types and ranges of a chunk that was drawn."""
    if not isinstance(chunk, Chunk):
        yield f"draw must return a Chunk, got {type(chunk).__name__}"
        return
    task, steps, device = asked.task, asked.steps, asked.seeds.device
    K, M, lengths = len(asked.updates), len(asked.seeds), chunk.lengths
    if lengths.shape != (K, M) or lengths.device.type != "cpu":
        yield f"lengths must have shape {(K, M)}, on the CPU, got {tuple(lengths.shape)} on {lengths.device}"
        return
    low, high = 1, task.longest
    if high == length_range(task.length)[1] - 1:  # a task of nothing but `length` steps
        low = length_range(task.length)[0]
    if not low <= int(lengths.min()) <= int(lengths.max()) <= high:
        allowed = f"{low} to {high}" if low < high else high
        yield f"lengths must be {allowed} steps, got {int(lengths.min())} to {int(lengths.max())}"
        return
    last = int(lengths.max())
    held = (last, high) if steps is None else (min(steps.stop, last) - steps.start, len(steps))
    kind = "symbols" if task.symbols else "numbers"
    yield from _array("inputs", chunk.inputs, (K, M, held, asked.batch), kind, task.inputs, device)
    T = chunk.inputs.shape[2] if steps is None and chunk.inputs.ndim > 2 else high
    held = (1, 1) if not task.loss.every_step else (T if steps is None else last, T)
    kind = "numbers" if task.loss.real_targets else "classes"
    yield from _array("targets", chunk.targets, (K, M, held, asked.batch), kind, task.outputs, device)


def _array(
    name: str, x: Tensor, axes: tuple[int, int, tuple[int, int], int], kind: str, count: int, device: torch.device
) -> Iterator[str]:
    """What is wrong with inputs or targets: integers below `count`, or "numbers" with an axis of `count`."""
    K, M, (least, most), B = axes
    real = kind == "numbers"
    rest = (B, count) if real else (B,)
    if x.ndim != 3 + len(rest) or x.shape[:2] != (K, M) or x.shape[3:] != rest or not least <= x.shape[2] <= most:
        held = least if least == most else f"{least} to {most}"
        yield f"{name} must have shape ({K}, {M}, {held}, {', '.join(map(str, rest))}), got {tuple(x.shape)}"
    elif x.device != device:
        yield f"{name} must be on the device of the seeds, {device}, got {x.device}"
    elif real and x.dtype not in _REAL:
        yield f"{name} must be real numbers in float32, float16 or bfloat16, got {x.dtype}"
    elif real and not all(bound.isfinite() for bound in x.aminmax()):
        yield f"{name} must be finite, got {int((~x.isfinite()).sum())} numbers that are not"
    elif not real and x.dtype not in _INTEGERS:
        yield f"{name} must be {kind} in uint8, int8, int16, int32 or int64, got {x.dtype}"
    elif not real and torch.iinfo(x.dtype).max < count - 1:
        yield f"{name} must be of a type that holds {kind} up to {count - 1}, got {x.dtype}"
    elif not real and not all(0 <= int(bound) < count for bound in x.aminmax()):
        yield f"{name} must be {kind} from 0 to {count - 1}, got {int(x.min())} to {int(x.max())}"


def _differ(drawn: Chunk, part: Chunk, *, at: int = 0, start: int = 0) -> str | None:
    """The field in which a part, whose inputs begin at index `at`, step `start`, says otherwise; padding aside."""
    if not torch.equal(drawn.lengths, part.lengths):
        return "lengths"
    S = min(drawn.targets.shape[2], part.targets.shape[2])
    n = min(drawn.inputs.shape[2] - at, part.inputs.shape[2])
    for name, a, b, first in (
        ("targets", drawn.targets[:, :, :S], part.targets[:, :, :S], 0),
        ("inputs", drawn.inputs[:, :, at : at + n], part.inputs[:, :, :n], start),
    ):
        steps = torch.arange(first, first + a.shape[2], dtype=torch.int64, device="cpu")
        live = steps < drawn.lengths[..., None]
        # Numbers that are computed in other company may be rounded otherwise.
        same = torch.isclose(a, b.to(a), rtol=1e-4, atol=1e-5) if a.is_floating_point() else a == b.to(a.device)
        if not bool(same[live.to(a.device)].all()):
            return name
    return None


def _part(chunk: Chunk, k: slice, m: slice) -> Chunk:
    return Chunk(*(x[k, m] for x in (chunk.inputs, chunk.targets, chunk.lengths)))


def _words(task: object) -> Iterator[str]:
    """What is wrong with what a task says of itself."""
    if isinstance(task, type) or not isinstance(task, Task):
        yield f"it must be an instance of a subclass of rnnlab.tasks.task.Task, got {task!r:.100}"
        return
    if not is_dataclass(task):
        yield "it must be a dataclass: its fields tell it from others"
    if task.name == "":
        yield "name must be a name, got ''"
    checks = [functools.partial(taken, name, getattr(task, name), kind) for name, kind in _SAID.items()]
    for check in [*checks, functools.partial(check_length, task.length, at_least=1, task=str(task.name))]:
        try:
            check()
        except ValueError as refusal:
            yield str(refusal)


def _draws(task: Task, batch: int) -> Iterator[str]:
    """What is wrong with what it draws."""
    numbers = [0, 1, 2**63 - 1], [*range(8), 10**6]
    seeds, updates = (torch.tensor(some, dtype=torch.int64, device="cpu") for some in numbers)
    asked = _Asked(task, seeds, updates, batch)
    drawn = asked.drawn()
    if malformed := list(_form(asked, drawn)):
        yield from malformed
    elif said := asked.wrong(drawn, " are others when they are drawn again: all must follow from the draws handed in"):
        yield said
    else:
        yield from _parts(asked, drawn)
        if not getattr(task, "every_pattern", False):
            yield from _alike(drawn, [drawn, *(replace(asked, stream=s).drawn() for s in (bits.CHECK, bits.TEST))])
        if torch.cuda.is_available():
            there = replace(asked, seeds=seeds.cuda(), updates=updates.cuda())
            if said := there.wrong(drawn, " are not those of the CPU"):
                yield f"on a GPU, {said}"


def _parts(asked: _Asked, drawn: Chunk) -> Iterator[str]:
    """What is wrong with parts of it, drawn alone, and with its lengths."""
    k, m, length = slice(5, 6), slice(1, 2), asked.task.length
    alone = replace(asked, seeds=asked.seeds[m], updates=asked.updates[k])
    if said := alone.wrong(_part(drawn, k, m), " of a seed and an update are others when these are drawn alone"):
        yield said
    if isinstance(length, tuple) and length[1] - length[0] > 1 and len(drawn.lengths.unique()) == 1:
        yield f"lengths must vary from minibatch to minibatch, as {length=} says, got {drawn.lengths[0, 0]}"
    T = int(drawn.lengths.max())
    half, third = T // 2, max(1, T // 3)
    windows = range(T - half), range(half, half + third), range(third - 1, third), range(T - 1, T + 2)
    complaint = " are not those of the whole, whose steps are counted from 0"
    yield from itertools.islice(filter(None, (replace(asked, steps=w).wrong(drawn, complaint) for w in windows)), 1)


def _alike(drawn: Chunk, streams: list[Chunk]) -> Iterator[str]:
    """Which of seed, update and stream makes no difference."""
    K, M = drawn.lengths.shape
    every = slice(None)
    for kind, parts, some in (
        ("seeds", [_part(drawn, every, slice(m, m + 1)) for m in range(M)], any),
        ("updates", [_part(drawn, slice(k, k + 1), every) for k in range(K)], all),  # two may be alike by chance
        ("streams (bits.TRAIN, CHECK and TEST)", streams, any),
    ):
        if some(_differ(a, b) is None for a, b in itertools.pairwise(parts)):
            yield f"other {kind} must draw other sequences; a task that is to repeat them says every_pattern = True"

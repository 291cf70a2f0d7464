"""Whether a task keeps what a task promises, in sentences that say where it does not."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from rnnlab import bits
from rnnlab.network.losses import Loss
from rnnlab.tasks.task import LONGEST, Chunk, Task, check_length, length_range
from rnnlab.values import Count, checked, taken, whole

_SAID: dict[str, Any] = {"name": str, "symbols": bool, "inputs": Count, "outputs": Count, "loss": Loss}
_SAID |= {"longest": Annotated[int, functools.partial(whole, at_most=LONGEST)]}
_SAID |= {"length": Annotated[Any, lambda _, value: check_length(value, at_least=1, task="any task")]}


class _Asked(NamedTuple):
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

    def wrong(self, whole: Chunk, complaint: str, *, first: int = 0) -> list[str]:
        """What is wrong with it, or which field is not as in a chunk whose inputs begin with step `first`."""
        part, start = self.drawn(), self.steps.start if self.steps else first
        said = [*_form(self, part)] or [
            name + complaint for name in _differ(whole, part, at=start - first, start=start)
        ]
        return [f"for steps={self.steps}, {one}" if self.steps else one for one in said[:1]]

    def alone(self, drawn: Chunk, k: int, m: int, complaint: str, *, first: int = 0) -> list[str]:
        """What is wrong with the batch of update number k of member m when it is drawn alone."""
        k_, m_ = slice(k, k + 1), slice(m, m + 1)
        alone = self._replace(seeds=self.seeds[m_], updates=self.updates[k_])
        return alone.wrong(_part(drawn, k_, m_), complaint, first=first)


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


def require(task: Task, chunk: Chunk, seeds: Tensor, updates: Tensor, *, thoroughly: bool = True, **how: Any) -> None:
    """Refuse a chunk that no engine should read, or, thoroughly, that a task draws otherwise when it draws less.

    Args:
        task: that drew it.
        chunk: as it came.
        seeds: it was asked for these, and
        updates: for these.
        thoroughly: draw some steps of one update of one member once more, alone, and compare.
        how: `batch`, and if need be `stream` and `steps`, with which it was asked.

    Raises:
        ValueError: the task breaks its contract; names the task and says how.
    """
    asked = _Asked(task, seeds, updates, **how)
    said = [*_form(asked, chunk)]
    if thoroughly and not said:
        longest = chunk.lengths[-1].reshape(len(seeds), -1).amax(dim=1)
        first, m = asked.steps.start if asked.steps else 0, int(longest.argmax())
        seen = min(chunk.inputs.shape[2], int(longest[m]) - first)
        some = range(first + seen // 2, first + seen // 2 + max(1, seen // 3))
        complaint = ", drawn alone for one seed and update, are not those that were drawn with others"
        said = asked._replace(steps=some).alone(chunk, len(updates) - 1, m, complaint, first=first)
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
        part = asked._replace(steps=range(start, start + window))
        _refuse(task, part.wrong(drawn, " are not those of the whole"))


def _refuse(task: Task, said: list[str]) -> None:
    if said:
        raise ValueError(f"task {task.name!r} breaks its contract: {said[0]} (rnnlab.check_task says more)")


def _form(asked: _Asked, chunk: object) -> Iterator[str]:
    """What is wrong with the shapes, types and ranges of a chunk that was drawn."""
    if not isinstance(chunk, Chunk):
        yield f"draw must return a Chunk, got {type(chunk).__name__}"
        return
    task, steps, lengths = asked.task, asked.steps, chunk.lengths
    asked_for = len(asked.updates), len(asked.seeds)
    for name, x, kinds in (
        ("lengths", lengths, (asked_for, (*asked_for, asked.batch))),
        ("begins", chunk.begins, ((*asked_for, asked.batch),)),
    ):
        if x is not None and (tuple(x.shape) not in kinds or x.device.type != "cpu"):
            shapes = " or ".join(map(str, kinds))
            yield f"{name} must have shape {shapes}, on the CPU, got {tuple(x.shape)} on {x.device}"
            return
    (low, end), high = length_range(task.length), task.longest
    low = low if high == end - 1 and lengths.ndim == 2 else 1  # not of a task of nothing but `length` steps
    first, last = map(int, lengths.aminmax())
    if not low <= first <= last <= high:
        yield f"lengths must be {f'{low} to {high}' if low < high else high} steps, got {first} to {last}"
        return
    held = (last, high) if steps is None else (min(steps.stop, last) - steps.start, len(steps))
    yield from _array(asked, "inputs", chunk.inputs, held, "symbols" if task.symbols else "numbers", task.inputs)
    T = chunk.inputs.shape[2] if steps is None and chunk.inputs.ndim > 2 else high
    held = (1, 1) if not task.loss.every_step else (T if steps is None else last, T)
    kind = "numbers" if task.loss.real_targets else "classes"
    yield from _array(asked, "targets", chunk.targets, held, kind, task.outputs)


def _array(asked: _Asked, name: str, x: Tensor, held: tuple[int, int], kind: str, count: int) -> Iterator[str]:
    """What is wrong with inputs or targets: integers below `count`, or "numbers" with an axis of `count`."""
    K, M, B, (least, most), device = len(asked.updates), len(asked.seeds), asked.batch, held, asked.seeds.device
    real = kind == "numbers"
    rest = (B, count) if real else (B,)
    # Networks train in float32.
    types = "real numbers in float32, float16 or bfloat16" if real else f"{kind} in uint8, int8, int16, int32 or int64"
    if x.ndim != 3 + len(rest) or x.shape[:2] != (K, M) or x.shape[3:] != rest or not least <= x.shape[2] <= most:
        long = least if least == most else f"{least} to {most}"
        yield f"{name} must have shape ({K}, {M}, {long}, {', '.join(map(str, rest))}), got {tuple(x.shape)}"
    elif x.device != device:
        yield f"{name} must be on the device of the seeds, {device}, got {x.device}"
    elif str(x.dtype).removeprefix("torch.") not in types.replace(",", "").split():
        yield f"{name} must be {types}, got {x.dtype}"
    elif real and not all(bound.isfinite() for bound in x.aminmax()):
        yield f"{name} must be finite, got {int((~x.isfinite()).sum())} numbers that are not"
    elif not real and torch.iinfo(x.dtype).max < count - 1:
        yield f"{name} must be of a type that holds {kind} up to {count - 1}, got {x.dtype}"
    elif not real and not all(0 <= int(bound) < count for bound in x.aminmax()):
        yield f"{name} must be {kind} from 0 to {count - 1}, got {int(x.min())} to {int(x.max())}"


def _differ(drawn: Chunk, part: Chunk, *, at: int = 0, start: int = 0) -> Iterator[str]:
    """The fields in which a part, whose inputs begin at index `at`, step `start`, says otherwise; padding aside."""
    for name in ("lengths", "begins"):
        both = getattr(drawn, name), getattr(part, name)
        if (both[0] is None) != (both[1] is None) or (both[0] is not None and not torch.equal(*both)):
            yield name
            return
    for name, skipped, first in (("targets", 0, 0), ("inputs", at, start)):
        a, b = getattr(drawn, name)[:, :, skipped:], getattr(part, name)
        n = min(a.shape[2], b.shape[2])
        a, b = a[:, :, :n], b[:, :, :n]
        steps = torch.arange(first, first + n, dtype=torch.int64, device="cpu")
        live = (steps < drawn.lengths[..., None]).movedim(-1, 2)  # K M n, or K M n B
        # Numbers that are computed in other company may be rounded otherwise.
        same = torch.isclose(a, b.to(a), rtol=1e-4, atol=1e-5) if a.is_floating_point() else a == b.to(a.device)
        if not bool(same[live.to(a.device)].all()):
            yield name


def _part(chunk: Chunk, k: slice, m: slice) -> Chunk:
    return Chunk(**{name: x[k, m] for name, x in chunk.parts.items()})


def _words(task: object) -> Iterator[str]:
    """What is wrong with what a task says of itself."""
    if isinstance(task, type) or not isinstance(task, Task):
        yield f"it must be an instance of a subclass of rnnlab.tasks.task.Task, got {task!r:.100}"
        return
    if not is_dataclass(task):
        yield "it must be a dataclass: its fields tell it from others"
    if task.name == "":
        yield "name must be a name, got ''"
    for name, hint in _SAID.items():
        try:
            taken(name, getattr(task, name), hint)
        except ValueError as refusal:
            yield str(refusal)


def _draws(task: Task, batch: int) -> Iterator[str]:
    """What is wrong with what it draws."""
    numbers = [0, 1, 2**63 - 1], [*range(8), 10**6]
    seeds, updates = (torch.tensor(some, dtype=torch.int64, device="cpu") for some in numbers)
    asked = _Asked(task, seeds, updates, batch)
    drawn = asked.drawn()
    again = " are others when they are drawn again: all must follow from the draws handed in"
    if said := [*_form(asked, drawn)] or asked.wrong(drawn, again):
        yield from said
        return
    yield from _parts(asked, drawn)
    if not getattr(task, "every_pattern", False):
        yield from _alike(drawn, [drawn, *(asked._replace(stream=s).drawn() for s in (bits.CHECK, bits.TEST))])
    if torch.cuda.is_available():
        there = asked._replace(seeds=seeds.cuda(), updates=updates.cuda())
        yield from (f"on a GPU, {one}" for one in there.wrong(drawn, " are not those of the CPU"))


def _parts(asked: _Asked, drawn: Chunk) -> Iterator[str]:
    """What is wrong with parts of it, drawn alone, and with its lengths."""
    length = asked.task.length
    yield from asked.alone(drawn, 5, 1, " of a seed and an update are others when these are drawn alone")
    if isinstance(length, tuple) and length[1] - length[0] > 1 and len(drawn.lengths.unique()) == 1:
        yield f"lengths must vary from minibatch to minibatch, as {length=} says, got {int(drawn.lengths.max())}"
    T = int(drawn.lengths.max())
    half, third = T // 2, max(1, T // 3)
    windows = range(T - half), range(half, half + third), range(third - 1, third), range(T - 1, T + 2)
    complaint = " are not those of the whole, whose steps are counted from 0"
    yield from next(filter(None, (asked._replace(steps=w).wrong(drawn, complaint) for w in windows)), [])


def _alike(drawn: Chunk, streams: list[Chunk]) -> Iterator[str]:
    """Which of seed, update and stream makes no difference."""
    K, M = drawn.lengths.shape[:2]
    for kind, parts, some in (
        ("seeds", [_part(drawn, slice(None), slice(m, m + 1)) for m in range(M)], any),
        ("updates", [_part(drawn, slice(k, k + 1), slice(None)) for k in range(K)], all),  # two may be alike by chance
        ("streams (bits.TRAIN, CHECK and TEST)", streams, any),
    ):
        if some(not any(_differ(a, b)) for a, b in itertools.pairwise(parts)):
            yield f"other {kind} must draw other sequences; a task that is to repeat them says every_pattern = True"

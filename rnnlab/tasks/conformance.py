"""Whether a task keeps what a task promises, in sentences that say where it does not."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass

import torch
from torch import Tensor

from rnnlab import bits
from rnnlab.network.losses import Loss
from rnnlab.tasks.task import LONGEST, Chunk, Task, check_length, length_range
from rnnlab.values import whole

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_REAL = (torch.float32, torch.float16, torch.bfloat16)  # networks train in float32


def check_task(task: object, *, batch: int = 4) -> list[str]:
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
    whole("batch", batch, at_most=2**20)
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
    said = next(_form(task, chunk, seeds, updates, batch=batch, steps=steps), None)
    if said is None and thoroughly:
        first = steps.start if steps else 0
        m = int(chunk.lengths[-1].argmax())
        one = slice(len(updates) - 1, None), slice(m, m + 1)
        seen = min(chunk.inputs.shape[2], int(chunk.lengths[-1, m]) - first)
        some = range(first + seen // 2, first + seen // 2 + max(1, seen // 3))
        alone = task.chunk(seeds[one[1]], updates[one[0]], batch=batch, stream=stream, steps=some)
        said = next(_form(task, alone, seeds[one[1]], updates[one[0]], batch=batch, steps=some), None)
        if said is None and (name := _differ(_part(chunk, *one), alone, at=some.start - first, start=some.start)):
            said = f"{name}, drawn alone for one seed and update, are not those that were drawn with others"
        said = said and f"for steps={some}, {said}"
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
    whole = task.chunk(seeds, updates, batch=2, stream=stream)
    for start in range(0, int(whole.lengths.max()), window):
        steps = range(start, start + window)
        part = task.chunk(seeds, updates, batch=2, stream=stream, steps=steps)
        said = next(_form(task, part, seeds, updates, batch=2, steps=steps), None)
        if said is None and (name := _differ(whole, part, at=start, start=start)):
            said = f"{name} are not those of the whole"
        _refuse(task, said and f"for steps={steps}, {said}")


def _refuse(task: Task, said: str | None) -> None:
    if said is not None:
        raise ValueError(f"task {task.name!r} breaks its contract: {said} (rnnlab.check_task says more)")


def _form(
    task: Task, chunk: object, seeds: Tensor, updates: Tensor, *, batch: int, steps: range | None = None
) -> Iterator[str]:
    """What is wrong with the shapes, types and ranges of a chunk that was drawn."""
    if not isinstance(chunk, Chunk):
        yield f"draw must return a Chunk, got {type(chunk).__name__}"
        return
    K, M, lengths = len(updates), len(seeds), chunk.lengths
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
    yield from _array("inputs", chunk.inputs, (K, M, held, batch), kind, task.inputs, seeds.device)
    T = chunk.inputs.shape[2] if steps is None and chunk.inputs.ndim > 2 else high
    held = (1, 1) if not task.loss.every_step else (T if steps is None else last, T)
    kind = "numbers" if task.loss.real_targets else "classes"
    yield from _array("targets", chunk.targets, (K, M, held, batch), kind, task.outputs, seeds.device)


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
        same = torch.isclose(a, b.to(a.dtype), rtol=1e-4, atol=1e-5) if a.is_floating_point() else a == b
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
    kinds: tuple[tuple[str, str, Callable[[object], bool]], ...] = (
        ("name", "a name", lambda x: isinstance(x, str) and x != ""),
        ("symbols", "True or False", lambda x: isinstance(x, bool)),
        ("inputs", "a positive integer", lambda x: type(x) is int and x > 0),
        ("outputs", "a positive integer", lambda x: type(x) is int and x > 0),
        ("longest", "an integer from 1 to 2**28", lambda x: type(x) is int and 0 < x <= LONGEST),
        ("loss", "a loss, such as LastSoftmax()", lambda x: isinstance(x, Loss) and not isinstance(x, type)),
    )
    for name, kind, fits in kinds:
        if not fits(getattr(task, name)):
            yield f"{name} must be {kind}, got {getattr(task, name)!r:.100}"
    try:
        check_length(task.length, at_least=1, task=str(task.name))
    except ValueError as refusal:
        yield str(refusal)


def _draws(task: Task, batch: int) -> Iterator[str]:
    """What is wrong with what it draws."""
    seeds, updates = (
        torch.tensor(numbers, dtype=torch.int64, device="cpu") for numbers in ([0, 1, 2**63 - 1], [*range(8), 10**6])
    )
    draw = functools.partial(task.chunk, batch=batch)
    drawn = draw(seeds, updates)
    if said := list(_form(task, drawn, seeds, updates, batch=batch)):
        yield from said
        return
    if name := _differ(drawn, draw(seeds, updates)):
        yield f"{name} are others when they are drawn again: all must follow from the draws that are handed in"
        return
    one = slice(5, 6), slice(1, 2)
    if name := _differ(_part(drawn, *one), draw(seeds[one[1]], updates[one[0]])):
        yield f"{name} of a seed and an update are others when these are drawn alone"
    if isinstance(task.length, tuple) and task.length[1] - task.length[0] > 1 and len(drawn.lengths.unique()) == 1:
        yield f"lengths must vary from minibatch to minibatch, as length={task.length} says, got {drawn.lengths[0, 0]}"
    T = int(drawn.lengths.max())
    half, third = T // 2, max(1, T // 3)
    for steps in (range(T - half), range(half, half + third), range(third - 1, third), range(T - 1, T + 2)):
        part = draw(seeds, updates, steps=steps)
        said = list(_form(task, part, seeds, updates, batch=batch, steps=steps))
        if not said and (name := _differ(drawn, part, at=steps.start, start=steps.start)):
            said = [f"{name} are not those of the whole, whose steps are counted from 0"]
        yield from (f"for steps={steps}, {sentence}" for sentence in said)
        if said:
            break
    if not getattr(task, "every_pattern", False):
        streams = [drawn, *(draw(seeds, updates, stream=stream) for stream in (bits.CHECK, bits.TEST))]
        yield from _alike(drawn, streams)
    if torch.cuda.is_available():
        there = draw(seeds.cuda(), updates.cuda())
        said = list(_form(task, there, seeds.cuda(), updates, batch=batch))
        if not said and (name := _differ(drawn, Chunk(there.inputs.cpu(), there.targets.cpu(), there.lengths))):
            said = [f"{name} are not those of the CPU"]
        yield from (f"on a GPU, {sentence}" for sentence in said)


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

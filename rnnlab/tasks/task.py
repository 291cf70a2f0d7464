"""What a task is made of: batches, chunks of them, and the random variables they are drawn from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from rnnlab import bits
from rnnlab.bits import Seeds, Updates
from rnnlab.network.losses import Loss
from rnnlab.values import UNFIT, Count, Natural, checked, fit, refusal, settle, whole

# Variables of a stream: these are common, a task numbers its own from OWN.
LENGTH, STEPS, ORDER, OWN = 0, 1, 2, 4
Window = range | None  # steps that are drawn; None is all of them
LONGEST = 2**28  # steps of all sequences of a batch


@dataclass(frozen=True)
class _Sequences:
    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    begins: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse what no engine could read."""
        for name, x in self.parts.items():
            if not isinstance(x, Tensor) or x.is_complex():
                raise refusal(name, "a tensor of real numbers", x)
        for name, dtype in (("lengths", torch.int64), ("begins", torch.bool)):
            if name in self.parts and self.parts[name].dtype != dtype:
                said = str(dtype).removeprefix("torch.")
                raise ValueError(f"{name} must be of dtype {said}, got {self.parts[name].dtype}")

    @property
    def parts(self) -> dict[str, Tensor]:
        """What there is, by name."""
        return {name: x for name, x in vars(self).items() if x is not None}


@dataclass(frozen=True)
class Batch(_Sequences):
    """The sequences of one update, for every member.

    Args:
        inputs: `M T B` symbols (integers), or `M T B I` real inputs.
        targets: `M S B` classes or `M S B O` values, with S = 1 for a last-step loss and T for an every-step loss.
        lengths: `M`, steps of each member's sequences, or `M B`, of each sequence; what lies beyond is padding. On the
            CPU.
        begins: `M B`, which sequences begin here; the others go on in the state that the update before left them in.
            On the CPU. None: all begin, and no state is kept. In tests all begin, whatever is said here.
    """

    lengths: Int64[Tensor, "M *B"]
    begins: Bool[Tensor, "M B"] | None = None


@dataclass(frozen=True)
class Chunk(_Sequences):
    """The sequences of K updates, for every member; the fields of `Batch` with a leading axis K."""

    lengths: Int64[Tensor, "K M *B"]
    begins: Bool[Tensor, "K M B"] | None = None

    def __len__(self) -> int:
        """Number of updates, K."""
        return self.lengths.shape[0]

    def __getitem__(self, k: int) -> Batch:
        """The batch of the chunk's update k, padded no further than its own longest sequence."""
        T = int(self.lengths[k].max())
        rest = {name: x[k] for name, x in self.parts.items()}
        return Batch(**rest | {"inputs": rest["inputs"][:, :T], "targets": rest["targets"][:, :T]})

    def __iter__(self) -> Iterator[Batch]:
        """Its batches in order."""
        return (self[k] for k in range(len(self)))


def length_range(length: int | tuple[int, int]) -> tuple[int, int]:
    """Lowest length, and one more than the highest."""
    return (length, length + 1) if isinstance(length, int) else length


def check_length(length: object, *, at_least: int, task: str) -> int | tuple[int, int]:
    """A length that the task's windows fit in, or a pair of lengths, of Python's integers.

    Raises:
        ValueError: it is no length, a range is empty, or it is below `at_least` or above 2**27 steps.
    """
    ends = fit(list(length) if isinstance(length, tuple) else length, int | list[int])
    if ends is UNFIT or (isinstance(ends, list) and len(ends) != 2):
        raise ValueError(f"length must be an integer or a pair (lowest, highest + 1) of them, got {length!r}")
    ends = tuple(ends) if isinstance(ends, list) else ends
    low, high = length_range(ends)
    for wrong, rule in (
        (low < at_least, f" must be at least {at_least} steps for {task}"),
        (high <= low, "'s range (lowest, highest + 1) must not be empty"),
        (high > 2**27 + 1, " must be at most 2**27 steps"),
    ):
        if wrong:
            raise ValueError(f"length{rule}, got {length!r}")
    return ends


@dataclass(frozen=True)
class Draws:
    """Random variables of one (seeds, updates, stream), of one value per sequence or per step.

    `symbols` and `uniforms` read the same words, one for each step: a task takes one of them. For all else it numbers
    its variables from `OWN` to 15.
    """

    seeds: Seeds
    updates: Updates
    stream: int
    batch: int

    def lengths(self, length: int | tuple[int, int]) -> Int64[Tensor, "K M"]:
        """One length per minibatch, uniform on [lowest, highest]."""
        low, high = length_range(length)
        return low + self._drawn(bits.integers, LENGTH, high=high - low, count=1)[..., 0]

    def below(self, high: Int64[Tensor, "K M"], *, variable: int, count: int = 0) -> Int64[Tensor, "K M _"]:
        """Integers uniform on [0, high), one per sequence (`K M B`), or `count` per minibatch.

        Raises:
            ValueError: one of `high` is not in 1 .. 2^31, or the variable is not one of a task's own.
        """
        if high.numel() and not 1 <= int(high.min()) <= int(high.max()) <= 2**31:
            raise ValueError(f"high must be from 1 to 2**31, got {int(high.min())} to {int(high.max())}")
        words = self._drawn(bits.bits, self._own(variable), start=0, count=count or self.batch)
        return (words * high[..., None]) >> 32

    def integers(self, high: int, *, variable: int, count: int | None = None) -> Int64[Tensor, "K M _"]:
        """Integers uniform on [0, high); `K M count`, one per sequence unless told otherwise."""
        return self._drawn(bits.integers, self._own(variable), high=high, count=count or self.batch)

    def symbols(self, high: int, steps: range) -> Int64[Tensor, "K M T B"]:
        """A symbol uniform on [0, high) for every step of the window and every sequence."""
        return self._each(bits.integers, steps, high=high)

    def uniforms(self, steps: range) -> Float32[Tensor, "K M T B"]:
        """A number uniform on [0, 1) for every step and sequence."""
        return self._each(bits.uniforms, steps)

    def uniform(self, *, variable: int) -> Float32[Tensor, "K M B"]:
        """A number uniform on [0, 1) per sequence."""
        return self._drawn(bits.uniforms, self._own(variable), count=self.batch)

    def places(self, size: int) -> Int64[Tensor, "K M B"]:
        """Which of `size` items each sequence is: each once an epoch, in an order drawn for this seed and this epoch.

        Epochs follow each other without a gap: the last batch of one that `batch` does not divide begins the next.

        Raises:
            ValueError: `size` is not a positive integer.
        """
        size = whole("size", size)
        first = self.updates.to("cpu")[:, None] * self.batch + torch.arange(self.batch, dtype=torch.int64, device="cpu")
        epochs, within = first // size, (first % size)[:, None].expand(-1, len(self.seeds), -1)
        kinds, which = epochs.unique(return_inverse=True)
        keys = replace(self, updates=kinds.to(self.seeds.device))._drawn(bits.bits, ORDER, start=0, count=size)
        orders = keys.cpu().argsort(dim=-1, stable=True)  # epochs M size
        members = torch.arange(len(self.seeds), dtype=torch.int64, device="cpu")[None, :, None]
        return orders[which[:, None], members, within].to(self.seeds.device)

    def _own(self, variable: int) -> int:
        """A task's own variable; beyond 15 lie the words of another purpose."""
        return whole("variable", variable, at_least=OWN, at_most=bits.VARIABLES - 1)

    def _drawn(self, draw: Callable[..., Tensor], variable: int, **how: int) -> Tensor:
        return draw(self.seeds, self.updates, stream=self.stream + variable, **how)

    def _each(self, draw: Callable[..., Tensor], steps: range, **how: int) -> Tensor:
        """One for every step of a window and every sequence, from its place among all steps."""
        flat = self._drawn(draw, STEPS, start=steps.start * self.batch, count=len(steps) * self.batch, **how)
        return flat.unflatten(-1, (len(steps), self.batch))


@runtime_checkable
class Task(Protocol):
    """A problem: sizes, loss and sequences.

    A task gives `draw`; the rest is common. Lengths are steps, or a pair (lowest, highest + 1) from which each
    minibatch draws its own. A task with `every_pattern` true lists its patterns in every batch, whatever the seed.
    `rnnlab.check_task` says whether a task keeps what is said here.

    Raises:
        ValueError: the length is below `shortest`, where the task's windows are empty.
    """

    name: ClassVar[str]
    loss: ClassVar[Loss]
    symbols: ClassVar[bool]
    shortest: ClassVar[int]
    length: int | tuple[int, int]

    @property
    def inputs(self) -> int:
        """Input channels or symbols, I."""

    @property
    def outputs(self) -> int:
        """Output channels or classes, O."""

    def __post_init__(self) -> None:
        """Refuse a length that the task does not fit in, and settle all fields."""
        object.__setattr__(self, "length", check_length(self.length, at_least=self.shortest, task=self.name))
        settle(self)

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return length_range(self.length)[1] - 1

    def draw(self, draws: Draws, steps: Window) -> Chunk:
        """Sequences made of these random variables, and of nothing else.

        Args:
            draws: of M seeds and K updates; a sequence must not depend on which others there are.
            steps: give the inputs of these steps alone, whatever they were for the whole; targets and lengths stay
                whole. It begins within the longest sequence. Where it ends beyond, padding is given, or nothing. None
                is all steps.
        """

    @checked
    def chunk(
        self, seeds: Seeds, updates: Updates, *, batch: Count, stream: Natural = bits.TRAIN, steps: Window = None
    ) -> Chunk:
        """The batches of these updates, for every member.

        Args:
            seeds: one per member; they set the device.
            updates: update numbers, from 0.
            batch: sequences a batch, B.
            stream: purpose: `bits.TRAIN`, `bits.CHECK` or `bits.TEST`.
            steps: draw only this window of the inputs; targets and lengths stay whole.

        Raises:
            ValueError: `batch` is not a positive integer, there are more than 2**28 steps in a batch, `stream` is none
                of the multiples of 16 at which purposes begin, or `steps` is no window.
        """
        whole("batch", batch, at_most=LONGEST // self.longest)
        if stream % bits.VARIABLES:
            raise ValueError(f"stream must be a purpose, such as bits.TRAIN or bits.TEST, got {stream}")
        if steps is not None and not (steps.step == 1 and 0 <= steps.start < steps.stop):
            raise ValueError(f"steps must be a range of one or more consecutive steps from 0 on, got {steps}")
        return self.draw(Draws(seeds, updates, stream, batch), steps)

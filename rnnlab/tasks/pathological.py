"""The six synthetic tasks of 2013: specification in, chunk of batches out, as a pure function of seed and update.

Steps count from 0, and the windows below are half open. Where the paper, an earlier version of it and the authors'
code differ, the code is the default, and an argument chooses.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Protocol

import torch
from jaxtyping import Shaped
from torch import Tensor

from rnnlab.network.losses import Loss, Softmax, SquaredError
from rnnlab.tasks.task import OWN, Chunk, Draws, Task, Window, length_range
from rnnlab.values import among, whole

Steps = Shaped[Tensor, "K M T B"]
Sequences = Shaped[Tensor, "K M B"]
_POSITIONS, _VALUES, _EXTRA = OWN, OWN + 4, OWN + 8


def _place(inputs: Steps, positions: Sequences, values: Sequences | int, steps: range) -> Steps:
    """Write each sequence's value at its position, if the window holds that position."""
    row = positions[:, :, None, :] - steps.start
    inside = (row >= 0) & (row < len(steps))
    row = row.clamp(0, len(steps) - 1)
    new = values.to(inputs.dtype)[:, :, None, :] if isinstance(values, Tensor) else values
    return inputs.scatter_(2, row, torch.where(inside, new, inputs.gather(2, row)))


class _Order(Task, Protocol):
    """Symbols to remember in order among others: at one step of each window 0 or 1; the class reads the bits."""

    shortest: ClassVar[int] = 10
    loss: ClassVar[Loss] = Softmax()
    symbols: ClassVar[bool] = True
    inputs: ClassVar[int] = 6

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each window starts, in tenths of the length."""

    def draw(self, draws: Draws, steps: Window) -> Chunk:
        """Others, and one of the two in each window."""
        lengths = draws.lengths(self.length)
        window = steps or range(int(lengths.max()))
        inputs = draws.symbols(self.inputs - 2, window).add_(2).to(torch.uint8)
        classes = torch.zeros(*lengths.shape, draws.batch, dtype=torch.uint8, device=lengths.device)
        for i in range(len(self.starts)):
            bit = draws.integers(2, variable=_VALUES + i)
            inputs = _place(inputs, self._position(draws, lengths, i), bit, window)
            classes += bit << i
        return Chunk(inputs, classes[:, :, None, :], lengths.cpu())

    def _position(self, draws: Draws, lengths: Tensor, i: int) -> Tensor:
        """A step of window i, which is a tenth of the length wide."""
        return (self.starts[i] * lengths // 10)[..., None] + draws.below(lengths // 10, variable=_POSITIONS + i)


@dataclass(frozen=True)
class TemporalOrder(_Order):
    """Which of A and B came first, and which second? Four classes, read at the last step.

    Symbols 0 and 1 are A and B, 2 to 5 are distractors. One of A, B stands in [L/10, 2L/10), another in
    [5L/10, 6L/10); the class is first + 2 second. `second_window="v2"` puts the second into [4L/10, 5L/10), as
    descriptions of the paper's second version have it.

    Source:
        Pascanu et al. 2013, section 4.1.1; the authors' code, `tempOrder.py`.
    """

    length: int | tuple[int, int] = 50
    second_window: Annotated[str, among("code", "v2")] = "code"
    name: ClassVar[str] = "temporal order"
    outputs: ClassVar[int] = 4

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each window starts, in tenths of the length."""
        return (1, 5 if self.second_window == "code" else 4)


@dataclass(frozen=True)
class ThreeBitTemporalOrder(_Order):
    """Three symbols of A, B to remember in order: eight classes, read at the last step.

    The windows start at L/10, 3L/10 and 6L/10 and are L/10 wide; the class is first + 2 second + 4 third.

    Source:
        Pascanu et al. 2013, section 4.1.2; the authors' code, `tempOrder3bit.py`.
    """

    length: int | tuple[int, int] = 50
    name: ClassVar[str] = "3-bit temporal order"
    outputs: ClassVar[int] = 8
    starts: ClassVar[tuple[int, ...]] = (1, 3, 6)


class _Marked(Task, Protocol):
    """Two marked numbers among many; a task says what is asked of them."""

    shortest: ClassVar[int] = 10
    loss: ClassVar[Loss] = SquaredError()
    symbols: ClassVar[bool] = False
    inputs: ClassVar[int] = 2
    outputs: ClassVar[int] = 1

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        highest = length_range(self.length)[1] - 1
        return highest + highest // 10 - 1

    def target(self, a: Tensor, b: Tensor) -> Tensor:
        """What is asked for."""

    def draw(self, draws: Draws, steps: Window) -> Chunk:
        """Numbers, two of them marked, and what is asked of those."""
        low = draws.lengths(self.length)
        lengths = low + draws.below(low // 10, variable=_EXTRA, count=1)[..., 0]
        window = steps or range(int(lengths.max()))
        drawn = draws.uniforms(window)
        inputs = drawn.new_zeros(*drawn.shape, 2)
        marks, numbers = inputs.unbind(-1)
        numbers.copy_(drawn)
        first = draws.below(lengths // 10, variable=_POSITIONS)
        second = (lengths // 10)[..., None] + draws.below(4 * lengths // 10, variable=_POSITIONS + 1)
        a, b = draws.uniform(variable=_VALUES), draws.uniform(variable=_VALUES + 1)
        for position, value in ((first, a), (second, b)):
            _place(numbers, position, value, window)
            _place(marks, position, 1, window)
        target = self.target(a, b)[:, :, None, :, None]
        return Chunk(inputs, target, lengths.cpu())


@dataclass(frozen=True)
class Addition(_Marked):
    """The mean of two marked numbers among many, read at the last step.

    Channel 0 is 1 at the two marked steps, channel 1 uniform on [0, 1). A minibatch's true length l is L plus an
    integer uniform on [0, L/10); one mark falls in [0, l/10), the other in [l/10, l/10 + 4l/10). The target is
    (a + b)/2, and a sequence is wrong when its squared error exceeds 0.04.

    Source:
        Pascanu et al. 2013, section 4.1.2; the authors' code, `addition.py`.
    """

    length: int | tuple[int, int] = 50
    name: ClassVar[str] = "addition"

    def target(self, a: Tensor, b: Tensor) -> Tensor:
        """(a + b)/2."""
        return (a + b) / 2


@dataclass(frozen=True)
class Multiplication(_Marked):
    """The product of two marked numbers among many: inputs as in `Addition`, target a b.

    Source:
        Pascanu et al. 2013, section 4.1.2; the authors' code, `multiplication.py`.
    """

    length: int | tuple[int, int] = 50
    name: ClassVar[str] = "multiplication"

    def target(self, a: Tensor, b: Tensor) -> Tensor:
        """a b."""
        return a * b


@dataclass(frozen=True)
class RandomPermutation(_Order):
    """Say at the end which of two symbols came first, after many random others.

    100 symbols: the first is 0 or 1, the rest uniform on 2 .. 99, and the symbol to predict at the last step is the
    first one again.

    Source:
        Pascanu et al. 2013, section 4.1.2; the authors' code, `permutation.py`.
    """

    length: int | tuple[int, int] = 50
    shortest: ClassVar[int] = 1
    name: ClassVar[str] = "random permutation"
    inputs: ClassVar[int] = 100
    outputs: ClassVar[int] = 100
    starts: ClassVar[tuple[int, ...]] = (0,)

    def _position(self, draws: Draws, lengths: Tensor, i: int) -> Tensor:
        """The first step."""
        return lengths.new_zeros(*lengths.shape, draws.batch)


@dataclass(frozen=True)
class NoiselessMemorization(Task):
    """Keep a pattern through a long blank stretch and recite it when told.

    Steps 0 .. P-1 show P symbols of K values; every other step is the symbol "blank" (K) but step L + P, "trigger"
    (K + 1). The target is "blank" for the first L + P steps, then the pattern; a sequence is wrong if any step is.
    The total length is L + 2P. `trigger="before"` fires one step earlier, as in the Hessian-free code.

    Args:
        length: the blank stretch L, or a pair (lowest, highest + 1).
        values: K; 2 with positions=5 is the 5-bit variant, 5 with positions=10 the one of over 20 bits.
        positions: P.
        every_pattern: sequence b of a batch carries pattern number b modulo K^P, instead of a random one.
        trigger: "with" the first recited symbol, as in the authors' code, or the step "before" it.

    Source:
        Pascanu et al. 2013, section 4.1.2; the authors' code, `memorization.py`.
    """

    length: int | tuple[int, int] = 50
    values: Annotated[int, partial(whole, at_least=2, at_most=128)] = 5
    positions: Annotated[int, partial(whole, at_most=2**20)] = 10
    every_pattern: bool = False
    trigger: Annotated[str, among("with", "before")] = "with"
    shortest: ClassVar[int] = 1
    name: ClassVar[str] = "noiseless memorization"
    loss: ClassVar[Loss] = Softmax(every_step=True)
    symbols: ClassVar[bool] = True

    @property
    def inputs(self) -> int:
        """Values, blank and trigger."""
        return self.values + 2

    @property
    def outputs(self) -> int:
        """Values and blank."""
        return self.values + 1

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return length_range(self.length)[1] - 1 + 2 * self.positions

    def draw(self, draws: Draws, steps: Window) -> Chunk:
        """Patterns to keep and recite."""
        blanks = draws.lengths(self.length)
        lengths = blanks + 2 * self.positions
        window = steps or range(int(lengths.max()))
        pattern = self._patterns(draws)  # K M P B
        inputs, targets = (
            torch.full((*blanks.shape, T, draws.batch), self.values, dtype=torch.uint8, device=draws.seeds.device)
            for T in (len(window), int(lengths.max()))
        )
        told = (blanks + self.positions)[..., None].expand(-1, -1, draws.batch)
        for p in range(self.positions):
            inputs = _place(inputs, torch.full_like(told, p), pattern[:, :, p], window)
            targets = _place(targets, told + p, pattern[:, :, p], range(targets.shape[2]))
        fired = told if self.trigger == "with" else told - 1
        inputs = _place(inputs, fired, self.values + 1, window)
        return Chunk(inputs, targets, lengths.cpu())

    def _patterns(self, draws: Draws) -> Tensor:
        """`K M P B` symbols of the patterns."""
        if not self.every_pattern:
            flat = draws.integers(self.values, variable=_VALUES, count=self.positions * draws.batch)
            return flat.unflatten(-1, (self.positions, draws.batch))
        number = torch.arange(draws.batch, dtype=torch.int64, device=draws.seeds.device)
        digits = torch.arange(self.positions, dtype=torch.int64, device=draws.seeds.device)
        # A batch has at most 2**28 sequences, so digits from this one on are 0; powers beyond it may overflow.
        powers = self.values ** digits.clamp(max=math.ceil(28 / math.log2(self.values)))
        return (number // powers[:, None] % self.values).expand(len(draws.updates), len(draws.seeds), -1, -1)


_TASKS = TemporalOrder, ThreeBitTemporalOrder, Addition, Multiplication, RandomPermutation, NoiselessMemorization
TASKS: dict[str, type] = {task.name: task for task in _TASKS}

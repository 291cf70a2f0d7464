"""Stand-ins for corpora of music and text: windows at random places of random data, of their sizes."""

import functools
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

import rnnlab
from rnnlab import bits
from rnnlab.network.losses import Loss
from rnnlab.tasks.task import OWN, Chunk, Draws, Task, Window

STEPS = 2**15  # of a corpus


@functools.cache
def corpus(high: int, *channels: int) -> Tensor:
    """Integers uniform on [0, high), `STEPS` of them or for each of some channels."""
    shape, zero = (STEPS, *channels), torch.zeros(1, dtype=torch.int64)
    flat = bits.integers(zero, zero, high=high, stream=bits.FRESH, count=torch.Size(shape).numel())
    return flat.view(shape).to(torch.uint8)


@functools.cache
def rolls() -> Tensor:
    """Which of 88 keys are struck: each in one of 16 steps, as 0 or 1 in float32."""
    return (corpus(16, 88) == 0).float()


class _Next(Task, Protocol):
    """To predict each next step of a corpus."""

    shortest: ClassVar[int] = 1

    @property
    def corpus(self) -> Tensor:
        """What each step holds."""

    def draw(self, draws: Draws, steps: Window) -> Chunk:
        """Windows of the corpus, and what follows each of their steps."""
        lengths, corpus = draws.lengths(self.length), self.corpus.to(draws.seeds.device)
        longest = range(int(lengths.max()))
        first = draws.below(torch.full_like(lengths, STEPS - self.longest), variable=OWN)[:, :, None]  # K M 1 B
        seen, told = (torch.tensor(some, device=first.device)[:, None] for some in (steps or longest, longest))
        return Chunk(corpus[(first + seen) % STEPS], corpus[first + told + 1], lengths.cpu())


@dataclass(frozen=True)
class Rolls(_Next):
    """To predict which of 88 keys are struck next."""

    length: int | tuple[int, int] = 200
    name: ClassVar[str] = "rolls"
    loss: ClassVar[Loss] = rnnlab.Bernoulli(every_step=True)
    symbols: ClassVar[bool] = False
    inputs: ClassVar[int] = 88
    outputs: ClassVar[int] = 88

    @property
    def corpus(self) -> Tensor:
        """Zeros and ones."""
        return rolls()


@dataclass(frozen=True)
class Characters(_Next):
    """To predict the next of 50 symbols."""

    length: int | tuple[int, int] = 180
    name: ClassVar[str] = "characters"
    loss: ClassVar[Loss] = rnnlab.Softmax(every_step=True)
    symbols: ClassVar[bool] = True
    inputs: ClassVar[int] = 50
    outputs: ClassVar[int] = 50

    @property
    def corpus(self) -> Tensor:
        """A symbol a step."""
        return corpus(50)


CORPORA: dict[str, type] = {task.name: task for task in (Rolls, Characters)}

"""Corpora as tasks, polyphonic music and Penn Treebank by characters: what comes next?

Errors are in nats a step: the mean over all steps of all pieces of a split, each read from the state 0 on, and the
first step of a roll foretold from silence. Bits a character are nats over ln 2.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Protocol

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from rnnlab import bits
from rnnlab.network.losses import Bernoulli, Loss, Softmax
from rnnlab.tasks.sources import KEYS, MUSIC, SYMBOLS, folder, numbered, pieces
from rnnlab.tasks.task import Batch, Chunk, Draws, Task, Window
from rnnlab.values import Count, among

PURPOSES = {bits.TRAIN: "train", bits.CHECK: "validation", bits.TEST: "validation", bits.FRESH: "test"}
TOGETHER = 32  # pieces that are read side by side
STRETCH = 100  # chunks of a text that training reads in a row


class Split(NamedTuple):
    """Pieces end to end: what a step is to foretell stands `ahead` rows after what it sees."""

    rows: UInt8[Tensor, "R *keys"]
    first: Int64[Tensor, "pieces"]
    steps: Int64[Tensor, "pieces"]
    ahead: int

    def windows(self, first: Tensor, steps: int, *, inputs: range, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs of some of the steps that begin at these rows, and targets of all; steps and rows `B` last."""

        def at(offset: range) -> Tensor:
            x = self.rows[(first[..., None, :] + numbered(offset)[:, None]).clamp(max=len(self.rows) - 1)].to(device)
            return x.float() if self.rows.ndim > 1 else x

        return at(inputs), at(range(self.ahead, steps + self.ahead))


class _Corpus(Task, Protocol):
    """Pieces to be foretold, read in chunks of `length` steps: a shorter one ends a piece, and states go on within it.

    An epoch is every piece of the training split once, in an order drawn for each seed and epoch. A batch reads so many
    stretches of an epoch side by side; where it does not divide the epoch's chunks, the last stretch ends with the
    first ones again. Checks read the validation split, and tests after the end of a training the test split.
    """

    shortest: ClassVar[int] = 1
    length: Count

    def split(self, name: str) -> Split:
        """A split's pieces."""

    def _reads(self, name: str) -> tuple[Tensor, Tensor]:
        """First rows and steps of what is read in a row."""
        split = self.split(name)
        return split.first, split.steps

    def epoch(self, batch: int = 1) -> int:
        """Updates in which training reads every piece once."""
        return -(-int((-(-self._reads("train")[1] // self.length)).sum()) // batch)

    def draw(self, draws: Draws, steps: Window) -> Chunk:
        """The chunks of these updates."""
        name, T = PURPOSES[draws.stream], self.length
        split, (first, long) = self.split(name), self._reads(name)
        chunks, P = -(-long // T), len(long)
        stretch = -(-int(chunks.sum()) // draws.batch)
        updates = draws.updates.cpu()
        epochs, which = (updates // stretch).unique(return_inverse=True)
        numbers = (epochs[:, None] * P + numbered(range(P))).flatten()
        whole = replace(draws, updates=numbers, batch=1).places(P).cpu()[..., 0]  # epochs * P, M
        order = whole.unflatten(0, (-1, P)).mT.contiguous()[which]  # K M P
        ends = chunks[order].cumsum(dim=-1)
        lanes = stretch * numbered(range(draws.batch))
        at = ((updates % stretch)[:, None] + lanes) % int(chunks.sum())  # K B
        at = at[:, None].expand(-1, order.shape[1], -1).contiguous()
        place = torch.searchsorted(ends, at, right=True)  # K M B
        piece = order.gather(-1, place)
        window = at - ends.gather(-1, place) + chunks[piece]
        begins = (window == 0) | (updates % stretch == 0)[:, None, None]
        lengths = (long[piece] - window * T).clamp(max=T)
        device = draws.seeds.device
        inputs, targets = split.windows(first[piece] + window * T, T, inputs=steps or range(T), device=device)
        return Chunk(inputs, targets, lengths, begins)

    def passes(self, name: str, device: torch.device) -> Iterator[list[Batch]]:
        """Whole pieces of a split, some side by side, in batches for one member whose states go on from the first."""
        split, T = self.split(name), self.length
        for some in split.steps.argsort(descending=True, stable=True).split(TOGETHER):
            batches = []
            for start in range(0, int(split.steps[some[0]]), T):
                lengths = (split.steps[some] - start).clamp(0, T)
                window = range(int(lengths.max()))
                inputs, targets = split.windows(split.first[some] + start, len(window), inputs=window, device=device)
                batches.append(Batch(inputs[None], targets[None], lengths[None]))
            yield batches


@dataclass(frozen=True)
class Rolls(_Corpus):
    """Which of 88 keys sound next? Input and target of every step are a roll's rows, one step apart.

    Args:
        corpus: "Piano_midi", "Nottingham", "MuseData" or "JSB_Chorales"; or "chords", which is made up (see `pieces`).
        length: steps of a chunk.

    Source:
        Pascanu et al. 2013, section 4.2; the corpora are those of Boulanger-Lewandowski et al. 2012.
    """

    corpus: Annotated[str, among(*MUSIC)] = "Piano_midi"
    length: Count = 200
    name: ClassVar[str] = "rolls"
    loss: ClassVar[Loss] = Bernoulli(every_step=True)
    symbols: ClassVar[bool] = False
    inputs: ClassVar[int] = KEYS
    outputs: ClassVar[int] = KEYS

    def split(self, name: str) -> Split:
        """A split's rolls, each behind a row of silence."""
        return _side_by_side(self.corpus, name, folder())


@dataclass(frozen=True)
class Characters(_Corpus):
    """Which of 50 symbols of Penn Treebank comes next, or some steps later?

    Training reads the text in stretches of 100 chunks, whose order is drawn for each seed and epoch.

    Args:
        ahead: how many steps later; the paper has 1 and 5.
        length: steps of a chunk.

    Source:
        Pascanu et al. 2013, section 4.2; the text is as Mikolov prepared it.
    """

    ahead: Count = 1
    length: Count = 180
    name: ClassVar[str] = "characters"
    loss: ClassVar[Loss] = Softmax(every_step=True)
    symbols: ClassVar[bool] = True
    inputs: ClassVar[int] = SYMBOLS
    outputs: ClassVar[int] = SYMBOLS

    def split(self, name: str) -> Split:
        """A split's text, the last symbols of which are only foretold.

        Raises:
            ValueError: it is not longer than `ahead`.
        """
        (text,) = pieces("Penn Treebank")[name]
        if len(text) <= self.ahead:
            raise ValueError(f"ahead must be below {len(text):,}, the symbols of the {name} split, got {self.ahead}")
        return Split(text, numbered([0]), numbered([len(text) - self.ahead]), self.ahead)

    def _reads(self, name: str) -> tuple[Tensor, Tensor]:
        each, steps = STRETCH * self.length, int(self.split(name).steps)
        first = numbered(range(0, steps, each))
        return first, (steps - first).clamp(max=each)


@functools.cache
def _side_by_side(corpus: str, name: str, where: Path) -> Split:
    rolls = pieces(corpus)[name]
    steps = numbered([len(roll) for roll in rolls])
    silent = torch.zeros(1, KEYS, dtype=torch.uint8, device="cpu")
    rows = torch.cat([part for roll in rolls for part in (silent, roll)])
    return Split(rows, (steps + 1).cumsum(dim=0) - steps - 1, steps, 1)

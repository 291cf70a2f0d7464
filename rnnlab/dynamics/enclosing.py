"""States of a network under symbols: enclosed in boxes for all words of a graph at once, or followed along some."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab.network.parameters import Parameters

_SLACK = 2.0**-40  # of what is summed: more than float64 loses in 4,000 terms; and of tanh, for what its code errs
_GROWN = 1e-6  # what a set gets beyond its image, so that a sequence of images that converges ends
_ROUNDS = 5_000
_NARROW = 0.1  # boxes narrower than this are apart by where they are, wider ones by signs alone
_SAME = 0.05  # the search goes on from one of the states that are this close in all units
# Keys of sets: node times this, and a hash of place or signs and of the symbol below; equal hashes share a hull.
NODE = 2**47


class Words(NamedTuple):
    """A task as a graph: nodes are a phase and how long it has lasted, edges are symbols."""

    phase: Tensor
    waited: Tensor
    answer: Tensor  # -1 where none is asked for
    rank: Tensor  # phases that have passed at least
    first: Tensor  # of a node's edges
    leaving: Tensor  # how many those are
    symbol: Tensor
    target: Tensor

    def edges(self, node: Tensor) -> tuple[Tensor, Tensor]:
        """All edges from these nodes: from which of them each is, and its number."""
        n = self.leaving[node]
        row = torch.arange(len(node), dtype=torch.int64, device="cpu").repeat_interleave(n)
        return row, (self.first[node] - n.cumsum(0) + n)[row] + torch.arange(len(row), dtype=torch.int64, device="cpu")


class Sets(NamedTuple):
    key: Tensor
    low: Tensor
    high: Tensor

    def of(self, rows: Tensor) -> "Sets":
        """Some of them."""
        return Sets(*(x[rows] for x in self))


@dataclass(frozen=True, eq=False)
class Net:
    """A network in float64, and what bounds need of it."""

    W: Tensor
    c: Tensor  # W_in u + b of each symbol, I N
    W_out: Tensor
    b_out: Tensor
    error: Tensor  # of a pre-activation, N: rounding and disturbance
    random: Tensor  # of keys

    def image(self, low: Tensor, high: Tensor, row: Tensor, symbol: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes around the images of these rows of boxes under a symbol each; tanh is increasing, so ends suffice."""
        a, r = (low + high) / 2 @ self.W.T, (high - low) / 2 @ self.W.abs().T + self.error
        a, r = a[row] + self.c[symbol], r[row]
        return (a - r).tanh() - _SLACK, (a + r).tanh() + _SLACK

    def margin(self, low: Tensor, high: Tensor, answer: Tensor) -> Tensor:
        """The right output less the largest other at least, in each box."""
        D, d = self.W_out[answer][:, None] - self.W_out, self.b_out[answer][:, None] - self.b_out  # K O N
        least = (D * ((low + high) / 2)[:, None] - D.abs() * ((high - low) / 2)[:, None]).sum(-1) + d
        least -= _SLACK * (1 + D.abs().sum(-1) + d.abs())
        return least.scatter(1, answer[:, None], torch.inf).amin(1)

    def cut(self, low: Tensor, high: Tensor, node: Tensor, symbol: Tensor, most: int) -> Sets:
        """Boxes by their keys; those that are wide where a sign is undecided are cut at 0, as long as there are few."""
        while True:
            width, unit = torch.where((low < 0) & (high > 0), high - low, 0.0).max(1)
            wide = (width > 0.5).nonzero()[:, 0]
            if not len(wide) or len(low) + len(wide) > most:
                break
            left, right = high.clone(), low[wide].scatter(1, unit[wide, None], 0.0)
            left[wide, unit[wide]] = 0.0
            low, high = torch.cat((low, right)), torch.cat((left, high[wide]))
            node, symbol = torch.cat((node, node[wide])), torch.cat((symbol, symbol[wide]))
        narrow = (high - low < _NARROW).all(1, keepdim=True)
        cells = torch.where(narrow, ((low + high) / (2 * _NARROW)).round().long(), (low + high > 0).long())
        return _merged(self.key(cells, node, symbol), low, high)

    def key(self, cells: Tensor, node: Tensor, symbol: Tensor) -> Tensor:
        """Where a state is, and its node and last symbol, as a number."""
        N = cells.shape[1]
        return node * NODE + ((cells * self.random[:N]).sum(1) + self.random[N + symbol] & (NODE - 1))

    def enclose(self, words: Words, boxes: int) -> tuple[Sets | None, float]:
        """Sets that hold all states at each node, each with its image, and the least margin; or None."""
        zero = torch.zeros(1, len(self.W), dtype=torch.float64, device="cpu")
        sets, new = Sets(torch.zeros(1, dtype=torch.int64, device="cpu"), zero, zero), zero[:, 0] == 0
        for _ in range(_ROUNDS):
            rank, answer = (x[sets.key // NODE] for x in (words.rank, words.answer))
            asked = new & (answer >= 0)
            if not (self.margin(*sets.of(asked)[1:], answer[asked]) > 0).all() or len(sets.key) > boxes:
                break
            if not new.any():
                asked = answer >= 0
                return sets, float(self.margin(*sets.of(asked)[1:], answer[asked]).min())
            now = new & (rank == rank[new].min())  # phase after phase: what comes later is wanted as it is in the end
            row, edge = words.edges(sets.key[now] // NODE)
            low, high = self.image(*sets.of(now)[1:], row, words.symbol[edge])
            there = self.cut(low, high, words.target[edge], words.symbol[edge], 8 * boxes)
            at = torch.searchsorted(sets.key, there.key).clamp(max=len(sets.key) - 1)
            inside = ((there.low >= sets.low[at]) & (there.high <= sets.high[at])).all(1) & (sets.key[at] == there.key)
            grown = there.of(~inside)
            fresh = torch.cat((sets.key[new & ~now], grown.key))
            more = grown.key, grown.low - _GROWN, grown.high + _GROWN
            sets = _merged(*(torch.cat(x) for x in zip(sets, more, strict=True)))
            new = torch.isin(sets.key, fresh)
        return None, torch.nan

    def search(
        self, words: Words, steps: int, windows: Sequence[range], *, most: int, apart: bool = True
    ) -> tuple[int, ...]:
        """A word that is answered wrong, of those whose states are followed; or nothing.

        In temporal order a symbol comes in each window, and the answer is asked for at the last step. All words are
        followed whose states are apart, as far as there are not too many; or else so many random ones, alike or not.
        """
        random, before = torch.Generator("cpu").manual_seed(0), list[tuple[Tensor, Tensor]]()
        begun_with = 1 if apart else most
        h, node = self.W.new_zeros(begun_with, len(self.W)), torch.zeros(begun_with, dtype=torch.int64, device="cpu")
        for t in range(steps):
            row, edge = words.edges(node)
            if windows:
                rank, to = (words.rank[x] for x in (node[row], words.target[edge]))
                over, begun = sum(w.stop <= t + 1 for w in windows), sum(w.start <= t for w in windows)
                legal = (to >= over) & ((to == rank) | (rank < begun))
                row, edge = row[legal], edge[legal]
            if not apart:
                at = one_each(row, random)
                row, edge = row[at], edge[at]
            symbol, node = words.symbol[edge], words.target[edge]
            h = (h[row] @ self.W.T + self.c[symbol]).tanh()
            answer = words.answer[node] if t + 1 == steps or not windows else torch.full_like(node, -1)
            asked = (answer >= 0).nonzero()[:, 0]
            wrong = asked[self.margin(h[asked], h[asked], answer[asked]) < -_GROWN]
            kept = torch.arange(len(h), dtype=torch.int64, device="cpu")
            if apart:
                key, at = self.key((h / _SAME).round().long(), node, symbol).sort(stable=True)
                kept = at[torch.cat((key[:1] == key[:1], key[1:] != key[:-1]))]
            order = torch.randperm(len(kept), generator=random, dtype=torch.int64, device="cpu")
            kept = wrong[:1] if len(wrong) else kept[order[:most]]
            before.append((row[kept], symbol[kept]))
            if len(wrong):
                return _word(before)
            h, node = h[kept], node[kept]
        return ()


def nets(networks: Parameters, disturbance: float) -> Iterator[Net]:
    p = networks.to("cpu", torch.float64)
    drawn, numbers = torch.Generator("cpu").manual_seed(0), networks.sizes.units + networks.sizes.inputs
    random = torch.randint(-(2**62), 2**62, (numbers,), generator=drawn, dtype=torch.int64, device="cpu")
    for W, c, W_out, b_out in zip(p.W_rec, p.W_in.mT + p.b[:, None], p.W_out, p.b_out, strict=True):
        error = disturbance + _SLACK * (1 + W.abs().sum(1) + c.abs().amax(0))
        yield Net(W, c, W_out, b_out, error, random)


def one_each(row: Tensor, random: torch.Generator) -> Tensor:
    """Where one of each row is, any of them with the same chance; rows are in order, and stay so."""
    at = (row + torch.rand(len(row), generator=random, dtype=torch.float64, device="cpu")).argsort()
    return at[torch.cat((row[:1] == row[:1], row[1:] != row[:-1]))]


def _merged(key: Tensor, low: Tensor, high: Tensor) -> Sets:
    """Boxes of one key as one box that holds them."""
    keys, at = key.unique(return_inverse=True)
    at, new = at[:, None].expand_as(low), low.new_empty(len(keys), low.shape[1])
    ends = (new.scatter_reduce(0, at, x, how, include_self=False) for x, how in ((low, "amin"), (high, "amax")))
    return Sets(keys, *ends)


def _word(before: list[tuple[Tensor, Tensor]]) -> tuple[int, ...]:
    """The symbols that led to the first state kept last."""
    word, k = [], 0
    for row, symbol in reversed(before):
        word.append(int(symbol[k]))
        k = int(row[k])
    return tuple(reversed(word))

"""Proofs that a network answers right at every length: sets that its states never leave, or a word that refutes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rnnlab import bits
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.pathological import TemporalOrder, ThreeBitTemporalOrder
from rnnlab.values import Count, Natural, Spread, checked, refusal, value, whole

Order = TemporalOrder | ThreeBitTemporalOrder
Wait = Annotated[int, partial(whole, at_least=0, at_most=10_000)]
_SLACK = 2.0**-40  # of what is summed: more than float64 loses in 4,000 terms; and of tanh, for what its code errs
_GROWN = 1e-6  # what a set gets beyond its image, so that a sequence of images that converges ends
_ROUNDS = 5_000
_APART = 16  # steps of a wait that have sets of their own
_NODE = 2**47  # keys of sets: node times this, and a hash of signs and symbol below; equal hashes share a hull
_SAME = 0.05  # the search goes on from one of the states that are this close in all units


def _waits(name: str, given: object) -> tuple[int, ...]:
    if not isinstance(given, tuple | list) or not given:
        raise refusal(name, "a tuple of symbols, such as (2, 3, 4, 5)", given)
    return tuple(whole(f"{name}[{i}]", symbol, at_least=0) for i, symbol in enumerate(given))


def _leads(name: str, given: object) -> tuple[tuple[int, int], ...]:
    if not isinstance(given, tuple | list) or not all(isinstance(one, tuple | list) and len(one) == 2 for one in given):
        raise refusal(name, "a tuple of pairs (symbol, number of a phase), such as ((0, 1), (1, 2))", given)
    return tuple((whole(name, symbol, at_least=0), whole(name, to, at_least=0)) for symbol, to in given)


@value
class Phase:
    """A part of a task: symbols that say nothing, at least so many, until one that leads to another phase.

    A tuple of them is a task: a sequence begins in the first, and may end in one that has an answer.

    Args:
        waits: symbols that may come while it lasts, in any order.
        fewest: how many of those come at least before a symbol leads on, or the answer is asked for.
        leads: symbols that end it, each with the number of the phase that follows.
        answer: class that is right at its end; None where a sequence cannot end.
        most: how many of `waits` come at most; None is any number.

    Raises:
        ValueError: a part is none of these.
    """

    waits: Annotated[tuple[int, ...], _waits]
    fewest: Wait = 0
    leads: Annotated[tuple[tuple[int, int], ...], _leads] = ()
    answer: Natural | None = None
    most: Wait | None = None


class Verdict(NamedTuple):
    """What is known of one network.

    Args:
        outcome: "proved" right on every sequence of the task, "refuted" by a sequence of it, or "open".
        length: of a task of a length, the shortest from which on it is proved; 0 where nothing is proved of one.
        margin: the right output less the largest other, at least, in the outputs' unit; NaN if nothing is proved.
        word: symbols of a sequence that is answered wrong, if it is refuted; else nothing.
        low: lower ends of boxes in which all states are, if it is proved; none else.
        high: their upper ends.
        phase: the phase of each.
        waited: how many of its symbols have come since that began; the last such number is that or more.
    """

    outcome: str
    length: int
    margin: float
    word: tuple[int, ...]
    low: Float[Tensor, "K N"]
    high: Float[Tensor, "K N"]
    phase: Int[Tensor, "K"]
    waited: Int[Tensor, "K"]


class _Words(NamedTuple):
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


class _Sets(NamedTuple):
    key: Tensor
    low: Tensor
    high: Tensor

    def of(self, rows: Tensor) -> "_Sets":
        """Some of them."""
        return _Sets(*(x[rows] for x in self))


@checked
def order(task: Order, length: Count, *, exactly: Sequence[int] = ()) -> tuple[Phase, ...]:
    """Temporal order as phases: what comes before, between and after the symbols to remember.

    Args:
        task: of which the windows are; its own length does not matter.
        length: steps of the shortest sequences.
        exactly: the steps at which the symbols come in sequences of just this length; nothing: all sequences of this
            length and longer ones. The phases then have those and some that are none, as the waits are apart.

    Raises:
        ValueError: the length is too short for the task, or a step is in no window.
    """
    whole("length", length, at_least=task.shortest, at_most=10_000)

    def windows(L: int) -> list[range]:
        return [range(start * L // 10, start * L // 10 + L // 10) for start in task.starts]

    def waits(steps: Sequence[Sequence[int]], L: int) -> list[int]:
        """The least waits in sequences of length L whose symbols come each at one of these steps."""
        return [min(steps[0]), *(min(b) - max(a) - 1 for a, b in pairwise(steps)), L - 1 - max(steps[-1])]

    if exactly and (
        len(exactly) != len(task.starts) or any(k not in w for k, w in zip(exactly, windows(length), strict=True))
    ):
        raise refusal("exactly", f"a step of each of {windows(length)}", exactly)
    # Ten steps more are one more in each window, and none less in each wait: ten lengths tell of all.
    each = [waits(windows(L), L) for L in range(length, length + 10)]
    each = [waits([[k] for k in exactly], length)] if exactly else each
    phases, others = [], tuple(range(2, task.inputs))
    for i, fewest in enumerate(map(min, zip(*each, strict=True))):
        for k in range(2**i):  # the bits so far are first + 2 second + ..., as in the class
            a, last = 2 ** (i + 1) - 1 + k, i == len(task.starts)
            leads = () if last else ((0, a), (1, a + 2**i))
            phases.append(Phase(others, fewest, leads, k if last else None, fewest if exactly else None))
    return tuple(phases)


@checked
def prove(
    networks: Parameters,
    task: Order | Sequence[Phase],
    *,
    lengths: Sequence[int] = (10, 20, 50, 100),
    disturbance: Spread = 0.001,
    boxes: Count = 4000,
) -> list[Verdict]:
    """What is known of each network on every sequence of a task: a proof, a word that refutes it, or neither.

    A network is h' = tanh(W_rec h + W_in u + b + e), from h = 0, with one symbol u at a step. The states that it may be
    in at each node of the task are enclosed in boxes, apart by the signs of units and by the symbol that came; a wide
    box with an undecided sign is cut at 0. Once the image of every box is in the boxes where it leads, all states are
    for ever. The proof is one for real numbers, by bounds on the rounding of float64 and on its tanh, and for a run in
    float32 if that rounds by less than the disturbance. A word is a sequence that was followed; its states are real.

    Args:
        networks: of the simple cell with tanh.
        task: temporal order with its windows, or phases: all words of these.
        lengths: of temporal order, shortest ones to be proved from, one after the other; a refuting word is as long as
            the last, or longer.
        disturbance: largest modulus of e, which may be another in each unit at each step; dimensionless.
        boxes: how many at the most.

    Raises:
        ValueError: networks are of another cell or not finite, or a phase has what they or the task have not.
    """
    if networks.sizes.cell is not None or not networks.theta.isfinite().all():
        raise refusal("networks", "of the simple cell with tanh, and finite", networks.theta)
    tried: dict[int, Sequence[Phase]] = {L: order(task, L) for L in lengths} if isinstance(task, Order) else {0: task}
    proofs = [(L, _unrolled(_fitting(phases, networks))) for L, phases in tried.items()]
    if not proofs:
        raise refusal("lengths", "one or more", lengths)
    return [_verdict(net, task, proofs, boxes) for net in _nets(networks, disturbance)]


def _unrolled(phases: Sequence[Phase]) -> _Words:
    """Each phase as a chain of nodes; in the last of these it goes on."""
    last = [max(p.fewest, _APART) if p.most is None else p.most for p in phases]
    begins = [0, *accumulate(n + 1 for n in last)]
    rank, queue = {0: 0}, [0]
    for p in queue:
        new = [to for _, to in phases[p].leads if to not in rank and to < len(phases)]
        rank |= dict.fromkeys(new, rank[p] + 1)
        queue += dict.fromkeys(new)
    nodes: list[tuple[int, ...]] = []
    edges: list[tuple[int, int]] = []
    for p, phase in enumerate(phases):
        for k in range(last[p] + 1):
            done, on = k >= phase.fewest, min(k + 1, last[p])
            out = [(s, begins[p] + on) for s in phase.waits] if phase.most is None or k < phase.most else []
            out += [(s, begins[to]) for s, to in phase.leads] if done else []
            answer = phase.answer if done and phase.answer is not None else -1
            nodes.append((p, k, answer, rank.get(p, 0), len(edges), len(out)))
            edges += out
    columns = (*zip(*nodes, strict=True), *zip(*edges, strict=True))
    return _Words(*(torch.tensor(column, dtype=torch.int64, device="cpu") for column in columns))


def _fitting(phases: Sequence[Phase], networks: Parameters) -> Sequence[Phase]:
    """The phases.

    Raises:
        ValueError: they are none of these networks, or no task.
    """
    I, O, P = networks.sizes.inputs, networks.sizes.outputs, range(len(phases))
    if not P or all(phase.answer is None for phase in phases):
        raise refusal("task", "phases of which one has an answer", phases)
    for phase in phases:
        if max(*phase.waits, *(s for s, _ in phase.leads), 0) >= I or (phase.answer or 0) >= O:
            raise refusal("task", f"of symbols below {I} and answers below {O}, as the networks are", phase)
        if not {to for _, to in phase.leads} <= {*P} or (phase.most is not None and phase.most < phase.fewest):
            raise refusal("task", f"of phases that lead to one of {len(P)} and have `most` from `fewest` on", phase)
    return phases


@dataclass(frozen=True, eq=False)
class _Net:
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

    def cut(self, low: Tensor, high: Tensor, node: Tensor, symbol: Tensor, most: int) -> _Sets:
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
        return _merged(self.key((low + high > 0).long(), node, symbol), low, high)

    def key(self, cells: Tensor, node: Tensor, symbol: Tensor) -> Tensor:
        """Where a state is, and its node and last symbol, as a number."""
        N = cells.shape[1]
        return node * _NODE + ((cells * self.random[:N]).sum(1) + self.random[N + symbol] & (_NODE - 1))

    def enclose(self, words: _Words, boxes: int) -> tuple[_Sets | None, float]:
        """Sets that hold all states at each node, each with its image, and the least margin; or None."""
        zero = torch.zeros(1, len(self.W), dtype=torch.float64, device="cpu")
        sets, new = _Sets(torch.zeros(1, dtype=torch.int64, device="cpu"), zero, zero), torch.ones(1).bool()
        for _ in range(_ROUNDS):
            rank, answer = (x[sets.key // _NODE] for x in (words.rank, words.answer))
            asked = new & (answer >= 0)
            if (self.margin(*sets.of(asked)[1:], answer[asked]) <= 0).any() or len(sets.key) > boxes:
                break
            if not new.any():
                asked = answer >= 0
                return sets, float(self.margin(*sets.of(asked)[1:], answer[asked]).min())
            now = new & (rank == rank[new].min())  # phase after phase: what comes later is wanted as it is in the end
            row, edge = words.edges(sets.key[now] // _NODE)
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

    def search(self, words: _Words, steps: int, *, most: int = 500) -> tuple[int, ...]:
        """A word that is answered wrong, of those whose states are followed; or nothing."""
        random = torch.Generator("cpu").manual_seed(0)
        h, node = (
            torch.zeros(1, *s, dtype=t, device="cpu") for s, t in (((len(self.W),), torch.float64), ((), torch.int64))
        )
        before: list[tuple[Tensor, Tensor]] = []
        for _ in range(steps):
            row, edge = words.edges(node)
            symbol, node = words.symbol[edge], words.target[edge]
            h = (h[row] @ self.W.T + self.c[symbol]).tanh()
            answer = words.answer[node]
            asked = (answer >= 0).nonzero()[:, 0]
            wrong = asked[self.margin(h[asked], h[asked], answer[asked]) < -_GROWN]
            key, at = self.key((h / _SAME).round().long(), node, symbol).sort(stable=True)
            kept = at[torch.cat((key[:1] == key[:1], key[1:] != key[:-1]))]
            kept = wrong[:1] if len(wrong) else kept[torch.randperm(len(kept), generator=random)[:most]]
            before.append((row[kept], symbol[kept]))
            if len(wrong):
                return _word(before)
            h, node = h[kept], node[kept]
        return ()

    def drawn(self, task: Order, length: int) -> tuple[int, ...]:
        """A word that is answered wrong, of those that the task draws of this length; or nothing."""
        zero, h = torch.zeros(1, dtype=torch.int64, device="cpu"), self.W.new_zeros(500, len(self.W))
        batch = replace(task, length=length).chunk(zero, zero, batch=500, stream=bits.TEST)[0]
        for symbols in batch.inputs[0].long():
            h = (h @ self.W.T + self.c[symbols]).tanh()
        wrong = self.margin(h, h, batch.targets[0, 0].long()) < -_GROWN
        return tuple(batch.inputs[0, :, wrong.nonzero()[0, 0]].tolist()) if wrong.any() else ()


def _nets(networks: Parameters, disturbance: float) -> Iterator[_Net]:
    p = networks.to("cpu", torch.float64)
    drawn, numbers = torch.Generator("cpu").manual_seed(0), networks.sizes.units + networks.sizes.inputs
    random = torch.randint(-(2**62), 2**62, (numbers,), generator=drawn, dtype=torch.int64, device="cpu")
    for W, c, W_out, b_out in zip(p.W_rec, p.W_in.mT + p.b[:, None], p.W_out, p.b_out, strict=True):
        error = disturbance + _SLACK * (1 + W.abs().sum(1) + c.abs().amax(0))
        yield _Net(W, c, W_out, b_out, error, random)


def _merged(key: Tensor, low: Tensor, high: Tensor) -> _Sets:
    """Boxes of one key as one box that holds them."""
    keys, at = key.unique(return_inverse=True)
    at, new = at[:, None].expand_as(low), low.new_empty(len(keys), low.shape[1])
    ends = (new.scatter_reduce(0, at, x, how, include_self=False) for x, how in ((low, "amin"), (high, "amax")))
    return _Sets(keys, *ends)


def _word(before: list[tuple[Tensor, Tensor]]) -> tuple[int, ...]:
    """The symbols that led to the first state kept last."""
    word, k = [], 0
    for row, symbol in reversed(before):
        word.append(int(symbol[k]))
        k = int(row[k])
    return tuple(reversed(word))


def _verdict(
    net: _Net,
    task: Order | Sequence[Phase],
    proofs: list[tuple[int, _Words]],
    boxes: int,
) -> Verdict:
    for length, words in proofs:
        sets, margin = net.enclose(words, boxes)
        if sets is not None:
            node = sets.key // _NODE
            return Verdict("proved", length, margin, (), sets.low, sets.high, words.phase[node], words.waited[node])
    word = _refuted(net, task, proofs[-1])
    none = torch.zeros(0, dtype=torch.int64, device="cpu")
    box = net.W[:0]
    return Verdict("refuted" if word else "open", 0, torch.nan, word, box, box, none, none)


def _refuted(net: _Net, task: Order | Sequence[Phase], proof: tuple[int, _Words]) -> tuple[int, ...]:
    """A word that is answered wrong, of the task's own words: drawn, or found among all that begin alike."""
    L, words = proof
    if not isinstance(task, Order):
        return net.search(words, 100)
    for length in (2 * L, 10 * L):
        if word := net.drawn(task, length):
            return word
    ends = [(s * L // 10, s * L // 10 + L // 10 - 1) for s in task.starts]
    for steps in product(*ends):
        if word := net.search(_unrolled(order(task, L, exactly=steps)), L):
            return word
    return ()

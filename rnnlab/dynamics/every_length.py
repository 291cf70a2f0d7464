"""Proofs that a network answers right at every length: sets that its states never leave, or a word that refutes it."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rnnlab.dynamics.enclosing import NODE, Net, Words, nets
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.pathological import TemporalOrder, ThreeBitTemporalOrder
from rnnlab.values import Count, Natural, Spread, checked, refusal, value, whole

Order = TemporalOrder | ThreeBitTemporalOrder
Wait = Annotated[int, partial(whole, at_least=0, at_most=10_000)]
_APART = 16  # steps of a wait that have sets of their own


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

    Raises:
        ValueError: a part is none of these.
    """

    waits: Annotated[tuple[int, ...], _waits]
    fewest: Wait = 0
    leads: Annotated[tuple[tuple[int, int], ...], _leads] = ()
    answer: Natural | None = None


class Boxes(NamedTuple):
    """Boxes in which all states are: a state has passed, each symbol leads from its box into boxes of the list.

    Args:
        low: their lower ends.
        high: their upper ends.
        phase: the phase of each.
        waited: how many of its symbols have come since that began; the largest such number is that or more.
    """

    low: Float[Tensor, "K N"]
    high: Float[Tensor, "K N"]
    phase: Int[Tensor, "K"]
    waited: Int[Tensor, "K"]


class Verdict(NamedTuple):
    """What is known of one network.

    Args:
        outcome: "proved" right on every sequence of the task, "refuted" by a sequence of it, or "open".
        length: of temporal order, the shortest from which on it is proved; else 0.
        margin: the right output less the largest other, at least, in the outputs' unit; NaN if nothing is proved.
        boxes: what proves it, if it is proved.
        word: symbols of a sequence that is answered wrong, if it is refuted; else nothing.
    """

    outcome: str
    length: int = 0
    margin: float = torch.nan
    boxes: Boxes | None = None
    word: tuple[int, ...] = ()


@checked
def order(task: Order, length: Count) -> tuple[Phase, ...]:
    """Temporal order as phases, from a length on: what comes before, between and after the symbols to remember.

    They allow all sequences of the task that are this long or longer, and some that are none, as each wait is apart.

    Args:
        task: of which the windows are; its own length does not matter.
        length: of the shortest sequences, in steps.

    Raises:
        ValueError: the length is too short for the task, or beyond 10,000.
    """
    whole("length", length, at_least=task.shortest, at_most=10_000)
    waits, phases = [], []
    for L in range(length, length + 10):  # ten steps more are one more in each window, and none less in each wait
        windows = _windows(task, L)
        between = [b.start - a.stop for a, b in pairwise(windows)]
        waits.append((windows[0].start, *between, L - windows[-1].stop))
    for i, fewest in enumerate(map(min, zip(*waits, strict=True))):
        for k in range(2**i):  # the bits so far are first + 2 second + ..., as in the class
            a, last = 2 ** (i + 1) - 1 + k, i == len(task.starts)
            leads = () if last else ((0, a), (1, a + 2**i))
            phases.append(Phase(tuple(range(2, task.inputs)), fewest, leads, k if last else None))
    return tuple(phases)


@checked
def prove(
    networks: Parameters,
    task: Order | Sequence[Phase],
    *,
    lengths: Sequence[int] = (10, 20, 50, 100),
    disturbance: Spread = 5e-5,
    boxes: Count = 8000,
) -> list[Verdict]:
    """What is known of each network on every sequence of a task: a proof, a word that refutes it, or neither.

    A network is h' = tanh(W_rec h + W_in u + b + e), from h = 0, with one symbol u at a step. The states that it may be
    in at each node of the task are enclosed in boxes, apart by the symbol that came, and by where they are while they
    are narrow, by the signs of units once they are not; a wide box with an undecided sign is cut at 0. Once the image
    of every box is in the boxes where it leads, all states are for ever. The proof is one for real numbers, by bounds
    on the rounding of float64 and on its tanh; and for a run in float32 if that rounds by less than the disturbance,
    and by less than the margin in its outputs. A word is a sequence that was followed; its states are real.

    Args:
        networks: of the simple cell with tanh.
        task: temporal order with its windows, or phases: all words of these.
        lengths: of temporal order, from which on it may be proved, increasing; the shortest that is counts, and a
            refuting word is as long as the last, or longer.
        disturbance: largest modulus of e, which may be another in each unit at each step; dimensionless. Float32 rounds
            by less than the default up to some 50 units, as the page `every_length` computes.
        boxes: how many at the most.

    Raises:
        ValueError: networks are of another cell, too large or not finite, or a phase has what they have not.
    """
    if networks.sizes.cell is not None or networks.sizes.units > 4_000 or not networks.theta.isfinite().all():
        raise refusal("networks", "of the simple cell with tanh, of at most 4,000 units, and finite", networks.theta)
    if not lengths or list(lengths) != sorted(set(lengths)) or lengths[0] < 10 or lengths[-1] > 2_000:
        raise refusal("lengths", "one or more from 10 to 2,000 that increase", lengths)
    tried: dict[int, Sequence[Phase]] = {L: order(task, L) for L in lengths} if isinstance(task, Order) else {0: task}
    proofs = [(L, _unrolled(phases, networks)) for L, phases in tried.items()]
    return [_verdict(net, task, proofs, boxes) for net in nets(networks, disturbance)]


def _windows(task: Order, L: int) -> list[range]:
    return [range(start * L // 10, start * L // 10 + L // 10) for start in task.starts]


def _unrolled(phases: Sequence[Phase], networks: Parameters) -> Words:
    """Each phase as a chain of nodes; in the last of these it goes on."""
    I, O, P = networks.sizes.inputs, networks.sizes.outputs, len(phases)
    for phase in phases:
        symbols, to = {*phase.waits, *(s for s, _ in phase.leads)}, {0, *(to for _, to in phase.leads)}
        if max(symbols) >= I or max(to) >= P or (phase.answer or 0) >= O:
            raise refusal("task", f"of symbols below {I}, phases below {P} and answers below {O}", phase)
    last = [max(phase.fewest, _APART) for phase in phases]
    begins = [0, *accumulate(n + 1 for n in last)]
    rank, queue = {0: 0}, [0]
    for p in queue:
        new = {to: rank[p] + 1 for _, to in phases[p].leads if to not in rank}
        rank |= new
        queue += new
    if all(phases[p].answer is None for p in rank):
        raise refusal("task", "phases of which one that can be reached has an answer", phases)
    nodes: list[tuple[int, ...]] = []
    edges: list[tuple[int, int]] = []
    for p, phase in enumerate(phases):
        for k in range(last[p] + 1):
            done = k >= phase.fewest
            out = [(s, begins[p] + min(k + 1, last[p])) for s in phase.waits]
            out += [(s, begins[to]) for s, to in phase.leads if done]
            answer = phase.answer if done and phase.answer is not None else -1
            nodes.append((p, k, answer, rank.get(p, 0), len(edges), len(out)))
            edges += out
    if len(nodes) > (most := 2**63 // NODE):  # as keys of sets have them
        raise refusal("task", f"of at most {most:,} nodes, a phase's `fewest` and {_APART} at least", len(nodes))
    columns = (*zip(*nodes, strict=True), *zip(*edges, strict=True))
    return Words(*(torch.tensor(column, dtype=torch.int64, device="cpu") for column in columns))


def _verdict(net: Net, task: Order | Sequence[Phase], proofs: list[tuple[int, Words]], boxes: int) -> Verdict:
    (last, longest), found = proofs[-1], Verdict("open")

    def word(steps: int, most: int, *, apart: bool = True) -> tuple[int, ...]:
        windows = _windows(task, steps) if isinstance(task, Order) else ()
        return net.search(longest, steps, windows, most=most, apart=apart)

    if hit := word(last or 100, 32):
        return Verdict("refuted", word=hit)
    for length, words in reversed(proofs):  # what is not proved from here on is not proved from an earlier length
        sets, margin = net.enclose(words, boxes)
        if sets is None:
            break
        node = sets.key // NODE
        found = Verdict("proved", length, margin, Boxes(*sets[1:], words.phase[node], words.waited[node]))
    for steps in (last or 100, 10 * (last or 100)):
        if found.outcome == "open" and (hit := word(steps, 500) or word(steps, 500, apart=False)):
            return Verdict("refuted", word=hit)
    return found

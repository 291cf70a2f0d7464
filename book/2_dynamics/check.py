"""Is a tanh network right on every word of a task? From its weights and the task alone, in balls: check.py FILE [WORD]

FILE is JSON: W, W_in, b, W_out, b_out, read as exact; disturbance, which bounds what a pre-activation is off by; and a
task. That is starts and length: temporal order from a length on, with windows that start at so many tenths of it. Or
phases, of each: symbols that may come while it lasts, how many come at least, [symbol, phase] that may follow, and the
answer that may then be asked for, or null. Prints the least margin of the right output over all words, or that of WORD.
"""

import json
import math
import sys
from pathlib import Path

from flint import arb, arb_mat, ctx

ctx.prec, APART, GROWN, MOST = 80, 16, 1e-6, 20_000  # bits; steps of a phase told apart; beyond an image; boxes


def windows(starts, L):
    return [range(s * L // 10, s * L // 10 + L // 10) for s in starts]


def order(starts, length):  # ten steps more make no wait shorter, so ten lengths tell of all
    spans = [[range(0), *windows(starts, L), range(L, L)] for L in range(length, length + 10)]
    fewest = [min(span[i + 1].start - span[i].stop for span in spans) for i in range(len(starts) + 1)]
    nodes = [(i, k) for i in range(len(fewest)) for k in range(2**i)]  # symbols that have come, first + 2 second + ...
    leads = [[[s, nodes.index((i + 1, k + (s << i)))] for s in (0, 1) if i < len(starts)] for i, k in nodes]
    return [[[2, 3, 4, 5], fewest[i], lead, None if lead else k] for (i, k), lead in zip(nodes, leads, strict=True)]


def after(phases, phase, steps):  # (symbol, phase, steps in it) that may come next
    waits, fewest, leads, _ = phases[phase]
    going = [(s, phase, min(steps + 1, max(fewest, APART))) for s in waits]
    return going + [(s, to, 0) for s, to in leads if steps >= fewest]


def below(ball):  # a double
    return math.nextafter(float(ball.lower()), -math.inf)


def sums(net, state, s):
    return [a + arb(b) + arb(c[s]) for a, b, c in zip(state, net["b"], net["W_in"], strict=True)]


def margin(net, state, answer):  # the right output less each other
    V, v = net["W_out"], [arb(y) for y in net["b_out"]]
    gaps = [[(arb(a) - arb(b)) * x for a, b, x in zip(V[answer], row, state, strict=True)] for row in V]
    return [v[answer] - v[k] + sum(gap) for k, gap in enumerate(gaps) if k != answer]


def cut(box):  # a wide box with an undecided sign in two, and so on
    width, i = max((high - low if low < 0 < high else 0, i) for i, (low, high) in enumerate(box))
    halves = [(box[i][0], 0.0), (0.0, box[i][1])] if width > 0.5 else []
    return [part for half in halves for part in cut((*box[:i], half, *box[i + 1 :]))] or [box]


def images(net, box, edges):  # tanh is increasing: the ends of a sum bound its values
    Wx = (arb_mat(net["W"]) * arb_mat([[arb(a).union(arb(b))] for a, b in box])).entries()
    for symbol, phase, steps in edges:
        ends = [a + arb(0, net.get("disturbance", 0.0)) for a in sums(net, Wx, symbol)]
        for part in cut(tuple((below(a.lower().tanh()), -below(-a.upper().tanh())) for a in ends)):
            narrow = all(b - a < 0.1 for a, b in part)  # apart by tenths, else by signs
            yield (phase, steps, symbol, tuple(round(5 * (a + b)) if narrow else a + b > 0 for a, b in part)), part


def prove(net, phases):  # boxes, each of which every symbol that may come maps into others; then their least margin
    sets = {(0, 0, None, ()): ((0.0, 0.0),) * len(net["b"])}  # by phase, steps in it, last symbol, place
    new = set(sets)
    while new and len(sets) <= MOST:
        now = {key for key in new if key[0] == min(new, key=lambda key: key[0])[0]}  # one phase after the other
        new -= now
        for phase, steps, *rest in now:
            edges = after(phases, phase, steps)
            for key, box in images(net, sets[phase, steps, *rest], edges):
                ends = list(zip(box, sets.get(key, box), strict=True))
                if key not in sets or any(a < c or b > d for (a, b), (c, d) in ends):
                    sets[key] = tuple((min(a - GROWN, c), max(b + GROWN, d)) for (a, b), (c, d) in ends)
                    new.add(key)
    asked = [(phases[p][3], box) for (p, n, *_), box in sets.items() if n >= phases[p][1] and phases[p][3] is not None]
    gaps = [margin(net, [arb(a).union(arb(b)) for a, b in box], answer) for answer, box in asked]
    return math.nan if new else min(below(gap) for several in gaps for gap in several)


def follow(net, phases, word):  # the margin after a word of the task, as a ball
    ctx.prec, x, phase, steps = 80 + 16 * len(word), arb_mat(len(net["b"]), 1), 0, 0
    for s in word:
        ((phase, steps),) = [to for symbol, *to in after(phases, phase, steps) if symbol == s]
        x = arb_mat([[a.tanh()] for a in sums(net, (arb_mat(net["W"]) * x).entries(), s)])
    return min(margin(net, x.entries(), phases[phase][3]), key=lambda gap: float(gap.mid()))


if __name__ == "__main__":
    net, word = json.loads(Path(sys.argv[1]).read_text()), [int(s) for s in "".join(sys.argv[2:])]
    phases, starts = net.get("phases") or order(net["starts"], net["length"]), net.get("starts", ())
    told = [k for k, s in enumerate(word) if s < 2 and starts]
    assert not word or all(k in w for k, w in zip(told, windows(starts, len(word)), strict=True)), "no word of the task"
    print(follow(net, phases, word) if word else prove(net, phases))

"""Networks proved right at every length: by closed form, against all words, and by a checker that stands alone."""

import importlib.util
import math
from itertools import pairwise, product
from pathlib import Path

import mpmath
import pytest
import torch

from rnnlab import BasicTanh
from rnnlab.dynamics.enclosing import nets, one_each
from rnnlab.dynamics.every_length import Phase, _unrolled, order, prove
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.sweeps.summaries import read_summary
from rnnlab.tasks.pathological import TemporalOrder, ThreeBitTemporalOrder

CHECKER = Path(__file__).parents[2] / "book" / "2_dynamics" / "check.py"
W = 2.0
CRITICAL = W * math.sqrt(1 - 1 / W) - math.atanh(math.sqrt(1 - 1 / W))  # the push that takes a unit of weight W over
LAST = (  # which of 0 and 1 came last, among others
    Phase((2, 3), leads=((0, 1), (1, 2))),
    Phase((2, 3), 1, leads=((1, 2),), answer=0),
    Phase((2, 3), 1, leads=((0, 1),), answer=1),
)


def latch(share):
    """One unit that 0 sets and 1 resets; 2 and 3 push it up and down by a share of what is critical."""
    network = Parameters.zeros(Sizes(4, 1, 2), 1, dtype=torch.float64)
    network.W_rec[:] = W
    network.W_in[0, 0] = torch.tensor([6, -6, share * CRITICAL, -share * CRITICAL], dtype=torch.float64)
    network.W_out[0, :, 0] = torch.tensor([1.0, -1.0])
    return network


def flags(gain=3.0):
    """Temporal order in seven units, set by hand: a symbol was seen; A, B first; A, B second; and both bits."""
    network = Parameters.zeros(Sizes(6, 7, 4), 1)
    W_rec, W_in, b = network.W_rec[0], network.W_in[0], network.b[0]
    W_rec[0, 0], W_in[0, :2], b[0] = 1, 3, -0.3
    for i, (symbol, seen) in enumerate(((0, -1), (1, -1), (0, 1), (1, 1)), start=1):
        W_rec[i, 0], W_in[i, symbol], b[i] = seen, 2, -2
    for bit, a in ((5, 1), (6, 3)):
        W_rec[bit, bit], W_rec[bit, a], W_rec[bit, a + 1] = 1, 1, -1
    for k in range(4):
        network.W_out[0, k, 5], network.W_out[0, k, 6] = 1 - 2 * (k & 1), 1 - 2 * (k >> 1)
    for x in (W_rec, W_in, b):
        x *= gain
    return network


def checker():
    spec = importlib.util.spec_from_file_location("check", CHECKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(network, disturbance=5e-5, **task):
    """A network and its task, as the checker is told of them."""
    names = ("W", "W_in", "b", "W_out", "b_out")
    views = (network.W_rec, network.W_in, network.b, network.W_out, network.b_out)
    return {name: x[0].tolist() for name, x in zip(names, views, strict=True)} | {"disturbance": disturbance} | task


def written(phases):
    return [[list(p.waits), p.fewest, [list(lead) for lead in p.leads], p.answer] for p in phases]


def margins(network, words, answers):
    """The right output less the largest other after each word, by a loop apart."""
    W_rec, W_in, b, V, v = (
        network.to(torch.float64).views[name][0] for name in ("W_rec", "W_in", "b", "W_out", "b_out")
    )
    h = torch.zeros(len(words), len(b), dtype=torch.float64)
    for symbols in words.T:
        h = torch.tanh(h @ W_rec.T + W_in.T[symbols] + b)
    y = h @ V.T + v
    return y.gather(1, answers[:, None])[:, 0] - y.scatter(1, answers[:, None], -torch.inf).amax(1)


def every_word(length=10):
    """All sequences of temporal order of a length at which each window is one step."""
    first, second = length // 10, length // 2
    rest = torch.tensor(list(product(range(2, 6), repeat=length - 2)))
    words = []
    for a, b in product((0, 1), repeat=2):
        one, other = (rest.new_full((len(rest), 1), bit) for bit in (a, b))
        words.append(torch.cat((rest[:, :first], one, rest[:, first : second - 1], other, rest[:, second - 1 :]), 1))
    return torch.cat(words), torch.tensor([0, 2, 1, 3]).repeat_interleave(len(rest))


def test_a_margin_that_is_no_number_is_no_proof():
    unit = latch(0.5)
    unit = Parameters(unit.theta.double(), unit.sizes)
    unit.W_out.copy_(1.7e308 * unit.W_out.sign())
    unit.b_out.fill_(1.7e308)
    assert prove(unit, LAST)[0].outcome == "open"


def test_a_unit_is_proved_right_below_the_critical_push_and_refuted_above_it_by_that_push_again_and_again():
    below, above = (prove(latch(share), LAST, disturbance=0)[0] for share in (0.97, 1.03))
    assert (below.outcome, below.word, above.outcome, above.boxes) == ("proved", (), "refuted", None)
    last = max(i for i, s in enumerate(above.word) if s < 2)
    assert set(above.word[last + 1 :]) <= {3 - above.word[last], *above.word[last + 1 :]}
    assert float(margins(latch(1.03), torch.tensor([above.word]), torch.tensor([above.word[last]]))) < 0


def test_a_disturbance_adds_to_the_push():
    assert prove(latch(0.5), LAST, disturbance=0.47 * CRITICAL)[0].outcome == "proved"
    assert prove(latch(0.5), LAST, disturbance=0.53 * CRITICAL)[0].outcome == "open"


def test_the_margin_is_that_of_the_worst_state_which_the_unit_can_get_to():
    fixed = mpmath.findroot(lambda h: mpmath.tanh(W * h - 0.5 * CRITICAL) - h, 0.9)
    found = prove(latch(0.5), LAST, disturbance=0)[0]
    assert 0 <= 2 * float(fixed) - found.margin < 1e-4
    low = found.boxes.low[found.boxes.phase == 1].min()
    assert 0 <= float(fixed) - float(low) < 1e-4


def test_a_network_set_by_hand_is_proved_right_and_is_so_on_every_word_of_length_ten():
    (found,) = prove(flags(), TemporalOrder())
    assert (found.outcome, found.length) == ("proved", 10)
    least = float(margins(flags(), *every_word()).min())
    assert 0 < found.margin <= least < found.margin + 0.5


def test_all_states_are_in_the_boxes_of_their_phase():
    (found,), phases = prove(flags(), TemporalOrder()), order(TemporalOrder(), 10)
    low, high, phase, waited = found.boxes
    network, generator = flags().to(torch.float64), torch.Generator().manual_seed(0)
    for _ in range(20):
        h, p, n = torch.zeros(7, dtype=torch.float64), 0, 0
        for _ in range(60):
            inside = ((h >= low) & (h <= high)).all(1)
            assert inside[(phase == p) & (waited == min(n, int(waited[phase == p].max())))].any()
            lead = n >= phases[p].fewest and bool(phases[p].leads) and torch.rand(1, generator=generator) < 0.2
            symbol = int(torch.randint(2, (1,), generator=generator)) + (0 if lead else 2 + 2 * (n % 2))
            p, n = (dict(phases[p].leads)[symbol], 0) if lead else (p, n + 1)
            h = torch.tanh(network.W_rec[0] @ h + network.W_in[0, :, symbol] + network.b[0])


@pytest.mark.parametrize("task", [TemporalOrder(), TemporalOrder(second_window="v2"), ThreeBitTemporalOrder()])
@pytest.mark.parametrize("length", [10, 20, 57])
def test_the_phases_of_temporal_order_wait_as_its_shortest_sequences_do_and_end_in_its_class(task, length):
    phases, waits = order(task, length), []
    for L in range(length, length + 200):
        windows = [range(s * L // 10, s * L // 10 + L // 10) for s in task.starts]
        # All places where that is few; a wait is least where one window ends and the next begins, or at its two ends.
        places = product(*windows) if length + 20 > L else product(*((w[0], w[-1]) for w in windows))
        waits += [[b - a - 1 for a, b in pairwise((-1, *one, L))] for one in places]
    least = torch.tensor(waits).amin(0).tolist()
    for bits in product((0, 1), repeat=len(task.starts)):
        phase = 0
        for bit, fewest in zip(bits, least, strict=False):
            assert phases[phase].fewest == fewest
            assert phases[phase].answer is None
            phase = dict(phases[phase].leads)[bit]
        assert (phases[phase].fewest, phases[phase].leads) == (least[-1], ())
        assert phases[phase].answer == sum(bit << i for i, bit in enumerate(bits))


@pytest.mark.parametrize("fault", ["swapped rows", "halved W_rec"])
def test_a_network_that_is_damaged_is_refuted_by_a_word_of_the_task_and_the_checker_says_so_too(fault):
    network, check = flags(), checker()
    check.MOST = 1000
    if fault == "swapped rows":
        network.W_out[0] = network.W_out[0][[1, 0, 2, 3]]
    else:
        network.W_rec *= 0.5
    (found,) = prove(network, TemporalOrder())
    assert found.outcome == "refuted"
    (a, first), (b, second) = ((s, k) for k, s in enumerate(found.word) if s < 2)
    L = len(found.word)
    assert L >= 100
    assert L // 10 <= first < 2 * (L // 10)
    assert L // 2 <= second < L // 2 + L // 10
    assert float(margins(network, torch.tensor([found.word]), torch.tensor([a + 2 * b]))) < 0
    given = told(network)
    assert check.follow(given, check.order([1, 5], 10), found.word) < 0
    assert not check.prove(given, check.order([1, 5], 10)) > 0


def test_random_words_are_words_of_the_task_and_refute_what_errs_on_many_and_not_what_errs_on_none():
    task, good, bad = TemporalOrder(), flags(), flags()
    bad.W_out[0] = bad.W_out[0][[1, 0, 2, 3]]
    windows, words = [range(10, 20), range(50, 60)], _unrolled(order(task, 100), good)
    found = [next(nets(one, 0.0)).search(words, 100, windows, most=200, apart=False) for one in (good, bad)]
    assert found[0] == ()
    assert [next(k for k, s in enumerate(found[1]) if s < 2 and k >= w.start) in w for w in windows] == [True, True]
    assert (len(found[1]), sum(s < 2 for s in found[1]), len(set(found[1]) - {0, 1}) > 1) == (100, 2, True)
    a, b = (s for s in found[1] if s < 2)
    assert float(margins(bad, torch.tensor([found[1]]), torch.tensor([a + 2 * b]))) < 0


def test_a_random_word_goes_on_by_one_symbol_of_those_that_may_come_each_as_often():
    row, random = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2]), torch.Generator("cpu").manual_seed(1)
    drawn = torch.stack([one_each(row, random) for _ in range(4000)])
    assert torch.equal(row[drawn], torch.tensor([0, 1, 2]).expand(4000, 3))
    share = torch.bincount(drawn.flatten(), minlength=8) / 4000
    assert share.tolist() == pytest.approx([1 / 3] * 3 + [1] + [1 / 4] * 4, abs=5 * 0.5 / 4000**0.5)


def test_the_checker_finds_the_same_margin_from_the_weights_alone():
    check, (found,) = checker(), prove(flags(), TemporalOrder())
    assert check.order([1, 5], 10) == written(order(TemporalOrder(), 10))
    assert check.order([1, 3, 6], 23) == written(order(ThreeBitTemporalOrder(), 23))
    assert check.prove(told(flags()), check.order([1, 5], 10)) == pytest.approx(found.margin, abs=1e-4)
    check.MOST = 1000
    proofs = [check.prove(told(latch(share), 0.0), written(LAST)) for share in (0.97, 1.03)]
    assert proofs[0] == pytest.approx(prove(latch(0.97), LAST, disturbance=0)[0].margin, abs=1e-3)
    assert not proofs[1] > 0


def test_the_checker_follows_a_word_as_exactly_as_it_is_asked_and_refuses_one_that_is_none():
    check, word = checker(), (0, *[3] * 20)
    with mpmath.workdps(60):
        h = mpmath.mpf(0)
        for c in (6.0, *[-1.03 * CRITICAL] * 20):
            h = mpmath.tanh(W * h + c)
        ball = check.follow(told(latch(1.03)), written(LAST), word)
        assert float(ball.rad()) < 1e-20
        assert abs(mpmath.mpf(str(ball.mid().str(40, radius=False))) - 2 * h) < 1e-30
    with pytest.raises(ValueError, match="unpack"):
        check.follow(told(latch(1.03)), written(LAST), (0, 0))


@pytest.mark.parametrize(
    ("units", "name"), [(N, f"{name}_{N}") for N in (6, 8, 16) for name in ("every_length", "consistency")]
)
def test_the_checker_proves_a_stored_network_and_not_what_is_left_of_it_when_its_weights_are_halved(units, name):
    check, table = checker(), read_summary(CHECKER.parents[1] / "results" / f"{name}.summary")
    theta, proved = torch.from_numpy(table["theta"].values[-1:]), table.isel(network=int(table["kept_network"][-1]))
    network, phases = Parameters(theta, Sizes(6, units, 4)), check.order([1, 5], int(proved["length"]))
    assert proved["outcome"] == "proved"
    assert check.prove(told(network), phases) == pytest.approx(float(proved["margin"]), abs=1e-5)
    check.MOST = 1000
    network.W_rec.mul_(0.5)
    assert not check.prove(told(network), phases) > 0


def test_the_checkers_lines_are_few_and_know_nothing_of_the_package():
    lines = [line for line in CHECKER.read_text(encoding="utf8").splitlines() if line]
    assert len(lines) <= 80
    assert not [line for line in lines if line.startswith(("import", "from")) and "rnnlab" in line]


def test_what_networks_and_task_do_not_share_is_refused():
    for task, said in (
        ((Phase((9,), answer=0),), "symbols below 4"),
        ((Phase((2,), answer=2),), "answers below 2"),
        ((Phase((2,), leads=((0, 3),), answer=0),), "phases below 1"),
        ((Phase((2,)),), "phases of which one that can be reached has an answer"),
        ((Phase((2,)), Phase((2,), answer=0)), "phases of which one that can be reached has an answer"),
        ([Phase((2,), leads=((0, k + 1),)) for k in range(3_899)] + [Phase((2,), answer=0)], "at most 65,536 nodes"),
    ):
        with pytest.raises(ValueError, match=said):
            prove(latch(0.5), task)
    with pytest.raises(ValueError, match="at most 4,000 units"):
        prove(BasicTanh().parameters(Sizes(4, 4_001, 2), [0]), LAST)
    with pytest.raises(ValueError, match="lengths must be one or more from 10 to 2,000 that increase"):
        prove(flags(), TemporalOrder(), lengths=(20, 10))
    with pytest.raises(ValueError, match="length must be an integer, at least 10"):
        order(TemporalOrder(), 9)
    with pytest.raises(ValueError, match="networks must be of the simple cell"):
        prove(Parameters(flags().theta * math.nan, flags().sizes), TemporalOrder())

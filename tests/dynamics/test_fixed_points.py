"""Newton's method on maps whose fixed points and cycles are known."""

import itertools
import math

import mpmath
import pytest
import torch

from rnnlab.dynamics.certificates import certify
from rnnlab.dynamics.fixed_points import LOST, FixedPoints, fixed_points
from rnnlab.dynamics.maps import Function, Network
from rnnlab.network.cells import Linear, Tanh
from tests.dynamics import known
from tests.dynamics.known import real

ROOT = float(mpmath.findroot(lambda x: 2 * mpmath.tanh(x) - x, 1.9))


def check_states(found, want):
    """The states of all cycles are these, each once, up to rounding."""
    x, want = torch.cat(found.cycles), torch.as_tensor(want, dtype=torch.float64)
    assert x.shape == want.shape
    apart = (x[:, None] - want).abs().amax(dim=-1)
    assert sorted(apart.argmin(dim=1).tolist()) == list(range(len(want)))
    assert apart.amin(dim=1).max() < 1e-12


def spread(*sizes, low=-3.0, high=3.0):
    return low + (high - low) * torch.rand(sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_latch_has_one_fixed_point_before_the_pitchfork_and_three_after_it():
    starts = torch.linspace(-3, 3, 41, dtype=torch.float64)[:, None]
    before, after = (fixed_points(known.latch(w), starts) for w in (0.5, 2.0))
    assert [cycle.tolist() for cycle in before.cycles] == [[[pytest.approx(0, abs=1e-14)]]]
    assert before.unstable.tolist() == [0]
    order = sorted(range(3), key=lambda k: after.cycles[k].item())
    assert [after.cycles[k].item() for k in order] == pytest.approx([-ROOT, 0, ROOT], abs=1e-13)
    assert after.unstable[order].tolist() == [0, 1, 0]
    slope = 2 * (1 - math.tanh(ROOT) ** 2)
    assert after.eigenvalues[order, 0].real.tolist() == pytest.approx([slope, 2, slope], abs=1e-12)
    assert before.index_sum == after.index_sum == 1
    for found in (before, after):
        assert found.labels.min() >= 0, "all starts converge"


@pytest.mark.parametrize("form", ["x", "h"])
def test_latches_that_do_not_know_each_other_have_every_combination(form):
    """Each unit is at -x, 0 or x, so there are 27; a unit at 0 is a direction that is unstable."""
    three = Network(W_rec=2 * torch.eye(3), push=torch.zeros(3), sigma=Tanh(), form=form)
    found = fixed_points(three, spread(2000, 3))
    at = ROOT if form == "x" else math.tanh(ROOT)
    check_states(found, list(itertools.product((-at, 0, at), repeat=3)))
    for cycle, unstable in zip(found.cycles, found.unstable.tolist(), strict=True):
        assert unstable == (cycle.abs() < 0.1).sum()
    assert found.index_sum == 1  # (1 - 1 + 1)^3


def test_henons_fixed_points_and_cycles_are_those_of_the_closed_form():
    a, b = 1.4, 0.3
    starts = spread(400, 2, low=-1.5, high=1.5)
    ends = [(b - 1 + sign * math.sqrt((1 - b) ** 2 + 4 * a)) / (2 * a) for sign in (-1, 1)]
    check_states(fixed_points(known.henon(a), starts), [(x, b * x) for x in ends])
    found = fixed_points(known.henon(a), starts, period=2)
    assert sorted(map(len, found.cycles)) == [1, 1, 2]
    root = math.sqrt(4 * a - 3 * (1 - b) ** 2)  # the two x have the sum (1 - b) / a, the product ((1 - b)^2 - a) / a^2
    low, high = ((1 - b - root) / (2 * a), (1 - b + root) / (2 * a))
    pair = next(k for k, cycle in enumerate(found.cycles) if len(cycle) == 2)
    torch.testing.assert_close(found.cycles[pair], real([low, b * high], [high, b * low]), rtol=0, atol=1e-13)
    assert found.eigenvalues[pair].prod().real.item() == pytest.approx(b * b)  # (-b)^2, the determinant of two steps
    assert found.eigenvalues[pair].sum().real.item() == pytest.approx(4 * a * a * low * high + 2 * b)
    assert sorted(map(len, fixed_points(known.henon(a), starts, period=4).cycles)) == [1, 1, 2, 4]


@pytest.mark.parametrize("period", [1, 2, 3, 4])
def test_the_logistic_map_at_4_has_all_its_cycles(period):
    """x = sin^2(t) doubles t, so states that come back are sin^2(k pi / (2^p - 1)) and sin^2(k pi / (2^p + 1))."""
    found = fixed_points(known.logistic(4.0), spread(600, 1, low=-0.1, high=1.1), period=period)
    angles = {math.sin(math.pi * k / n) ** 2 for n in (2**period - 1, 2**period + 1) for k in range(n // 2 + 1)}
    check_states(found, [[x] for x in angles])
    assert len(angles) == 2**period
    for cycle, spectrum in zip(found.cycles, found.eigenvalues.abs(), strict=True):
        assert spectrum.item() == pytest.approx((4 if cycle[0, 0] < 1e-9 else 2 ** len(cycle)), rel=1e-9)
        assert cycle[0, 0] == cycle[:, 0].min()
        assert period % len(cycle) == 0
    assert found.index_sum == 0  # as of a map that takes points beyond its interval away on both sides


def test_a_linear_network_has_the_one_that_a_system_of_equations_gives():
    W, push = torch.tensor([[0.5, 2.0], [-1.0, 0.25]], dtype=torch.float64), real(1.0, -2.0)
    found = fixed_points(Network(W_rec=W, push=push, sigma=Linear()), spread(5, 4, 2))
    torch.testing.assert_close(found.cycles[0][0], torch.linalg.solve(torch.eye(2) - W, push), rtol=1e-13, atol=0)
    assert found.labels.tolist() == [[0] * 4] * 5
    assert found.unstable.tolist() == [2]  # trace 3/4, determinant 17/8: a pair of modulus 1.46
    assert found.eigenvalues[0, 0].abs().item() == pytest.approx(math.sqrt(17 / 8))


def test_a_network_of_symmetric_weights_has_real_eigenvalues_and_holds_its_pattern_and_the_opposite():
    """diag(s) W is similar to a symmetric matrix. Weights 2 u u' / n, u of signs, leave a latch along u."""
    u = real(1.0, -1.0, -1.0, 1.0, 1.0)
    found = fixed_points(Network(W_rec=2 * u.outer(u) / 5, push=torch.zeros(5), sigma=Tanh(), form="h"), spread(300, 5))
    assert found.eigenvalues.imag.abs().max() < 1e-12
    check_states(found, [(sign * math.tanh(ROOT) * u).tolist() for sign in (-1, 0, 1)])


def test_two_orthogonal_patterns_are_held_by_nine_points_whose_48_other_eigenvalues_are_0():
    """Overlaps a and b with the patterns' sum and difference obey a = tanh 2a; LAPACK fails for so many zeros."""
    patterns = torch.stack((torch.ones(50), torch.tensor([1.0, -1.0]).repeat(25))).double()
    network = Network(W_rec=patterns.T @ patterns / 25, push=torch.zeros(50), sigma=Tanh(), form="h")
    found, slope = fixed_points(network, spread(300, 2, low=-1.0, high=1.0) @ patterns), 2 * (1 - math.tanh(ROOT) ** 2)
    want = sorted(sorted(pair, reverse=True) for pair in itertools.product((2.0, slope, slope), repeat=2))
    got = found.eigenvalues.abs()[torch.argsort(found.eigenvalues.abs()[:, :2].sum(dim=1))]
    torch.testing.assert_close(got[:, :2], real(*sorted(want, key=sum)), rtol=0, atol=1e-9)
    assert got[:, 2:].max() < 1e-9
    assert found.index_sum == 1  # (1 - 1 + 1)^2
    proved = certify(network, found.cycles)
    assert proved.radius.isfinite().all()
    assert proved.unstable.tolist() == found.unstable.tolist()


def test_the_index_sum_of_a_network_is_1_for_cycles_too_each_state_counted():
    """Two latches with weights -2, of which each has 0 and a cycle between -x and x: nine states, as of weights 2."""
    found = fixed_points(Network(W_rec=-2 * torch.eye(2), push=torch.zeros(2), sigma=Tanh()), spread(1000, 2), period=2)
    assert sorted(map(len, found.cycles)) == [1, 2, 2, 2, 2]
    check_states(found, list(itertools.product((-ROOT, 0, ROOT), repeat=2)))
    assert found.index_sum == 1


def test_both_forms_of_a_network_have_the_same_points_and_eigenvalues():
    W = 2 * spread(6, 6, low=-1, high=1)
    forms = {form: Network(W_rec=W, push=spread(6, low=-1, high=1), sigma=Tanh(), form=form) for form in "xh"}
    x, h = (fixed_points(forms[form], spread(500, 6)) for form in "xh")
    images = {tuple(round(number, 9) for number in cycle[0].tanh().tolist()): k for k, cycle in enumerate(x.cycles)}
    assert len(images) == len(h.cycles) > 1
    for k, cycle in enumerate(h.cycles):
        other = images[tuple(round(number, 9) for number in cycle[0].tolist())]
        torch.testing.assert_close(x.eigenvalues[other].abs(), h.eigenvalues[k].abs(), rtol=1e-9, atol=1e-12)


def test_where_there_is_none_all_starts_are_lost():
    nowhere = Function(lambda x: x + 1 + x * x, lambda x: (1 + 2 * x)[..., None])
    found = fixed_points(nowhere, spread(20, 1))
    assert found.labels.tolist() == [LOST] * 20
    assert (found.cycles, found.eigenvalues.shape, found.index_sum) == ((), (0, 1), 0)
    assert (found.growth.tolist(), found.unseen) == ([0] * 20, 1.0)
    assert fixed_points(known.latch(2.0), real([math.nan], [0.1])).labels.tolist() == [LOST, 0]


def test_growth_and_what_is_unseen_count_finds():
    labels = torch.tensor([[0, LOST, 1, 0], [2, 1, LOST, 3]])
    found = FixedPoints((real([0.0]),) * 4, torch.zeros(4, 1, dtype=torch.complex128), labels, known.latch(2.0), 1)
    assert found.growth.tolist() == [1, 1, 2, 2, 3, 3, 3, 4]
    assert found.unseen == pytest.approx(2 / 6)  # 2 and 3 came once


def test_other_states_and_several_pushes_are_refused():
    with pytest.raises(ValueError, match="starts must have the 2 numbers"):
        fixed_points(known.henon(1.4), real([0.0]))
    with pytest.raises(ValueError, match=r"map must have one push for all states, got one of shape \(3, 1\)"):
        fixed_points(Network(W_rec=real([1.0]), push=torch.zeros(3, 1), sigma=Tanh()), torch.zeros(3, 1))

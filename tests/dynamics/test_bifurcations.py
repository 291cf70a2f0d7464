"""Branches and their bifurcations against closed forms."""

import math

import pytest
import torch

from rnnlab.dynamics.bifurcations import branch
from rnnlab.dynamics.maps import Function, Network
from rnnlab.network.cells import Tanh
from tests.dynamics import known
from tests.dynamics.known import real

GOLDEN = (1 + math.sqrt(5)) / 2
SINGULAR = 1e-6  # at a branch point rounding is seen as its root, times a few
HALF = math.sqrt(5) / 2 - 2 * math.log(GOLDEN)  # of the range of biases with three fixed points


def kinds(found):
    return [point.kind for point in found.bifurcations]


def held(family, found):
    """All points of a branch are fixed."""
    for p, x in zip(found.parameter.tolist(), found.x, strict=True):
        torch.testing.assert_close(family(p).step(x), x, rtol=0, atol=1e-13)


def test_the_folds_of_fig_3_are_the_closed_form_in_both_forms():
    for form, states in (("x", 2 * math.log(GOLDEN)), ("h", 1 / math.sqrt(5) / 2)):
        middle = 0.0 if form == "x" else 0.5
        found = branch(lambda b, form=form: known.doya(b, form), real(middle), -2.5, low=-2.8, high=-2.2)
        held(lambda b, form=form: known.doya(b, form), found)
        assert kinds(found) == ["fold", "fold"]
        assert found.ends == ("range", "range")
        for point, sign in zip(sorted(found.bifurcations, key=lambda point: point.parameter), (-1, 1), strict=True):
            assert point.parameter == pytest.approx(-2.5 + sign * HALF, abs=1e-14)
            assert point.x.item() == pytest.approx(middle - sign * states, abs=1e-13)
            assert point.eigenvalues.real.item() == pytest.approx(1, abs=1e-13)
        between = (found.parameter - -2.5).abs() < HALF - 1e-9
        lower = (found.x[:, 0] - middle).abs() < states - 1e-4
        assert found.stable.tolist() == (~(between & lower)).tolist()
        assert sorted(found.parameter[[0, -1]].tolist()) == [pytest.approx(-2.8), pytest.approx(-2.2)]


@pytest.mark.parametrize(("x", "b"), [(2.5, -2.25), (-2.5, -2.75)])
def test_bifurcations_are_in_the_branchs_order_from_either_end_of_it(x, b):
    found = branch(known.doya, real(x), b, low=-2.8, high=-2.2)
    states = [found.x[0].item(), *(point.x.item() for point in found.bifurcations), found.x[-1].item()]
    assert len(states) == 4
    assert states == sorted(states, reverse=states[0] > states[-1])


def test_the_logistic_maps_fixed_point_meets_zero_at_1_and_flips_at_3():
    found = branch(known.logistic, real(0.5), 2.0, low=0.5, high=3.9)
    torch.testing.assert_close(found.x[:, 0], 1 - 1 / found.parameter, rtol=0, atol=1e-13)
    assert kinds(found) == ["bp", "flip"]
    meets, flips = found.bifurcations
    assert meets.parameter == pytest.approx(1, abs=SINGULAR)
    assert flips.parameter == pytest.approx(3, abs=1e-13)
    torch.testing.assert_close(found.eigenvalues.real[:, 0], 2 - found.parameter, rtol=0, atol=1e-12)


def test_at_the_pitchfork_both_branches_have_a_branch_point_and_neither_a_fold():
    straight = branch(known.latch, real(0.0), 0.5, low=0.2, high=2.0)
    bent = branch(known.latch, real(1.0), 1.5, low=0.2, high=2.0)
    for found in (straight, bent):
        assert kinds(found) == ["bp"]
        assert found.bifurcations[0].parameter == pytest.approx(1, abs=SINGULAR)
        assert found.bifurcations[0].x.item() == pytest.approx(0, abs=SINGULAR)
    assert straight.x.abs().max() == 0, "a branch point is passed straight on"
    assert straight.stable.tolist() == (straight.parameter < 1).tolist()
    ends = bent.x[[0, -1], 0]
    assert ends.sum().abs() < 1e-12, "from one arm to the other"
    torch.testing.assert_close(ends.abs(), 2 * ends.abs().tanh())
    held(known.latch, bent)


def test_henons_fold_and_flip_are_the_closed_forms():
    found = branch(known.henon, real(0.6, 0.2), 0.3, low=-1.0, high=1.4, steps=200)
    assert kinds(found) == ["fold", "flip"]
    fold, flip = found.bifurcations
    assert fold.parameter == pytest.approx(-(0.7**2) / 4, abs=1e-14)
    assert flip.parameter == pytest.approx(3 * 0.7**2 / 4, abs=1e-13)
    for point, at, x in ((fold, 1, 2 / 0.7), (flip, -1, 2 / 0.7 / 3)):  # the eigenvalues' product is -b
        assert point.eigenvalues.real.tolist() == pytest.approx([at, -0.3 / at], abs=1e-12)
        assert point.x.tolist() == pytest.approx([x, 0.3 * x], abs=1e-12)
    assert found.ends[0] == "steps", "towards a = 0 the branch goes to infinity"


def test_the_delayed_logistic_map_has_its_neimark_sacker_point_at_2_with_sixth_roots_of_1():
    found = branch(known.delayed, real(0.4, 0.4), 1.7, low=1.2, high=2.4)
    assert kinds(found) == ["ns"]
    (point,) = found.bifurcations
    assert point.parameter == pytest.approx(2, abs=1e-13)
    assert point.x.tolist() == pytest.approx([0.5, 0.5], abs=1e-13)
    assert sorted(point.eigenvalues.imag.tolist()) == pytest.approx([-math.sqrt(3) / 2, math.sqrt(3) / 2], abs=1e-12)
    assert point.eigenvalues.real.tolist() == pytest.approx([0.5, 0.5], abs=1e-12)


@pytest.mark.parametrize("cosine", [0.6, -0.6, 0.99])
def test_a_linear_network_has_its_neimark_sacker_point_at_modulus_1(cosine):
    found = branch(lambda r: known.rotation(r, cosine), real(0.0, 0.0), 0.5, low=0.1, high=1.5)
    assert kinds(found) == ["ns"]
    assert found.bifurcations[0].parameter == pytest.approx(1, abs=1e-13)
    torch.testing.assert_close(found.eigenvalues.abs(), found.parameter[:, None].expand(-1, 2), rtol=1e-12, atol=0)


def test_a_neutral_saddle_is_no_bifurcation():
    """Real eigenvalues p and 1/2, whose product passes 1 at p = 2."""
    found = branch(lambda p: known.linear(torch.diag(real(p, 0.5))), real(0.0, 0.0), 1.5, low=1.2, high=3.0)
    assert kinds(found) == []


def test_a_network_of_twelve_units_bifurcates_at_0_where_its_eigenvalues_say():
    W = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(25)) / 12**0.5
    spectrum = torch.linalg.eigvals(W)
    found = branch(
        lambda g: Network(W_rec=g * W, push=torch.zeros(12), sigma=Tanh(), form="h"),
        torch.zeros(12, dtype=torch.float64),
        0.5,
        low=0.5,
        high=2.0,
    )
    on = spectrum[(spectrum.abs() > 1 / 2.0) & (spectrum.imag >= 0)].tolist()
    want = sorted((1 / abs(x), "ns" if x.imag else "bp" if x.real > 0 else "flip") for x in on)
    assert {kind for _, kind in want} == {"ns", "bp", "flip"}
    assert kinds(found) == [kind for _, kind in want]
    assert [point.parameter for point in found.bifurcations] == pytest.approx([at for at, _ in want], abs=1e-10)


def test_a_range_without_bifurcation_has_none_and_says_where_it_ended():
    found = branch(known.doya, real(2.0), -2.2, low=-2.3, high=-2.0)
    assert found.bifurcations == ()
    assert found.ends == ("range", "range")
    assert found.stable.all()


def test_where_there_is_no_fixed_point_the_branch_is_empty_and_says_so():
    found = branch(lambda p: Function(lambda x: x + 1 + x**2 + p, lambda x: (1 + 2 * x)[..., None]), real(0.0), 0.0,
                   low=-0.5, high=1.0)  # fmt: skip
    assert found.ends == ("no start", "no start")
    assert (len(found.parameter), len(found.x), found.bifurcations) == (0, 0, ())
    assert found.stable.tolist() == []


def test_the_number_of_steps_is_a_limit_and_no_error():
    found = branch(known.doya, real(0.0), -2.5, low=-3.1, high=-1.9, steps=3)
    assert (found.ends, len(found.parameter)) == (("steps", "steps"), 7)


def test_a_start_beyond_the_range_is_refused():
    with pytest.raises(ValueError, match=r"parameter must be from low = -1.0 to high = 1.0, got 2.0"):
        branch(known.latch, real(0.0), 2.0, low=-1.0, high=1.0)
    with pytest.raises(ValueError, match="must have the 1 numbers of the map's states"):
        branch(known.latch, real(0.0, 0.0), 0.0, low=-1.0, high=1.0)

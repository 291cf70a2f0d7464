"""Certificates hold against roots in high precision, and what is none gets none."""

import math
import sys
from dataclasses import dataclass

import flint
import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.book import pages
from rnnlab.dynamics.certificates import certify
from rnnlab.dynamics.fixed_points import fixed_points
from rnnlab.dynamics.maps import Function, Network
from rnnlab.network.cells import Linear, Sigmoid, Tanh
from rnnlab.network.parameters import Parameters, Sizes
from tests.dynamics import known
from tests.dynamics.known import real

MATH = {Tanh: mpmath.tanh, Sigmoid: lambda a: 1 / (1 + mpmath.exp(-a)), Linear: lambda a: a}


def random(*sizes, seed=0, scale=1.0):
    return scale * torch.randn(sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear(W):
    return Network(W_rec=W, push=torch.zeros(len(W)), sigma=Linear())


def root(map, x, period=1):
    """The exact state, to 40 digits, by mpmath."""
    W, push, sigma = mpmath.matrix(map.W_rec.tolist()), mpmath.matrix(map.push.tolist()), MATH[type(map.sigma)]

    def off(*numbers):
        y = mpmath.matrix(numbers)
        for _ in range(period):
            y = (W * y + push).apply(sigma) if map.form == "h" else W * y.apply(sigma) + push
        return list(y - mpmath.matrix(numbers))

    with mpmath.workdps(40):
        return mpmath.findroot(off, x.tolist(), tol=1e-35)


def henon(x):
    """Henon's map at a = 1.4, b = 0.3, of which the certificate is: 1.4 and 0.3 are here the doubles."""
    (u, v), a, b = x.entries(), flint.arb(1.4), flint.arb(0.3)
    return flint.arb_mat(2, 1, [1 - a * u * u + v, b * u]), flint.arb_mat(2, 2, [-2 * a * u, 1, b, 0])


@pytest.mark.parametrize("form", ["x", "h"])
@pytest.mark.parametrize("sigma", [Tanh(), Sigmoid()])
@pytest.mark.parametrize("period", [1, 2])
def test_the_cube_holds_the_exact_state(form, sigma, period):
    map = Network(W_rec=random(4, 4, seed=3, scale=2.5 / sigma.gamma), push=random(4, seed=1), sigma=sigma, form=form)
    found = fixed_points(map, random(300, 4, seed=2, scale=3 / sigma.gamma), period=period)
    proved = certify(map, found.cycles)
    assert found.cycles
    assert proved.radius.max() < 1e-10
    assert proved.unstable.tolist() == found.unstable.tolist()
    for cycle, radius in zip(found.cycles, proved.radius.tolist(), strict=True):
        exact = root(map, cycle[0], len(cycle))
        assert max(abs(mpmath.mpf(at) - it) for at, it in zip(cycle[0].tolist(), exact, strict=True)) <= radius


@given(st.floats(-4, 4))
def test_whatever_is_certified_has_exactly_one_root_in_its_cube(x):
    """x = 2 tanh(x) at -x, 0 and x: wherever a cube is put, it is proved only if that is so."""
    latch = Network(W_rec=real([2.0]), push=real(0.0), sigma=Tanh())
    radius = certify(latch, [real([x])], within=10.0).radius.item()
    at = float(mpmath.findroot(lambda x: 2 * mpmath.tanh(x) - x, 1.9))
    inside = sum(abs(x - true) <= radius + 1e-15 for true in (-at, 0, at))
    assert math.isnan(radius) or inside == 1


@pytest.mark.parametrize(("gap", "proved"), [(1e-12, False), (0.0, False), (-1e-12, True)])
def test_before_a_fold_there_is_nothing_to_certify(gap, proved):
    """x' = x + x^2 + gap: no fixed point, a double one, or two, at +-sqrt(-gap), as close as they are."""
    fold = Function(lambda x: x + x * x + gap, lambda x: (1 + 2 * x)[..., None])

    def balls(x):
        y = x.entries()[0]
        return flint.arb_mat(1, 1, [y + y * y + flint.arb(gap)]), flint.arb_mat(1, 1, [1 + 2 * y])

    for x in (-1e-6, 1e-6):
        assert math.isnan(certify(fold, [real([x])], balls=balls).radius.item()) != proved


def test_a_state_that_is_none_gets_no_certificate_nor_does_one_of_another_period():
    map = known.henon(1.4)
    found = fixed_points(map, random(300, 2), period=2)
    assert sorted(len(cycle) for cycle in found.cycles) == [1, 1, 2]
    assert certify(map, found.cycles, balls=henon).radius.max() < 1e-14
    for wrong in (
        [cycle + 0.3 for cycle in found.cycles],
        [cycle + 1e-7 for cycle in found.cycles],
        [cycle[:1].expand(2, 2) for cycle in found.cycles if len(cycle) == 1],  # twice the same is no 2-cycle
        [cycle[:1] for cycle in found.cycles if len(cycle) == 2],  # nor is half a cycle a fixed point
        [real([math.nan, 0.0]), real([math.inf, 0.0])],
    ):
        proved = certify(map, [cycle.reshape(-1, 2) for cycle in wrong], balls=henon)
        assert proved.radius.isnan().all()
        assert proved.unstable.tolist() == [-1] * len(wrong)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_the_unstable_dimensions_are_those_of_the_spectrum(seed, N):
    W = random(N, N, seed=seed, scale=1.2 / N**0.5)
    moduli = torch.linalg.eigvals(W).abs()
    proved = certify(linear(W), [torch.zeros(1, N, dtype=torch.float64)]).unstable.item()
    assert proved == (moduli > 1).sum() or (proved == -1 and (moduli - 1).abs().min() < 1e-6)


@pytest.mark.parametrize(
    ("W", "unstable"),
    [
        (real([0.99, 1e3], [0.0, 0.9]), {0}),  # grows a thousandfold before it decays
        (real([1.01, 1e3], [0.0, 0.9]), {1}),
        (known.rotation(0.999).jacobian(torch.zeros(2)), {0}),
        (known.rotation(1.001).jacobian(torch.zeros(2)), {2}),
        (real([0.0, 1.0], [1.0, 0.0]) * 0.5, {0}),
        (real([-1.0, 0.0], [0.0, 0.5]), {-1}),  # on the circle: no proof either way
        (real([0.0, 1.0], [-1.0, 0.0]), {-1}),
        (real([0.5, 1.0], [0.0, 0.5]), {-1, 0}),  # of one eigenvector
    ],
)
def test_what_is_near_the_unit_circle_is_proved_or_not_said(W, unstable):
    proved = certify(linear(W), [torch.zeros(1, 2, dtype=torch.float64)])
    assert proved.unstable.item() in unstable
    assert proved.radius.item() < 1e-14


def test_an_eigenvalue_of_one_leaves_nothing_to_prove():
    proved = certify(linear(real([1.0, 0.0], [0.0, 0.5])), [torch.zeros(1, 2, dtype=torch.float64)])
    assert proved.radius.isnan().all()
    assert proved.unstable.tolist() == [-1]


def test_every_point_found_of_a_trained_network_is_certified():
    theta = pages.stored("longer_sequences").sel(seed=4)["theta_held"].values
    network = Parameters(torch.as_tensor(theta)[None], Sizes(inputs=6, units=50, outputs=4))
    push = network.W_in[0, :, 2:].mean(dim=1) + network.b[0]
    map = Network(W_rec=network.W_rec[0], push=push, sigma=Tanh(), form="h")
    starts = 2 * torch.rand(300, 50, dtype=torch.float32, generator=torch.Generator().manual_seed(0)) - 1
    found = fixed_points(map, starts)
    proved = certify(map, found.cycles)
    assert len(found.cycles) >= 10
    assert proved.radius.max() < 1e-12
    assert proved.unstable.tolist() == found.unstable.tolist()
    assert (proved.unstable == 0).sum() == 4  # one for each class
    assert found.index_sum == 1


def test_the_precision_of_whoever_else_computes_in_balls_is_left_as_it_was():
    before = flint.ctx.prec
    certify(linear(real([0.5])), [real([0.0])], precision=200)
    assert flint.ctx.prec == before


@dataclass(frozen=True)
class Softsign(Tanh):
    """A sigma of one's own."""


def test_what_is_not_known_in_balls_is_refused():
    for map in (
        known.latch(2.0),
        Network(W_rec=real([1.0]), push=torch.zeros(3, 1), sigma=Tanh()),
        Network(W_rec=real([1.0]), push=torch.zeros(1), sigma=Softsign()),
    ):
        with pytest.raises(ValueError, match="map must be a Network of one push"):
            certify(map, [real([0.0])])
    for cycle in (real(0.0), torch.zeros(0, 1), torch.zeros(1, 2), torch.zeros(1, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match="cycles must be of a floating dtype"):
            certify(linear(real([0.5])), [cycle])


def test_without_flint_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(ModuleNotFoundError, match=r"certify needs python-flint: pip install 'rnnlab\[book\]'"):
        certify(linear(real([0.5])), [real([0.0])])


def test_a_cube_has_to_be_as_large_as_what_is_left_and_what_the_slopes_add():
    """x' = 1 + 0.6 (x - 1), taken at 0 for a constant: the step is 0.4, the root 1 off, and no cube of 0.8 holds it."""
    slow = Function(lambda x: 0.4 + 0.6 * x, lambda x: torch.zeros(*x.shape, 1, dtype=torch.float64))

    def balls(x):
        return flint.arb_mat(1, 1, [1 - flint.arb(0.6)]) + x * flint.arb(0.6), flint.arb_mat(1, 1, [0.6])

    assert certify(slow, [real([0.0])], balls=balls, within=1.0).radius.isnan().item()
    assert certify(slow, [real([0.0])], balls=balls, within=10.0).radius.item() == pytest.approx(6.4)


def test_unstable_dimensions_are_not_said_where_the_slopes_in_the_cube_allow_two_answers():
    turn = Function(lambda x: -0.9 * x, lambda x: torch.full((*x.shape, 1), -0.9, dtype=torch.float64))
    for width, unstable in ((0.05, 0), (0.2, -1)):
        slope = flint.arb_mat(1, 1, [flint.arb(-0.9, width)])
        proved = certify(turn, [real([0.0])], balls=lambda x, slope=slope: (x * flint.arb(-0.9), slope))
        assert proved.unstable.item() == unstable
        assert proved.radius.item() < 1e-14

"""Lyapunov exponents against closed forms, and intervals that hold what they should."""

import math

import pytest
import torch

from rnnlab.dynamics.lyapunov import spectrum
from rnnlab.dynamics.maps import Function, Network
from rnnlab.dynamics.settling import largest_exponent
from rnnlab.network.cells import Tanh
from tests.dynamics import known
from tests.dynamics.known import real


def spread(members, units, seed=0):
    return torch.rand(members, units, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_logistic_map_at_4_has_ln_2():
    found = spectrum([known.logistic(4.0)] * 2000, 0.1 + 0.8 * spread(200, 1), discard=100)
    # Each has a standard deviation of about 0.005: the means of 200 are within 0.002 in all but 1 of 10^7 cases.
    assert found.exponents.mean().item() == pytest.approx(math.log(2), abs=2e-3)
    assert ((found.low <= math.log(2)) & (math.log(2) <= found.high)).sum() >= 178


def test_nineteen_intervals_of_twenty_hold_the_exponent_where_steps_are_independent():
    """Multiplied by exp(0.1 + n), n normal, at each step: the exponent is 0.1, and the interval Student's, exactly."""
    drawn = 0.1 + torch.randn(200, 1000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    maps = [Function(lambda x, a=a: a * x, lambda x, a=a: a[..., None]) for a in drawn.exp()]
    found = spectrum(maps, torch.ones(1000, 1, dtype=torch.float64))
    torch.testing.assert_close(found.exponents, drawn.mean(dim=0), rtol=0, atol=1e-12)
    held = ((found.low <= 0.1) & (found.high >= 0.1)).sum().item()
    assert held == pytest.approx(950, abs=28), "four standard deviations"
    wide = (found.high - found.low).mean().item() / 2
    assert wide == pytest.approx(2.0930 * 0.98693 / 200**0.5, rel=0.02), (
        "Student's quantile, the mean of s, the root of T"
    )


def test_henons_exponents_are_the_published_ones_and_their_sum_that_of_the_determinant():
    found = spectrum([known.henon(1.4)] * 5000, 0.1 * spread(64, 2), discard=200)
    torch.testing.assert_close(
        found.exponents.sum(-1), torch.full((64,), math.log(0.3), dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert found.exponents.mean(0).tolist() == pytest.approx([0.4192, -1.6232], abs=1e-3)
    held = ((found.low[:, 0] <= 0.4192) & (found.high[:, 0] >= 0.4192)).double().mean()
    assert held > 0.8


def test_a_linear_network_has_the_logarithms_of_its_eigenvalues_moduli():
    W = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = spectrum([known.linear(W)] * 4000, torch.zeros(1, 5), discard=3000)
    want = torch.linalg.eigvals(W).abs().log().sort(descending=True).values
    # A complex pair has its modulus on average only: what is left is a turn's share of 1,000 steps.
    torch.testing.assert_close(found.exponents[0], want, rtol=0, atol=5e-3)
    found = spectrum([known.linear(torch.diag(real(0.5, 3.0, 0.1)))] * 50, torch.zeros(3))
    torch.testing.assert_close(found.exponents, real(3.0, 0.5, 0.1).log(), rtol=1e-13, atol=0)
    torch.testing.assert_close(found.high - found.low, torch.zeros(3).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["x", "h"])
def test_of_a_driven_network_the_first_one_is_what_a_carried_vector_says(form):
    W = 1.8 * torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) / 6**0.5
    pushes = torch.randn(1000, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    maps = Network(W_rec=W, push=torch.zeros(6), sigma=Tanh(), form=form).driven(pushes)
    found = spectrum(maps, torch.zeros(2, 6))
    h, states = torch.zeros(2, 6).double(), []
    for push in pushes:
        states.append(h)
        h = torch.tanh(h @ W.T + push)
    carried = largest_exponent(W[None], torch.stack([*states, h])[None], sigma=Tanh())[0]
    torch.testing.assert_close(found.exponents[:, 0], carried, rtol=0, atol=0.01)  # starts and forms: O(1) / 1,000


def test_a_direction_that_is_cut_off_has_minus_infinity_and_a_trajectory_that_diverges_nan():
    found = spectrum([known.linear(real([2.0, 0.0], [0.0, 0.0]))] * 20, torch.zeros(2))
    assert found.exponents.tolist() == [pytest.approx(math.log(2)), -math.inf]
    gone = spectrum([known.logistic(4.0)] * 100, real([0.3], [1.5]))
    assert gone.exponents.isnan()[:, 0].tolist() == [False, True]


def test_fewer_steps_than_blocks_are_refused():
    with pytest.raises(ValueError, match=r"maps must give at least 20 steps after discard = 5, got 19"):
        spectrum([known.latch(2.0)] * 24, torch.zeros(1), discard=5)
    with pytest.raises(ValueError, match="must have the 1 numbers of the map's states"):
        spectrum([known.latch(2.0)] * 24, torch.zeros(2))

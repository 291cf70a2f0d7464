"""Spread, distance and exponents of states against numbers known by hand, and against two trajectories run apart."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.dynamics.jacobians import trajectory
from rnnlab.dynamics.settling import largest_exponent, nearest, spread, verdict
from rnnlab.network.cells import Linear, Sigmoid, Tanh


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_spread_is_the_mean_distance_from_each_class_s_own_mean():
    h = torch.tensor([[[[0.0, 0], [5, 1]], [[6, 8], [5, 1]]], [[[0, 0], [5, 4]], [[6, 8], [5, 4]]]])[None]  # T B C N
    torch.testing.assert_close(spread(h), torch.tensor([[5.0, 1.5]]))


@given(shift=st.floats(-10, 10), scale=st.floats(0.1, 10))
def test_spread_does_not_see_where_a_class_is_and_grows_with_its_size(shift, scale):
    h = draw(2, 3, 4, 2, 5)
    torch.testing.assert_close(spread(scale * h + shift), scale * spread(h), rtol=1e-9, atol=0)


def test_the_nearest_two_points_are_found_in_each_set_of_its_own():
    points = torch.tensor([[[0.0, 0], [3, 4], [30, 40]], [[1, 1], [1, 1], [9, 9]]])
    torch.testing.assert_close(nearest(points), torch.tensor([5.0, 0.0]))
    assert nearest(points[:, :1]).tolist() == [math.inf, math.inf]


def test_the_exponent_of_a_linear_network_is_the_logarithm_of_its_spectral_radius():
    values, rotation = torch.tensor([0.3, 0.8, -0.95], dtype=torch.float64), torch.linalg.qr(draw(3, 3)).Q
    W_rec = (rotation * values) @ rotation.T
    n = 1000
    found = largest_exponent(W_rec[None], torch.zeros(1, n + 1, 3, dtype=torch.float64), sigma=Linear())
    part = (rotation.T @ torch.ones(3, dtype=torch.float64))[2].abs() / 3**0.5  # of the start along the last vector
    torch.testing.assert_close(found.item(), math.log(0.95) + math.log(part) / n, rtol=1e-12, atol=0)


@pytest.mark.parametrize("sigma", [Tanh(), Sigmoid()], ids=repr)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.3, 2))
def test_the_exponent_is_how_fast_two_states_with_the_same_inputs_come_apart(sigma, seed, scale):
    M, T, B, N, small = 2, 12, 3, 5, 1e-7
    W_rec, push = scale * draw(M, N, N, seed=seed), draw(M, T, B, N, seed=seed + 1)
    h_0 = 0.5 + 0.3 * draw(M, B, N, seed=seed + 2).tanh()
    inverse = {"Tanh()": torch.atanh, "Sigmoid()": torch.logit}[repr(sigma)]
    apart = [trajectory(W_rec, inverse(h_0 + side * small / N**0.5), push, sigma=sigma) for side in (-0.5, 0.5)]
    grown = (apart[1] - apart[0])[:, -1].norm(dim=-1) / small
    middle = trajectory(W_rec, inverse(h_0), push, sigma=sigma)
    found = largest_exponent(W_rec, middle, sigma=sigma)
    # Rounding: a state is known to 1e-16, so a difference of 1e-7 exp(exponent T) to that part of itself.
    torch.testing.assert_close((found * T).exp(), grown, rtol=1e-4, atol=1e-7)


def test_a_single_state_has_no_exponent():
    with pytest.raises(ValueError, match="h must hold at least two states"):
        largest_exponent(torch.eye(2)[None], torch.zeros(1, 1, 2), sigma=Tanh())


def test_a_verdict_takes_the_worst_of_the_classes_kept_and_settled_is_a_quarter_of_the_distance_and_a_loss():
    spreads = torch.tensor([[1.0, 2, 9], [1, 1.25, 9], [1, 2, 9], [1, 2, 3], [1, 2, 3]])
    exponents = torch.tensor([[-0.5, -0.1, 1], [-0.5, -0.1, 1], [-0.5, 0.1, -1], [1, 1, -0.25], [-1, -1, -1]])
    means = torch.tensor([[0.0, 0], [3, 4], [3, 3]]).expand(5, 3, 2) * torch.tensor([2, 1, 2, 1, 1])[:, None, None]
    kept = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    found = verdict(spreads, means, exponents, kept=kept)
    for got, want in (
        (found.spread, [2, 1.25, 2, 3, math.nan]),
        (found.distance, [10, 5, 10, math.inf, math.nan]),
        (found.exponent, [-0.1, -0.1, 0.1, -0.25, math.nan]),
    ):
        torch.testing.assert_close(got, torch.tensor(want), equal_nan=True)
    assert found.settled.tolist() == [True, False, False, True, False]  # 1.25 is no less than a quarter of 5
    with pytest.raises(ValueError, match="kept must"):
        verdict(spreads, means, exponents, kept=kept.float())

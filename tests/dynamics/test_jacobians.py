"""Jacobians of steps against autograd; norms of their products against closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import jacobian

from rnnlab.dynamics.jacobians import largest_singular_value, log_norms, post_activation, pre_activation, trajectory
from rnnlab.network.cells import Linear, Sigmoid, Tanh

SIGMAS = [Tanh(), Sigmoid(), Linear()]


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
def test_the_pre_activation_jacobian_is_autograds_derivative_of_equation_2(sigma):
    W_rec, x, push = draw(2, 4, 4), draw(2, 3, 4, seed=1), draw(4, seed=2)
    J = pre_activation(W_rec, sigma(x), sigma=sigma)
    for m in range(2):
        for s in range(3):
            want = jacobian(lambda z, m=m: W_rec[m] @ sigma(z) + push, x[m, s])
            torch.testing.assert_close(J[m, s], want, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
def test_the_post_activation_jacobian_is_autograds_derivative_of_the_other_form(sigma):
    W_rec, h, push = draw(2, 4, 4), draw(2, 3, 4, seed=1), draw(4, seed=2)
    arrived = sigma(torch.einsum("mij,msj->msi", W_rec, h) + push)
    J = post_activation(W_rec, arrived, sigma=sigma)
    for m in range(2):
        for s in range(3):
            want = jacobian(lambda z, m=m: sigma(W_rec[m] @ z + push), h[m, s])
            torch.testing.assert_close(J[m, s], want, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
def test_a_trajectory_is_the_recursion_of_equation_2_by_hand(sigma):
    W_rec, x_0, push = draw(2, 3, 3), draw(2, 4, 3, seed=1), draw(2, 5, 1, 3, seed=2)
    h = trajectory(W_rec, x_0, push, sigma=sigma)
    assert h.shape == (2, 6, 4, 3)
    for m in range(2):
        for s in range(4):
            x = x_0[m, s]
            for t in range(6):
                torch.testing.assert_close(h[m, t, s], sigma(x), rtol=1e-13, atol=1e-14)
                if t < 5:
                    x = W_rec[m] @ sigma(x) + push[m, t, 0]


@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
def test_the_product_along_a_trajectory_is_autograds_derivative_of_its_end(sigma):
    W_rec, x_0, push = draw(1, 4, 4), draw(1, 1, 4, seed=1), draw(1, 7, 1, 4, seed=2)
    h = trajectory(W_rec, x_0, push, sigma=sigma)

    def last_x(start):
        x = start
        for t in range(7):
            x = W_rec[0] @ sigma(x) + push[0, t, 0]
        return x

    want = torch.linalg.svdvals(jacobian(last_x, x_0[0, 0]))[0].log()
    forward = log_norms(pre_activation(W_rec, h[:, t], sigma=sigma) for t in range(7))
    backward = log_norms(pre_activation(W_rec, h[:, t], sigma=sigma).mT for t in reversed(range(7)))
    torch.testing.assert_close(forward[0, -1, 0], want, rtol=0, atol=1e-12)
    torch.testing.assert_close(backward[0, -1, 0], want, rtol=0, atol=1e-12)


def test_a_sigmoid_network_has_the_jacobians_of_a_tanh_network_with_a_quarter_of_its_weights():
    # With x = 2z: z' = W/4 tanh(z) + (push + W 1/2)/2, by sigmoid(x) = (1 + tanh(x/2))/2.
    W_rec, x_0, push = draw(2, 3, 3), draw(2, 4, 3, seed=1), draw(2, 5, 1, 3, seed=2)
    shifted = (push + W_rec.sum(-1)[:, None, None] / 2) / 2
    h = trajectory(W_rec, x_0, push, sigma=Sigmoid())
    g = trajectory(W_rec / 4, x_0 / 2, shifted, sigma=Tanh())
    torch.testing.assert_close(h, (1 + g) / 2, rtol=0, atol=1e-14)
    J = pre_activation(W_rec, h, sigma=Sigmoid())
    torch.testing.assert_close(J, pre_activation(W_rec / 4, g, sigma=Tanh()), rtol=0, atol=1e-14)


def test_jacobians_take_any_number_of_axes_between_members_and_units():
    W_rec, h = draw(2, 3, 3), draw(2, 5, 4, 3, seed=1).tanh()
    for step in (pre_activation, post_activation):
        J = step(W_rec, h, sigma=Tanh())
        assert J.shape == (2, 5, 4, 3, 3)
        torch.testing.assert_close(J[:, 2, 1], step(W_rec, h[:, 2, 1], sigma=Tanh()), rtol=0, atol=0)


def test_the_two_forms_differ_by_a_change_of_variable():
    # diag(s_t) J_pre(t) = J_post(t) diag(s_{t-1}), because dh = diag(s) dx at each step.
    sigma, W_rec = Tanh(), draw(2, 4, 4)
    x = draw(2, 4, seed=1)
    after = sigma(torch.einsum("mij,mj->mi", W_rec, sigma(x)))
    left = torch.diag_embed(sigma.derivative(after)) @ pre_activation(W_rec, sigma(x), sigma=sigma)
    right = post_activation(W_rec, after, sigma=sigma) @ torch.diag_embed(sigma.derivative(sigma(x)))
    torch.testing.assert_close(left, right, rtol=1e-13, atol=1e-14)


def test_largest_singular_value_of_a_shear_is_its_closed_form():
    s = torch.tensor([0.0, 0.5, 3.0, 1e6], dtype=torch.float64)
    A = torch.eye(2, dtype=torch.float64).repeat(4, 1, 1)
    A[:, 0, 1] = s
    torch.testing.assert_close(largest_singular_value(A), (s + (s**2 + 4).sqrt()) / 2, rtol=1e-14, atol=0)


def test_largest_singular_value_is_nan_where_a_matrix_is_not_finite():
    A = draw(3, 2, 2)
    A[1, 0, 0] = torch.inf
    got = largest_singular_value(A)
    assert got.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(got[[0, 2]], torch.linalg.svdvals(A[[0, 2]])[:, 0], rtol=1e-14, atol=0)


@given(r=st.floats(0.01, 50.0), c=st.floats(-20.0, 20.0), steps=st.integers(1, 40))
@settings(deadline=None, max_examples=50)
def test_log_norms_of_a_jordan_block_are_the_closed_form(r, c, steps):
    # [[r, c], [0, r]]^n = r^n [[1, n c / r], [0, 1]], whose norm is r^n (s + sqrt(s^2 + 4)) / 2 with s = n |c| / r.
    A = torch.tensor([[[r, c], [0.0, r]]], dtype=torch.float64)
    got = log_norms(A for _ in range(steps))
    n = torch.arange(1, steps + 1, dtype=torch.float64)
    want = n * math.log(r) + torch.asinh(n * abs(c) / r / 2)
    torch.testing.assert_close(got, want[None], rtol=1e-12, atol=1e-12)


def test_log_norms_are_those_of_the_product_with_later_factors_on_the_left():
    J = draw(2, 6, 3, 4, 4)
    got = log_norms(J.unbind(1))
    product = torch.eye(4, dtype=torch.float64)
    for n in range(6):
        product = J[:, n] @ product
        torch.testing.assert_close(got[:, n], torch.linalg.svdvals(product)[..., 0].log(), rtol=0, atol=1e-13)


def test_log_norms_backwards_are_those_of_the_transposes_in_reverse_order():
    J = draw(2, 6, 4, 4)
    whole = J[:, 5] @ J[:, 4] @ J[:, 3] @ J[:, 2] @ J[:, 1] @ J[:, 0]
    got = log_norms(J[:, n].mT for n in reversed(range(6)))
    torch.testing.assert_close(got[:, -1], torch.linalg.svdvals(whole)[:, 0].log(), rtol=0, atol=1e-13)
    torch.testing.assert_close(got[:, 0], torch.linalg.svdvals(J[:, 5])[:, 0].log(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_thousand_steps_neither_underflow_nor_overflow(scale):
    # The whole product would be 1e-3000 or 1e3000. An orthogonal factor has norm 1 whatever the step.
    Q = torch.linalg.qr(draw(3, 5, 5)).Q
    got = log_norms(scale * Q for _ in range(1000))
    want = math.log(scale) * torch.arange(1, 1001, dtype=torch.float64)
    torch.testing.assert_close(got, want.expand(3, -1), rtol=1e-12, atol=0)


def test_a_start_of_one_column_is_transported_as_a_vector():
    J, v = draw(2, 5, 3, 3), draw(2, 3, 1, seed=1)
    want = (J[:, 4] @ J[:, 3] @ J[:, 2] @ J[:, 1] @ J[:, 0] @ v).norm(dim=(-2, -1)).log()
    torch.testing.assert_close(log_norms(J.unbind(1), start=v)[:, -1], want, rtol=0, atol=1e-13)


def test_every_thins_the_norms_and_changes_none():
    J = draw(2, 7, 3, 3)
    torch.testing.assert_close(log_norms(J.unbind(1), every=3), log_norms(J.unbind(1))[:, [2, 5]], rtol=0, atol=0)


def test_a_nilpotent_product_is_minus_infinity_from_the_step_on_at_which_it_is_zero():
    A = torch.diag(torch.ones(2, dtype=torch.float64), 1)[None]
    assert log_norms([A] * 4)[0].tolist() == [0.0, 0.0, -math.inf, -math.inf]


def test_a_member_that_is_not_finite_is_nan_and_leaves_the_others_alone():
    J = draw(2, 3, 3, 3)
    broken = J.clone()
    broken[0, 1, 0, 0] = torch.nan
    got, want = log_norms(broken.unbind(1)), log_norms(J.unbind(1))
    assert got[0].isnan().tolist() == [False, True, True]
    torch.testing.assert_close(got[1], want[1], rtol=0, atol=0)


def test_too_few_factors_are_refused_by_name():
    with pytest.raises(ValueError, match="factors must hold at least every = 3"):
        log_norms([torch.eye(2)[None]] * 2, every=3)

"""The latch of one unit against simulation and the fact that it stands still there; its training against autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.tasks.latching import Learnt, MinimalTask, TwoSystems, latch


def of(*w):
    return torch.tensor(w, dtype=torch.float64)


def flips(w, h, a, steps=20_000):
    """Whether an input that lasts takes the unit from its lower attractor over 0."""
    x = -a
    for _ in range(steps):
        x = w * math.tanh(x) + h
    return x > 0


def test_the_latch_has_the_numbers_that_were_worked_out_by_hand():
    found = latch(of(1.1, 1.25, 1.5, 2.0))
    for ours, known in zip(
        found,
        (
            (0.553235, 0.888015, 1.287839, 1.915008),
            (0.821756, 0.619144, 0.394313, 0.166372),
            (0.311181, 0.481212, 0.658479, 0.881374),
            (0.020481, 0.077805, 0.207546, 0.532840),
        ),
        strict=True,
    ):
        torch.testing.assert_close(ours, of(*known), rtol=0, atol=6e-7)  # as printed, to six digits


@settings(max_examples=30, deadline=None)
@given(w=st.floats(1.05, 5))
def test_an_input_flips_the_unit_if_it_lasts_and_is_above_the_critical_one(w):
    a, slope, edge, critical = (float(x[0]) for x in latch(of(w)))
    assert w * math.tanh(a) == pytest.approx(a, rel=1e-12)
    assert slope == pytest.approx(w / math.cosh(a) ** 2, rel=1e-9)
    assert w / math.cosh(edge) ** 2 == pytest.approx(1, rel=1e-9)
    assert not flips(w, critical * (1 - 1e-4), a)
    assert flips(w, critical * (1 + 1e-4), a)


@pytest.mark.parametrize("w", [1.0, 0.5, -2.0, math.inf, math.nan])
def test_a_weight_that_latches_nothing_is_refused(w):
    with pytest.raises(ValueError, match="w must be finite weights above 1, which latch, got"):
        latch(of(2.0, w))


def error(w, h, noise):
    """C of one run, step by step and sequence by sequence, and the last outputs."""
    cost, last = 0, []
    for k, target in ((0, -0.8), (1, 0.8)):
        for later in noise[k]:
            x = torch.zeros(())
            for h_t in (*h[k], *later):
                x = torch.tanh(w * x + h_t)
            cost = cost + (x - target) ** 2 / 2
            last.append(x)
    return cost, torch.stack(last).unflatten(0, (2, -1)).detach()


@settings(max_examples=20, deadline=None)
@given(
    length=st.integers(3, 9),
    informative=st.integers(1, 2),
    sequences=st.integers(1, 3),
    w=st.lists(st.floats(-2, 2), min_size=1, max_size=3),
)
def test_the_gradient_is_the_one_that_autograd_finds(length, informative, sequences, w):
    task, w = MinimalTask(length, informative, sequences, reach=1.0), of(*w)
    h, noise = (x.double() for x in task.drawn(torch.arange(len(w))))
    assert noise.shape == (len(w), 2, sequences, length - informative)
    x, g_w, g_h = task.gradient(w, h, noise)
    slopes = torch.func.grad_and_value(error, argnums=(0, 1), has_aux=True)
    for m in range(len(w)):
        (their_w, their_h), (_, last) = slopes(w[m], h[m], noise[m])
        torch.testing.assert_close(x[m], last, rtol=0, atol=1e-14)
        torch.testing.assert_close(g_w[m], their_w, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(g_h[m], their_h, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("learns", [True, False])
def test_learning_is_a_loop_of_steps_down_the_gradient(learns):
    task, seeds, s = MinimalTask(12, rate=0.3, updates=7, weight_learns=learns), torch.tensor([5, 9]), of(0.2, 0.4)
    h, noise = (x.double() for x in task.drawn(seeds))
    w, inputs = of(1.2, 1.6), noise * s[:, None, None, None]
    found = task.learn(w, s, seeds)
    for _ in range(7):
        _, g_w, g_h = task.gradient(w, h, inputs)
        w, h = w - 0.3 * learns * g_w, h - 0.3 * g_h
    for ours, theirs in zip(found, (w, h, task.gradient(w, h, inputs)[0]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    both = task.learn(of(1.2, 1.2), of(0.2), seeds)
    torch.testing.assert_close(task.learn(of(1.2), of(0.2), seeds[1:]).x, both.x[1:], rtol=1e-12, atol=1e-14)


def test_what_a_run_draws_is_uniform_and_normal_and_its_own():
    h, noise = MinimalTask(40, reach=0.5).drawn(torch.arange(2000))
    for x, variance in ((h / 0.5, 1 / 3), (noise, 1)):
        assert float(x.mean()) == pytest.approx(0, abs=5 * (variance / x.numel()) ** 0.5)
        assert float(x.var()) == pytest.approx(variance, rel=5 * (2 / x.numel()) ** 0.5)
    assert float(h.abs().max()) < 0.5
    flat = noise.flatten()
    assert len(flat.unique()) > 0.99 * len(flat)
    torch.testing.assert_close(MinimalTask(10).drawn(torch.arange(3))[1], noise[:3, ..., :7], rtol=0, atol=0)


def test_a_run_is_right_if_every_sequence_has_the_sign_of_its_class():
    x = torch.tensor([[[-0.1, -0.9], [0.2, 0.9]], [[-0.1, 0.1], [0.2, 0.9]], [[-0.1, -0.9], [0.2, 0.0]]])
    assert Learnt(x[:, 0, 0], x, x).right.tolist() == [True, False, False]


def test_a_sequence_without_noise_is_refused():
    with pytest.raises(ValueError, match="length must be more than the 3 informative steps, got 3"):
        MinimalTask(3)
    with pytest.raises(ValueError, match="rate must be a positive, finite number, got 0"):
        MinimalTask(rate=0)


def chained(task, p, w, u, z):
    """C of one system as a loop over sequences and steps, with A's outputs shifted by zeros to ask for derivatives."""
    shift, cost, last = torch.zeros(u.shape[1], u.shape[0], dtype=u.dtype, requires_grad=True), 0, []
    for b in range(u.shape[1]):
        x = torch.zeros((), dtype=u.dtype)
        for t in range(u.shape[0]):
            x = torch.tanh(w * x + torch.tanh((p[0 if t < task.informative else 1] * u[t, b]).sum()) + shift[b, t])
        cost = cost + (x - 0.8 * z[b]) ** 2 / 2 / u.shape[1]
        last.append(x)
    return cost, torch.stack(last), shift


@settings(max_examples=10, deadline=None)
@given(length=st.integers(2, 7), informative=st.integers(1, 2), w=st.floats(-2, 2), seed=st.integers(0, 99))
def test_two_systems_have_the_gradient_that_autograd_finds_step_by_step(length, informative, w, seed):
    task, update = TwoSystems(length, informative, inputs=3, noise=0.5), torch.tensor([seed])
    u, z = (x.double() for x in task.drawn(torch.arange(2), update, 4))
    assert (u.shape, z.shape) == ((2, length, 4, 3), (2, 4))
    p = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = task.gradient(p, of([w, 0.5], [w, 1.5]), u, z)
    both = p[1, :, 0].expand(2, 3).clone().requires_grad_()  # apart at the informative and at the other steps
    self_weight = of(w)[0].requires_grad_()
    cost, last, shift = chained(task, both, self_weight, u[1], z[1])
    (far, near), g_w = torch.autograd.grad(cost, (both, self_weight), retain_graph=True)
    (at_each,) = torch.autograd.grad(last.sum(), shift)
    theirs = (last.detach(), far, near, g_w, at_each[:, informative - 1])
    for name, ours, known in zip(found._fields, found, theirs, strict=True):
        torch.testing.assert_close(ours[1, ..., 0], known, rtol=1e-12, atol=1e-15, msg=name)


def test_a_unit_that_is_taught_itself_goes_down_its_own_error():
    task = TwoSystems(8, 2, noise=0.3)
    u, z = (x.double() for x in task.drawn(torch.arange(3), torch.tensor([4]), 6))
    p = torch.full((3, 5, 2), 0.3, dtype=torch.float64).requires_grad_()
    cost = ((torch.einsum("mbi,mik->mbk", u[:, 1], p).tanh() - 0.8 * z[..., None]) ** 2 / 2).mean(dim=1).sum()
    torch.testing.assert_close(task.taught(p.detach(), u, z), torch.autograd.grad(cost, p)[0], rtol=1e-12, atol=0)


def test_the_class_is_shown_in_the_first_input_of_the_informative_steps_alone():
    u, z = TwoSystems(20, 4, noise=0.1).drawn(torch.arange(50), torch.tensor([1]), 20)
    shown = (u * z[:, None, :, None]).mean(dim=(0, 2))  # T I
    wanted = torch.zeros(20, 5)
    wanted[:4, 0] = 1
    torch.testing.assert_close(shown, wanted, rtol=0, atol=5 * 0.1 / 1000**0.5)
    rest = u[:, 4:].flatten()
    assert float(rest.std()) == pytest.approx(0.1, rel=5 / (2 * len(rest)) ** 0.5)
    assert set(z.unique().tolist()) == {-1, 1}
    assert float(z.mean()) == pytest.approx(0, abs=5 / 1000**0.5)
    alike = TwoSystems(20, 4).drawn(torch.tensor([7]), torch.tensor([1]), 20)
    for one, other in zip(alike, (u, z), strict=True):
        assert torch.equal(one[0], other[7])


def test_more_informative_steps_than_steps_are_refused():
    with pytest.raises(ValueError, match="length must be at least the 3 informative steps, got 2"):
        TwoSystems(2)

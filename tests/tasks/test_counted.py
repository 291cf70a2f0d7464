"""The counted tasks: networks against a loop in PyTorch, and sequences against what the paper says."""

import numpy as np
import pytest
import torch

from rnnlab import bits
from rnnlab.tasks.counted import Latch, Parity, Presented, TwoSequence, first, sequences

SEEDS = torch.tensor([3, 8, 11])
TASKS = [Latch(12), TwoSequence(12), Parity(12), Parity(12, start=0.0)]


def states(task, theta, given, m, k, f):
    """The states of one network over one sequence, by the equations; `theta` is a list of P numbers."""
    live, push, fed = given.live[:, k, m], given.push[:, k, m], given.fed[:, :, k, m]
    x, path = [torch.tensor(float(task.start), dtype=torch.float64)] * task.units, []
    for t in np.flatnonzero(live):
        if isinstance(task, Latch):
            w, h_1, h_0 = theta
            x = [f(w * x[0] + h_1 * fed[t, 0] + h_0 * fed[t, 1] + push[t])]
        elif isinstance(task, TwoSequence):
            a = [sum(theta[5 * i + j] * x[j] for j in range(5)) for i in range(5)]
            x = [f(a_i + push[t] * (i == 0)) for i, a_i in enumerate(a)]
        else:
            w_y, w_u, b, v_y, v_u, c, v_h = theta
            h = f(w_y * x[1] + w_u * fed[t, 0] + b)
            x = [h, f(v_y * x[1] + v_u * fed[t, 0] + c + v_h * h)]
        path.append(x)
    return path


def presented(task, **how):
    return Presented(task, SEEDS, **{"cap": np.full(3, 10**6), "sharp": False, "count": 6} | how)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_derivatives_of_all_steps_add_up_to_those_of_autograd(task):
    problem, theta, which = presented(task), 3 * first(task, SEEDS), np.array([0, 3, 5])
    g, H = problem.instances(theta, which)
    costs, _ = problem.evaluate(theta, counted=False)
    mean = np.zeros(3)
    for m in range(3):
        parts = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in theta[m]]
        for k in range(6):
            y = states(task, parts, problem.training, m, k, torch.tanh)[-1][-1]
            cost = 0.5 * (y - 0.8 * problem.training.sign[k, m]) ** 2
            mean[m] += cost.item() / 6
            if k == which[m]:
                wanted = torch.stack(torch.autograd.grad(cost, parts, retain_graph=True)).numpy()
                np.testing.assert_allclose(g[m].sum(axis=0), wanted, rtol=1e-12, atol=1e-15)
        assert (
            g[m, ~problem.training.live[:, which[m], m]].tolist()
            == (g[m, ~problem.training.live[:, which[m], m]] * 0).tolist()
        )
    np.testing.assert_allclose(costs, mean, rtol=1e-13)
    assert (H >= 0).all()


def test_the_second_derivatives_of_one_unit_are_those_without_curvature_of_tanh():
    """H_T = f'(a_T)^2 and H_t = f'(a_t)^2 w^2 H_{t+1}, times the source squared."""
    problem, theta = presented(Latch(8)), np.tile([1.3, 0.4, -0.3], (3, 1))
    _, H = problem.instances(theta, np.array([1, 1, 1]))
    path = [float(x[0]) for x in states(Latch(8), list(theta[0]), problem.training, 0, 1, torch.tanh)]
    back, wanted = 1.0, []
    for x, before in zip(path[::-1], [*path[:-1][::-1], 0.0], strict=True):
        back *= (1 - x**2) ** 2
        wanted.append([back * before**2, 0.0, 0.0])
        back *= 1.3**2
    wanted[-1][1] = back / 1.3**2
    np.testing.assert_allclose(H[0, -len(path) :][::-1], wanted, rtol=1e-12)


@pytest.mark.parametrize("literal", [True, False])
def test_signs_are_propagated_as_the_paper_asks(literal):
    """One unit, by hand: S(g) for each step from the last, and 1/dx with dx of eq. (9), at most 1/eps."""
    problem, theta, eps = presented(Latch(8), sharp=True), np.tile([0.3, 0.15, -0.4], (3, 1)), 0.1
    uniform = np.random.default_rng(0).random((3, 8))
    asked = problem.signs(theta, np.array([1, 0, 1]), uniform, eps=eps, literal=literal)
    for m, k in enumerate((1, 0, 1)):
        given = problem.training
        live = np.flatnonzero(given.live[:, k, m])
        x, a = {live[0] - 1: 0.0}, {}
        for t in live:
            a[t] = 0.3 * x[t - 1] + given.fed[t, :, k, m] @ theta[m, 1:] + given.push[t, k, m]
            x[t] = 1.0 if a[t] >= 0 else -1.0
        g, wanted = 0.8 * given.sign[k, m] - x[live[-1]], np.zeros(3)
        for t in live[::-1]:
            S = 2 if uniform[m, t] < (min(2, max(-2, g)) + 2) / 4 else -2
            dx = eps - a[t] if S == 2 else -eps - a[t]
            pseudo = np.sign(dx) * min(1 / abs(dx), 1 / eps)
            if g == 0 or (not literal and (S == 2) == (a[t] >= 0)):
                pseudo = 0.0
            wanted += pseudo * np.array([x[t - 1], *given.fed[t, :, k, m]])
            g = 0.3 * pseudo
        np.testing.assert_allclose(asked[m], wanted, rtol=1e-12)


def test_every_sequence_passed_is_one_presentation_and_no_check_is():
    task, theta = Parity(10), np.zeros((3, 7))
    theta[0, 5], theta[1, 5] = 1.0, -1.0  # the output is always 1, always -1, and always 0
    problem = presented(task)
    sign = problem.training.sign
    problem.evaluate(theta, counted=False)
    assert problem.presented.tolist() == [0, 0, 0]
    problem.evaluate(theta)
    problem.instances(theta, np.zeros(3, int))
    problem.signs(theta, np.zeros(3, int), np.zeros((3, 20)), eps=0.1, literal=True)
    assert problem.presented.tolist() == [8, 8, 8]
    until = presented(task)
    until.evaluate(theta, until_wrong=True)
    assert until.presented.tolist() == [1 + list(sign[:, 0]).index(-1), 1 + list(sign[:, 1]).index(1), 1]


def test_a_trial_ends_with_the_first_parameters_that_have_all_right_or_at_its_cap_and_counts_no_more():
    task, right, wrong = Latch(10, noise=0.0), np.array([2.0, 1.0, -1.0]), np.array([2.0, -1.0, 1.0])
    problem = presented(task, cap=np.array([100, 100, 12]))
    for theta in ([right, wrong, wrong], [wrong, right, wrong], [right, right, right]):
        problem.evaluate(np.stack(theta))
    assert problem.solved.tolist() == [True, True, False]
    assert problem.presented.tolist() == [6, 12, 12]
    np.testing.assert_array_equal(problem.found[:2], [right, right])


def test_parity_weights_made_by_hand_solve_a_thousand_steps_without_noise():
    """From -1, h is 1 if the input and the last output both are, and y = u xor y."""
    task, big = Parity(1000, noise=0.0), 100.0
    both, one = [big, big, -big], [big, big, -big, -2 * big]  # h: u + y > 1; y: u + y - 1 - 2 h > 0
    for sharp in (True, False):
        problem = presented(task, sharp=sharp)
        assert problem.error(np.tile([*both, *one], (3, 1)), count=40).tolist() == [0, 0, 0]
    assert (problem.error(np.tile([*both, *one[:3], 0.0], (3, 1)), count=40) > 0.2).all()


def test_a_network_of_two_units_one_step_behind_has_no_parity():
    """With h read from the last step the output after one step is a sign of v u + y W x_0, in two steps of no xor.

    All signs of what the output of two units can be after inputs of 1 and 2 steps, over a fine grid of weights: none is
    the parity of both.
    """
    rng = np.random.default_rng(0)
    w_h, w_y, w_u, b, v_h, v_y, v_u = rng.normal(size=(7, 200_000)) * rng.choice([0.3, 1, 10], size=(7, 1))
    right = np.ones(200_000, bool)
    for length in (1, 2, 3):
        for word in range(2**length):
            u = [1 if word >> i & 1 else -1 for i in range(length)]
            h, y = np.full(200_000, -1.0), np.full(200_000, -1.0)
            for one in u:
                h, y = np.tanh(w_h * h + w_y * y + w_u * one + b), np.tanh(v_h * h + v_y * y + v_u * one)
            right &= y * (1 if sum(x == 1 for x in u) % 2 else -1) > 0
    assert not right.any()


@pytest.mark.parametrize("task", TASKS[:3], ids=lambda task: type(task).__name__)
def test_sequences_are_as_long_and_as_noisy_as_the_paper_says_and_each_trials_own(task):
    given = sequences(task, torch.arange(40), stream=bits.TRAIN, count=50)
    lengths = given.live.sum(axis=0)
    assert set(np.unique(lengths)) == set(range(6, 13))
    assert np.bincount(lengths.ravel())[6:] / 2000 == pytest.approx(1 / 7, abs=0.03)
    assert given.live[-1].all()
    assert (np.diff(given.live.astype(int), axis=0) >= 0).all()
    alone = sequences(task, torch.tensor([7]), stream=bits.TRAIN, count=50)
    other = sequences(task, torch.tensor([7]), stream=bits.TEST, count=50)
    for x, one, _fresh in zip(given, alone, other, strict=True):
        np.testing.assert_array_equal(x[..., 7:8], one)
    assert (alone.push != other.push).any() or (alone.fed != other.fed).any()


def test_classes_are_told_by_the_first_inputs_and_parity_by_the_number_of_ones():
    latch = sequences(Latch(12), SEEDS, stream=bits.TRAIN, count=6)
    assert latch.sign.tolist() == [[s] * 3 for s in (-1, 1, -1, 1, -1, 1)]
    np.testing.assert_array_equal(latch.fed.sum(axis=0), np.stack((latch.sign > 0, latch.sign < 0)))
    assert (latch.push[(latch.fed.sum(axis=1) > 0)] == 0).all()
    assert 0.19 < np.abs(latch.push[latch.live]).max() <= 0.2
    two = sequences(TwoSequence(12), SEEDS, stream=bits.TRAIN, count=60)
    for m in range(3):
        own = [two.push[two.live[:, k, m], k, m] for k in range(60)]
        for sign in (0, 1):
            same = [x[0] for x in own[sign::2]], [x[2] for x in own[sign::2]]
            assert len(set(same[0])) == len(set(same[1])) == 1
        assert len({x[3] for x in own}) > 10
        assert len({x[0] for x in own}) == 2
    parity = sequences(Parity(12), SEEDS, stream=bits.TRAIN, count=60)
    ones = ((parity.fed[:, 0] > 0) & parity.live).sum(axis=0)
    np.testing.assert_array_equal(parity.sign, np.where(ones % 2, 1, -1))
    assert np.abs(np.abs(parity.fed[:, 0]) - 1).max() <= 0.2
    assert 0.4 < (parity.sign > 0).mean() < 0.6


def test_what_is_too_short_for_its_keys_is_refused():
    with pytest.raises(ValueError, match="length must be at least 10, twice the longest first sequence, got 9"):
        TwoSequence(9)

"""Methods of search: steps and acceptance by closed form, and trials that do not know of each other."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rnnlab.methods.search import (
    Annealing,
    BackPropagation,
    DiscreteError,
    Guessing,
    MultiGrid,
    PseudoNewton,
    search,
    stuck,
)
from rnnlab.tasks.counted import Latch, Parity, Presented, TwoSequence, first

METHODS = [
    BackPropagation(1.0),
    PseudoNewton(),
    PseudoNewton(weighted=True),
    PseudoNewton(weighted=True, mu=1e-4, adaptive=False),
    DiscreteError(),
    Guessing(),
    MultiGrid(),
    Annealing(2, 2),
]


def latches(M=2, length=6):
    seeds = torch.arange(M)
    problem = Presented(Latch(length), seeds, cap=np.full(M, 10**6), sharp=False, count=4)
    return problem, first(problem.task, seeds)


@pytest.mark.parametrize("weighted", [True, False])
def test_without_curvature_a_pseudo_newton_step_is_back_propagations_at_rate_over_mu(weighted):
    g, mu = np.random.default_rng(0).normal(size=(2, 5, 3)), np.array([0.1, 2.0])
    parts = g if weighted else g.sum(axis=1, keepdims=True)
    change = PseudoNewton(0.01, weighted=weighted).change(mu, parts, 0 * parts)
    np.testing.assert_allclose(change, 0.01 / mu[:, None] * g.sum(axis=1), rtol=1e-13)


def test_time_weighting_divides_each_step_by_its_own_curvature():
    g, H, mu = np.array([[[1.0], [-2.0]]]), np.array([[[3.0], [0.5]]]), np.array([0.5])
    change = PseudoNewton(0.1, weighted=True).change
    assert change(mu, g, H).item() == pytest.approx(0.1 * (1 / 3.5 - 2 / 1.0))
    assert change(mu, g.sum(1, keepdims=True), H.sum(1, keepdims=True)).item() == pytest.approx(0.1 * -1 / 4.0)


def test_an_epoch_of_back_propagation_follows_the_gradient_sequence_by_sequence_in_the_order_drawn():
    problem, theta = latches()
    order = np.array([[0.3, 0.1, 0.9, 0.5], [0.8, 0.7, 0.1, 0.2]])  # 1 0 3 2, and 2 3 1 0
    made = BackPropagation(0.5).step({"theta": theta}, problem, lambda count: order[:, :count])["theta"]
    for which in np.array([[1, 2], [0, 3], [3, 1], [2, 0]]):
        theta = theta - 0.5 * problem.instances(theta, which)[0].sum(axis=1)
    np.testing.assert_array_equal(made, theta)
    assert problem.presented.tolist() == [8, 8]  # the method's four, and those of this test


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_mu_goes_a_fifth_of_the_way_to_where_the_largest_change_is_allowed(scale):
    method, g = PseudoNewton(0.01, momentum=0.8), scale * np.array([[[2.0, -1.0]]])
    aim = min(0.3, max(0.001, 0.01 * 2 * scale / 0.1))
    mu = method._adapted(np.array([0.1]), g, 0 * g)
    assert mu.item() == pytest.approx(0.8 * 0.1 + 0.2 * 0.01 * 2 * scale / aim, rel=1e-6)


def test_a_region_shrinks_and_moves_when_a_draw_is_better_and_only_then():
    problem, theta = latches()
    method, middle = MultiGrid(4.0, 0.9), lambda count: np.full((2, count), 0.5)
    state = method.step(method.start(theta), problem, lambda count: np.ones((2, count)))  # the point itself
    np.testing.assert_array_equal(state["theta"], theta)
    np.testing.assert_array_equal(state["costs"][:, -1], problem.evaluate(theta, counted=False)[0])
    assert state["half"].tolist() == [4.0, 4.0]
    assert problem.presented.tolist() == [4, 4]
    again = method.step(state, problem, middle)  # as good is not better
    assert again["half"].tolist() == [4.0, 4.0]
    goal, wrong = np.array([2.0, 1.0, -1.0]), np.array([2.0, -1.0, 1.0])
    drawn = np.stack([(to - theta[m]) / 8 + 0.5 for m, to in enumerate((goal, wrong))])
    moved = method.step(state, problem, lambda count: drawn)
    np.testing.assert_allclose(moved["theta"], [goal, theta[1]])
    np.testing.assert_allclose(moved["half"], [3.6, 4.0])


@pytest.mark.parametrize(("by", "accepted"), [(1 - 1e-9, 1), (1 + 1e-9, 0)])
def test_a_worse_point_is_accepted_with_the_chance_of_metropolis(by, accepted):
    problem, theta = latches(1)[0], np.array([[0.3, -0.2, 0.2]])  # all wrong
    method = Annealing(20, 10, 0.1)
    moves = np.array([0, 0.5, -0.5])[:, None, None] * [[1, 0, 0]]
    costs = [problem.evaluate(theta + move, counted=False)[0].item() for move in moves]
    move, worse = max((0.75, costs[1]), (0.25, costs[2]), key=lambda to: to[1])
    chance = np.exp((costs[0] - worse) / 0.1)
    assert chance < 1
    u = np.array([[move, 0.5, 0.5, by * chance, 0.0, 0.0]])  # the other two stay where they are
    state = method.step(method.start(theta), problem, lambda count: u)
    assert state["accepted"].tolist() == [[accepted, 1, 1]]
    assert state["at"][0, 0] - theta[0, 0] == pytest.approx(accepted * 2 * (move - 0.5))
    np.testing.assert_array_equal(state["theta"], theta)  # the best point
    assert problem.presented.tolist() == [4 * (1 + 3)]


def test_moves_are_adjusted_as_corana_and_others_do():
    made = Annealing(10).adjusted(np.ones(5), np.array([10, 8, 5, 2, 0]))
    np.testing.assert_allclose(made, [3, 2, 1, 1 / 2, 1 / 3])
    assert Annealing(10).adjusted(np.array([90.0]), np.array([10])).item() == 100


def test_stuck_are_four_costs_within_a_thousandth_of_each_other_and_of_the_best():
    costs = np.array([[np.inf, 1, 1, 1], [1, 1, 1, 1.0009], [1, 1, 1, 1.002], [1, 1, 1, 1]])
    assert stuck(costs).tolist() == [False, True, False, True]
    assert stuck(costs, np.array([1, 1, 1, 0.5])).tolist() == [False, True, False, False]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("task", [Latch(4), TwoSequence(10), Parity(4)], ids=lambda task: type(task).__name__)
def test_a_trial_is_the_same_alone_as_among_others_and_ends_at_its_cap(task, method):
    """Those beside it end at other times, which takes them out of what is computed side by side."""
    how = {"cap": 40, "sequences": 4}
    many, alone = search(task, method, seeds=[5, 1, 3], **how), search(task, method, seeds=[3], **how)
    assert many.sel(seed=[3]).identical(alone)
    guesses = isinstance(method, Guessing)
    assert (many.presented[~many.solved] == 40).all() or guesses
    assert (many.presented % 4 == 0).all() or guesses
    assert (many.presented <= 40 + 3 * guesses).all()


@pytest.mark.parametrize("method", METHODS[3:], ids=str)
def test_what_counts_as_solved_has_all_training_signs_right(method):
    made = search(Latch(4), method, seeds=6, cap=200)
    problem = Presented(Latch(4), torch.arange(6), cap=np.full(6, 1), sharp=getattr(method, "sharp", False), count=20)
    wrong = problem.evaluate(made.theta.values, counted=False)[1]
    np.testing.assert_array_equal(wrong == 0, made.solved)
    assert made.solved.any()
    np.testing.assert_array_equal(problem.error(made.theta.values), made.error)


def test_a_search_goes_on_from_what_it_is_given_with_what_is_left_to_each():
    made = search(Latch(8), BackPropagation(), seeds=3, cap=[20, 40, 60], theta=np.zeros((3, 3)))
    assert made.presented.values.tolist() == [20, 40, 60]
    right = np.tile([2.0, 1.0, -1.0], (3, 1))
    assert search(Latch(8), BackPropagation(), seeds=3, cap=20, theta=right).presented.values.tolist() == [0, 0, 0]
    for wrong, said in (({"cap": [1, 2]}, "cap must be one number, or 3, got"), ({"cap": 0}, "cap must be a positive")):
        with pytest.raises(ValueError, match=said):
            search(Latch(8), BackPropagation(), seeds=3, **wrong)
    with pytest.raises(ValueError, match=r"theta must be of shape \(3, 3\), got \(3, 7\)"):
        search(Latch(8), BackPropagation(), seeds=3, cap=20, theta=np.zeros((3, 7)))


def test_a_method_from_outside_of_a_few_lines_searches_like_any_other():
    @dataclass(frozen=True)
    class Halfway:
        evaluates = True

        def start(self, theta):
            return {"theta": theta}

        def step(self, state, problem, uniform):
            theta = state["theta"] / 2 + [[1.0, 0.5, -0.5]]
            problem.evaluate(theta)
            return {"theta": theta}

    made = search(Latch(8), Halfway(), seeds=3, cap=200)
    assert made.solved.all()
    assert (made.presented < 200).all()

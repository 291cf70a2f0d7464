"""Spikes against a plain loop; labels of planted bifurcations and crossings, and of neither, in closed form."""

import numpy as np
import pytest
import torch

from rnnlab.dynamics.explosions import continued, ends_apart, spikes, with_controls
from rnnlab.dynamics.fixed_points import fixed_points
from rnnlab.dynamics.maps import Network
from rnnlab.network.cells import Linear, Sigmoid, Tanh

STARTS = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
FOLD = -2.344390  # b_1 of the sigmoid unit of weight 5: above it one point is left, as the page one_unit derives


def unit(weight, push, sigma=None):
    one = torch.tensor([[float(weight)]], dtype=torch.float64)
    return Network(W_rec=one, push=one[0] * 0 + push, sigma=sigma or Tanh(), form="h")


@pytest.mark.parametrize("window", [1, 7, 1030])
def test_spikes_are_those_of_a_plain_loop_with_a_median_of_the_updates_before(window):
    random = np.random.default_rng(0)
    norm = np.exp(random.normal(size=2500) * 1.5)
    norm[[0, 3, 40, 1500, 1501, 2499]] *= 500
    median = [np.sort(norm[k - window : k])[(window - 1) // 2] if k >= window else np.inf for k in range(2500)]
    found = spikes(torch.from_numpy(norm), window=window)
    assert torch.equal(found, torch.from_numpy(norm > 10 * np.array(median)))
    assert found.any()


def test_an_update_without_a_norm_hides_no_spike_after_it_and_is_no_control():
    norm, loss = torch.ones(2500), torch.ones(2500)
    norm[[1500, 2000, 2400]], norm[1400] = 100.0, torch.nan
    assert spikes(norm).nonzero()[:, 0].tolist() == [1500, 2000, 2400]
    found = with_controls(norm, loss, seed=0, each=900)
    assert found[:, 0].tolist() == [1500, 2000, 2400]
    assert 1400 not in found


def test_a_network_of_fewer_updates_than_the_window_has_no_spikes():
    assert not spikes(torch.tensor([1.0, 1e9]), window=2).any()
    assert spikes(torch.tensor([1.0, 1.0, 1e9]), window=2).tolist() == [False, False, True]


def test_one_unit_moved_across_its_fold_bifurcates():
    step = continued(unit(5, FOLD - 0.01, Sigmoid()), unit(5, FOLD + 0.01, Sigmoid()), STARTS)
    assert sorted(step.before.unstable.tolist()) == [0, 0, 1]
    assert step.after.unstable.tolist() == [0]
    assert step.bifurcates
    assert step.sound


def test_a_point_that_only_loses_its_stability_bifurcates():
    step = continued(unit(-0.99, 0.0), unit(-1.01, 0.0), STARTS)
    assert (step.before.unstable.tolist(), step.after.unstable.tolist()) == ([0], [1])
    assert step.bifurcates
    assert step.sound


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (unit(5, FOLD - 0.02, Sigmoid()), unit(5, FOLD - 0.01, Sigmoid())),
        (unit(0.5, 0.0, Linear()), unit(0.5, 0.1, Linear())),
    ],
    ids=["three points that move", "linear"],
)
def test_points_that_only_move_do_not_bifurcate(before, after):
    step = continued(before, after, STARTS)
    assert not step.bifurcates
    assert step.sound


def test_a_point_found_on_one_side_alone_is_continued_to_the_other():
    before, after = unit(2, 0.0), unit(2, 1e-3)
    dense = torch.linspace(-1, 1, 20_001, dtype=torch.float64)[:, None]
    here, there = (fixed_points(map, dense) for map in (before, after))
    places = [found.unstable[found.labels.clamp(min=0)].masked_fill(found.labels < 0, -1) for found in (here, there)]
    start = dense[(places[0] == 0) & (places[1] == 1)][:1]  # Newton's method goes elsewhere after the step
    assert len(start) == 1
    step = continued(before, after, start)
    assert sorted(step.before.unstable.tolist()) == sorted(step.after.unstable.tolist()) == [0, 1]
    assert not step.sound, "the third point was not looked for"


def test_a_boundary_moved_past_a_state_is_a_crossing_without_a_bifurcation():
    before, after, x = unit(2, 0.0), unit(2, -0.05), torch.tensor([[0.01], [0.5]], dtype=torch.float64)
    upper, upper_after, lower_after = 0.0, 0.0, 0.0
    for _ in range(200):  # x = tanh(2 x + push)
        upper, upper_after = np.tanh(2 * (upper or 1)), np.tanh(2 * (upper_after or 1) - 0.05)
        lower_after = np.tanh(2 * (lower_after or -1) - 0.05)
    want = torch.tensor([upper - lower_after, upper - upper_after])
    torch.testing.assert_close(ends_apart(before, after, x, x), want, rtol=0, atol=1e-12)
    assert not continued(before, after, STARTS).bifurcates


def test_two_phases_of_one_cycle_are_no_distance_apart_unless_the_last_states_alone_are_looked_at():
    map, x = unit(-2, 0.0), torch.tensor([[0.3]], dtype=torch.float64)
    cycle = 1.0
    for _ in range(200):
        cycle = np.tanh(2 * cycle)
    torch.testing.assert_close(ends_apart(map, map, x, -x), torch.zeros(1).double(), rtol=0, atol=1e-12)
    last = ends_apart(map, map, x, -x, watched=1)
    torch.testing.assert_close(last, torch.tensor([2 * cycle]).double(), rtol=0, atol=1e-12)


def test_the_distance_is_the_larger_of_both_ways():
    still, swings = unit(0.0, 0.5, Linear()), unit(-1.0, 1.0, Linear())  # at 0.5; and x, 1 - x, x, ...
    x = torch.tensor([[0.5]], dtype=torch.float64)
    torch.testing.assert_close(ends_apart(still, swings, x, x + 0.5), torch.tensor([0.5]).double())
    one, both = unit(0.0, 1.0, Linear()), swings  # the cycle's one state is there, and its last is not
    assert ends_apart(one, both, x, x * 0, steps=301).item() == pytest.approx(0.0)
    assert ends_apart(one, both, x, x * 0, steps=300).item() == pytest.approx(1.0)


def test_maps_of_other_states_are_refused():
    with pytest.raises(ValueError, match=r"x must have the 1 numbers of the map's states last"):
        ends_apart(unit(1, 0), unit(1, 0), torch.zeros(3, 2), torch.zeros(3, 2))


def trained(updates=4000):
    """Norms and losses as of a training: a loss that falls, norms around one, and thirty explosions."""
    random = np.random.default_rng(1)
    loss, norm = np.exp(-np.arange(updates) / 1500) * random.uniform(0.5, 1.5, updates), random.uniform(0.5, 2, updates)
    norm[random.choice(np.arange(1200, updates), 30, replace=False)] *= 100
    return torch.from_numpy(norm), torch.from_numpy(loss)


def test_each_spike_has_ordinary_updates_near_by_and_of_its_stage_beside_it():
    norm, loss = trained()
    at = with_controls(norm, loss, seed=3)
    every = spikes(norm).nonzero()[:, 0]
    assert torch.equal(at[:, 0], every)
    stage = np.convolve(loss, np.ones(100) / 100)[: len(loss)]
    controls = at[:, 1:6].numpy()
    assert (norm[controls] < 3 * 2).all()
    assert (abs(controls - at[:, :1].numpy()) <= 1000).all()
    assert (abs(np.log(stage[controls] / stage[at[:, :1]])) < 0.1 + 1e-3).all()
    assert all(len(set(row)) == 5 for row in controls.tolist())
    assert at[:-1, 6].tolist() == every[1:].tolist()
    assert at[-1, 6] == every[-1]
    assert not spikes(norm)[at[:, 7]].any()
    assert (at[:-1, 7] - at[:-1, 1] >= at[:-1, 6] - at[:-1, 0]).all()


def test_which_spikes_and_controls_hangs_on_the_seed_alone_and_chance_reaches_them_all():
    norm, loss = trained()
    assert torch.equal(with_controls(norm, loss, seed=1, most=7), with_controls(norm, loss, seed=1, most=7))
    first = [with_controls(norm, loss, seed=seed, most=7)[:, 0].tolist() for seed in range(40)]
    assert len({k for some in first for k in some}) == 30
    assert all(len(some) == 7 for some in first)


def test_a_spike_with_too_few_ordinary_updates_near_it_is_left_out():
    norm, loss = torch.ones(4000), torch.ones(4000)
    norm[1500], norm[3000:3004] = 100.0, 100.0
    assert with_controls(norm, loss, seed=0)[:, 0].tolist() == [1500, 3000, 3001, 3002, 3003]
    assert with_controls(norm, loss, seed=0, each=1999)[:, 0].tolist() == []
    assert with_controls(torch.ones(40), loss[:40], seed=0).shape == (0, 8)

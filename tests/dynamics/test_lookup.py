"""Basins read from a grid against closed forms of one unit and of two that do not meet, and against iteration."""

import pytest
import torch

from rnnlab.dynamics.basins import basins
from rnnlab.dynamics.lookup import lookup
from rnnlab.dynamics.maps import Network
from rnnlab.network.cells import Tanh

AXIS = torch.linspace(-6, 6, 49, dtype=torch.float64)  # a step of a quarter: coarse


def fixed_points(map, starts):
    found = basins(map, starts, steps=500)
    return torch.cat(found.attractors)


def test_two_units_that_do_not_meet_have_the_quadrants_for_basins_however_coarse_the_grid():
    map = Network(W_rec=2 * torch.eye(2), push=torch.zeros(2), sigma=Tanh())
    signs = torch.tensor([[-3.0, -3], [-3, 3], [3, -3], [3, 3]], dtype=torch.float64)
    attractors = fixed_points(map, signs)
    assert torch.equal(attractors.sign(), signs.sign())
    x = 4 * torch.randn(3, 2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = lookup(map, attractors, (AXIS, AXIS))
    assert torch.equal(found(x), 2 * (x[..., 0] > 0).long() + (x[..., 1] > 0).long())
    assert 0 < found.near.double().mean() < 0.5, "most are read from the grid"


@pytest.mark.parametrize("seed", [3, 8])
def test_labels_are_those_that_iteration_finds(seed):
    random = torch.Generator().manual_seed(seed)
    W_rec = torch.tensor([[1.6, 0.0], [0.0, -0.4]]) + 0.4 * torch.randn(2, 2, generator=random)
    map = Network(W_rec=W_rec, push=torch.tensor([0.02, 0.1]), sigma=Tanh())
    starts = 3 * torch.randn(400, 2, dtype=torch.float64, generator=random)
    told = basins(map, starts, steps=2000)
    assert len(told.attractors) == 2
    assert set(told.labels.tolist()) == {0, 1}
    attractors = torch.cat(told.attractors)
    assert torch.equal(lookup(map, attractors, (AXIS, AXIS), steps=200)(starts), told.labels)


def test_a_grid_of_other_states_than_the_map_s_is_refused():
    map = Network(W_rec=2 * torch.eye(2), push=torch.zeros(2), sigma=Tanh())
    with pytest.raises(ValueError, match=r"axes must have the 2 numbers of the map.s states last, got .*25, 3\)"):
        lookup(map, torch.eye(2), (AXIS[::2],) * 3)

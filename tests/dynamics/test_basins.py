"""Attractors, basins and boundaries of maps whose basins are known."""

import math

import pytest
import torch

from rnnlab.dynamics.basins import DIVERGED, UNSETTLED, basins, boundary
from rnnlab.dynamics.maps import Network, orbit
from rnnlab.network.cells import Linear, Sigmoid, Tanh
from tests.dynamics import known
from tests.dynamics.known import real


def test_fig_3s_unit_has_two_attractors_on_either_side_of_the_unstable_point():
    starts = torch.linspace(-6, 6, 40, dtype=torch.float64)[:, None]  # b = -2.5: the unstable point is 0
    found = basins(known.doya(-2.5), starts)
    assert [cycle.shape for cycle in found.attractors] == [(1, 1), (1, 1)]
    for cycle, sign in zip(found.attractors, (-1, 1), strict=True):
        x = sign * cycle.item()
        assert x == pytest.approx(2.5 * math.tanh(x / 2), abs=1e-9)
        assert x > 1
    assert found.labels.tolist() == (starts[:, 0] > 0).long().tolist()
    assert found(starts.reshape(5, 8, 1)).tolist() == found.labels.reshape(5, 8).tolist()


def test_maps_side_by_side_have_attractors_and_boundaries_of_their_own():
    """Under the bias b the unstable point is 0 at -2.5; the map of -5 - b is that of b, turned over."""
    several = Network(W_rec=real([5.0]), push=real([-2.6], [-2.5], [-2.4]), sigma=Sigmoid())
    side = real([6.0]).expand(3, 1)
    found = basins(several, torch.stack((-side, side)))
    assert found.labels.tolist() == [[0, 1, 2], [3, 4, 5]]
    at = boundary(found, -side, side).x[:, 0].tolist()
    assert at == pytest.approx([-at[2], 0, -at[0]], abs=1e-12)
    assert at[0] == pytest.approx(5 / (1 + math.exp(-at[0])) - 2.6, abs=1e-12)


def test_a_cycle_is_one_attractor_and_what_leaves_has_diverged():
    r = 3.2
    starts = real([-0.1], [0.0], [0.2], [0.5], [0.7], [1.0], [1.2])
    found = basins(known.logistic(r), starts)
    assert found.labels.tolist() == [DIVERGED, 0, 1, 1, 1, 0, DIVERGED]
    root = math.sqrt((r - 3) * (r + 1))
    assert found.attractors[1][:, 0].tolist() == pytest.approx(
        [(r + 1 - root) / 2 / r, (r + 1 + root) / 2 / r], abs=1e-9
    )


def test_what_is_neither_periodic_nor_gone_is_unsettled():
    assert basins(known.logistic(4.0), real([0.3], [0.4])).labels.tolist() == [UNSETTLED, UNSETTLED]
    turning = basins(known.rotation(1.0), real([1.0, 0.0], [0.0, 0.0]))
    assert turning.labels.tolist() == [UNSETTLED, 0]
    slow = known.linear(real([1 - 1e-6]))
    assert basins(slow, real([1.0]), steps=10).labels.tolist() == [UNSETTLED]


def test_a_nan_has_diverged():
    assert basins(known.logistic(2.0), real([math.nan], [0.3])).labels.tolist() == [DIVERGED, 0]


def test_the_boundary_is_found_to_rounding_for_all_pairs_at_once():
    found = basins(known.doya(-2.5), real([-2.0], [2.0]), steps=300)
    at = boundary(found, real([-2.0], [3.0], [-0.1]), real([0.1], [-0.7], [5.0]))
    assert at.x[:, 0].tolist() == pytest.approx([0, 0, 0], abs=1e-13)
    assert at.width.max() < 1e-13


def test_the_boundary_of_escape_is_one_too():
    found = basins(known.logistic(2.0), real([0.3]), steps=200)
    at = boundary(found, real([0.5], [0.5], [0.2]), real([-1.0], [2.0], [0.4]))
    assert at.x[:2, 0].tolist() == pytest.approx([0, 1], abs=1e-12)
    assert at.x[2].isnan().all(), "both are in one basin"
    assert at.width[2].isnan()


def test_the_boundary_of_a_network_of_two_units_is_its_stable_manifold():
    """Two latches that do not know each other: the boundary is where the first unit's state is 0."""
    pair = Network(W_rec=torch.diag(real(2.0, 0.5)), push=real(0.0, 0.0), sigma=Tanh())
    grid = torch.cartesian_prod(*[torch.linspace(-2, 2, 8, dtype=torch.float64)] * 2).reshape(8, 8, 2)
    found = basins(pair, grid, steps=200)
    assert found.labels.tolist() == (grid[..., 0] > 0).long().tolist()
    at = boundary(found, grid[0], grid[-1])
    torch.testing.assert_close(at.x, torch.stack((torch.zeros(8).double(), grid[0, :, 1]), -1), rtol=0, atol=1e-13)


def test_two_trajectories_of_a_linear_network_part_by_its_powers_whatever_the_inputs():
    network = Network(W_rec=known.rotation(1.1).jacobian(torch.zeros(2)), push=torch.zeros(2), sigma=Linear())
    a, b = (torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    pushes = torch.randn(30, 5, 2, generator=torch.Generator().manual_seed(2))
    apart = (orbit(network.driven(pushes), a) - orbit(network.driven(pushes), b)).norm(dim=-1)
    want = (a - b).norm(dim=-1) * 1.1 ** torch.arange(31, dtype=torch.float64)[:, None]
    torch.testing.assert_close(apart, want, rtol=1e-11, atol=0)


def test_starts_of_another_map_are_refused():
    with pytest.raises(ValueError, match="must have the 2 numbers of the map's states"):
        basins(known.henon(1.4), real([0.0]))

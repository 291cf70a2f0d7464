"""Non-linearities and parameters against numbers worked out by hand."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from rnnlab.network.cells import LSTM, Cell, Leaky, Linear, Sigma, Sigmoid, Simple, Tanh
from rnnlab.network.inits import Init, SmartTanh
from rnnlab.network.losses import Bernoulli, Loss, Softmax, SquaredError
from rnnlab.network.parameters import Parameters, Sizes, spectral_radius

# At log 3 the logistic function is 3/4, and tanh is (9 - 1)/(9 + 1).
AT = math.log(3)
CELLS = [(Tanh(), 0.8, 0.36, 1.0), (Sigmoid(), 0.75, 0.1875, 0.25), (Linear(), AT, 1.0, 1.0)]


@pytest.mark.parametrize(("sigma", "h", "slope", "steepest"), CELLS)
def test_a_non_linearity_its_derivative_and_its_steepest_slope(sigma, h, slope, steepest):
    a = torch.tensor([AT, 0.0], dtype=torch.float64)
    found = sigma(a)
    assert a.tolist() == [AT, 0.0]
    assert found[0].item() == pytest.approx(h, rel=1e-14)
    assert sigma.derivative(found).tolist() == pytest.approx([slope, steepest], rel=1e-14)
    assert sigma.gamma == steepest
    in_place = sigma.apply_(a)
    assert in_place.data_ptr() == a.data_ptr()
    assert a[0].item() == pytest.approx(h, rel=1e-14)
    assert found.data_ptr() != a.data_ptr()


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        *((cell, Sigma) for cell, *_ in CELLS),
        *((loss, Loss) for loss in (Softmax(), SquaredError(), Bernoulli())),
        (SmartTanh(), Init),
        *((cell, Cell) for cell in (Simple(), Leaky(), LSTM())),
    ],
)
def test_parts_are_values_of_their_kind(part, kind):
    assert isinstance(part, kind)
    assert {part, type(part)()} == {part}
    with pytest.raises(FrozenInstanceError):
        part.name = "another"


def test_theta_holds_each_parameter_row_by_row_in_the_papers_order():
    sizes = Sizes(inputs=2, units=3, outputs=1)
    assert sizes.P == 9 + 6 + 3 + 3 + 1
    theta = torch.arange(44, dtype=torch.float32).reshape(2, 22)
    network = Parameters(theta, sizes)
    assert network.members == 2
    assert network.W_rec[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert network.W_in[0].tolist() == [[9, 10], [11, 12], [13, 14]]
    assert network.b[0].tolist() == [15, 16, 17]
    assert network.W_out[1].tolist() == [[40, 41, 42]]
    assert network.b_out[1].tolist() == [43]
    network.b.zero_()
    assert theta[1, 15:18].tolist() == [0, 0, 0]


def test_copies_of_parameters_share_nothing_and_keep_dtype_and_sizes():
    network = Parameters(torch.ones(3, 22, dtype=torch.float64), Sizes(2, 3, 1))
    for copy, members in ((network.clone(), 3), (network.select([2, 0]), 2), (network.select(slice(1, 2)), 1)):
        copy.theta.zero_()
        assert (copy.members, copy.sizes, copy.theta.dtype) == (members, network.sizes, torch.float64)
    assert bool((network.theta == 1).all())
    assert network.to(torch.float32).theta.dtype == torch.float32
    zeros = Parameters.zeros(Sizes(2, 3, 1), 4)
    assert (zeros.theta.shape, zeros.theta.dtype, zeros.theta.abs().max().item()) == ((4, 22), torch.float32, 0)


@pytest.mark.parametrize("theta", [torch.ones(22), torch.ones(1, 21), torch.ones(1, 1, 22)])
def test_a_theta_of_another_shape_is_refused(theta):
    with pytest.raises(ValueError, match=r"theta must have shape \(members, 22\)"):
        Parameters(theta, Sizes(2, 3, 1))
    with pytest.raises(ValueError, match=r"theta must be of a floating dtype, got torch\.int64"):
        Parameters(torch.ones(1, 22, dtype=torch.int64), Sizes(2, 3, 1))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 2**14 + 1, 1), (1, 1, -1)])
def test_sizes_out_of_range_are_refused(sizes):
    Sizes(1, 2**14, 1)
    with pytest.raises(ValueError, match="must be"):
        Sizes(*sizes)


def test_the_spectral_radius_is_that_of_each_matrix_and_nan_for_one_that_is_not_finite():
    W = torch.tensor([[[0.0, 2.0], [-2.0, 0.0]], [[3.0, 9.0], [0.0, -4.0]], [[1.0, 0.0], [math.inf, 1.0]]])
    rho = spectral_radius(W)
    assert rho.dtype == torch.float64
    assert rho[:2].tolist() == pytest.approx([2.0, 4.0], rel=1e-12)
    assert math.isnan(rho[2])
    assert spectral_radius(W[None, :2]).shape == (1, 2)


@pytest.mark.parametrize(
    ("cell", "gates", "width"), [(Simple(), 1, 3), (Leaky(), 1, 3), (LSTM(), 4, 6), (LSTM(forget=False), 3, 6)]
)
@pytest.mark.parametrize("learned", [False, True])
def test_a_cell_says_its_parameters_and_the_width_of_its_state(cell, gates, width, learned):
    sizes = Sizes(2, 3, 5, replace(cell, learned_start=learned))
    start = {"h_0": (width,)} if learned else {}
    own = {"W_rec": (3 * gates, 3), "W_in": (3 * gates, 2), "b": (3 * gates,)}
    assert list(sizes.shapes.items()) == [*own.items(), *start.items(), ("W_out", (5, 3)), ("b_out", (5,))]
    assert sizes.width == width
    assert sum([gates * 9, gates * 6, gates * 3, learned * width, 15, 5]) == sizes.P
    starts = [0]
    for shape in sizes.shapes.values():
        starts.append(starts[-1] + math.prod(shape))
    assert list(sizes.starts.values()) == starts[:-1]
    theta = torch.arange(2 * sizes.P, dtype=torch.float64).reshape(2, sizes.P)
    for name, x in Parameters(theta, sizes).views.items():
        assert x.shape == (2, *sizes.shapes[name])
        assert x[1].flatten().tolist() == list(range(sizes.P, 2 * sizes.P))[sizes.starts[name] :][: x[1].numel()]
        x.zero_()
    assert not theta.any()


def test_the_simple_cell_is_the_one_that_sizes_without_a_cell_have():
    assert Sizes(2, 3, 5).shapes == Sizes(2, 3, 5, Simple()).shapes
    assert Sizes(2, 3, 5).width == 3


@pytest.mark.parametrize("leak", [0, -0.5, 1.0000001, math.inf, math.nan])
def test_a_leak_that_is_no_share_is_refused(leak):
    assert Leaky(1).leak == 1.0
    with pytest.raises(ValueError, match=r"^leak must be a positive"):
        Leaky(leak)


@pytest.mark.parametrize("bias", [math.inf, math.nan])
def test_a_bias_that_is_no_finite_number_is_refused(bias):
    assert LSTM(forget_bias=-3).forget_bias == -3.0
    with pytest.raises(ValueError, match=r"^forget_bias must be a finite number, got"):
        LSTM(forget_bias=bias)

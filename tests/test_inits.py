"""Initializations against the distributions that the paper names."""

import math

import pytest
import torch

from rnnlab.cells import Sigmoid, Sizes, Tanh, spectral_radius
from rnnlab.inits import INITS, BasicTanh, SigmoidInit, SmartTanh

SIZES = Sizes(inputs=6, units=50, outputs=4)


@pytest.mark.parametrize(("init", "std", "sigma"), [(SigmoidInit(), 0.01, Sigmoid()), (BasicTanh(), 0.1, Tanh())])
def test_gaussian_weights_have_the_named_standard_deviation(init, std, sigma):
    network = init.parameters(SIZES, range(20), dtype=torch.float64)
    for weights in (network.W_rec, network.W_in, network.W_out):
        n = weights.numel()
        assert abs(float(weights.std()) / std - 1) < 5 / math.sqrt(2 * n)
        assert abs(float(weights.mean())) < 5 * std / math.sqrt(n)
    assert not network.b.any()
    assert not network.b_out.any()
    assert init.sigma == sigma


@pytest.mark.parametrize("sparse", ["outgoing", "incoming"])
def test_smart_tanh_keeps_fifteen_weights_a_unit_and_its_spectral_radius(sparse):
    network = SmartTanh(sparse=sparse).parameters(SIZES, range(5), dtype=torch.float64)
    kept = (network.W_rec != 0).sum(dim=1 if sparse == "outgoing" else 2)  # W_rec[to, from]
    assert torch.equal(kept, torch.full_like(kept, 15))
    torch.testing.assert_close(spectral_radius(network.W_rec), torch.full((5,), 0.95, dtype=torch.float64))
    assert abs(float(network.W_in.std()) / 0.01 - 1) < 5 / math.sqrt(2 * network.W_in.numel())


def test_a_small_network_keeps_all_its_weights():
    network = SmartTanh().parameters(Sizes(2, 3, 1), [0], dtype=torch.float64)
    assert bool((network.W_rec != 0).all())


@pytest.mark.parametrize("init", [init() for init in INITS.values()])
def test_a_network_depends_on_its_seed_alone(init):
    together = init.parameters(SIZES, [4, 2, 9])
    alone = init.parameters(SIZES, [2])
    assert torch.equal(together.theta[1], alone.theta[0])
    assert not torch.equal(together.theta[0], together.theta[1])
    assert together.theta.dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SigmoidInit(std=0), "std must be"),
        (lambda: BasicTanh(std=-1), "std must be"),
        (lambda: SmartTanh(rho=math.nan), "rho must be"),
        (lambda: SmartTanh(nonzeros=0), "nonzeros must be"),
        (lambda: SmartTanh(sparse="both"), "sparse must be"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_spectral_radius_of_a_rotation_is_one_and_of_nan_is_nan():
    W = torch.tensor([[[0.0, -1.0], [1.0, 0.0]], [[math.nan, 0.0], [0.0, 1.0]]])
    assert spectral_radius(W)[0].item() == pytest.approx(1.0)
    assert math.isnan(spectral_radius(W)[1].item())

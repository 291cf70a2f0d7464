"""Initializations against the distributions that the paper names."""

import itertools
import math

import numpy as np
import pytest
import torch

from rnnlab.network.cells import LSTM, Leaky, Sigmoid, Tanh
from rnnlab.network.inits import INITS, BasicTanh, SigmoidInit, SmartTanh
from rnnlab.network.parameters import Sizes, spectral_radius
from tests.chance import assert_distributed, assert_from, assert_uncorrelated

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


@pytest.mark.parametrize("init", [SigmoidInit(), BasicTanh(0.3), SmartTanh()])
def test_weights_are_normal_and_independent_of_each_other(init):
    network = init.parameters(SIZES, range(40), dtype=torch.float64)
    std = {"W_rec": None if isinstance(init, SmartTanh) else init.std, "W_in": init.std, "W_out": init.std}
    for name, known in std.items():
        weights = getattr(network, name).flatten(1)
        # Of the sparse W_rec, each network's own spread: the rescaling is one number for all its weights.
        drawn = [w[w != 0] / (known or w[w != 0].std()) for w in weights]
        assert_from(torch.cat(drawn), torch.special.ndtr)
        assert_uncorrelated(weights[0::2], weights[1::2])  # of two seeds
    first = [getattr(network, name).flatten(1)[:, :200] for name in std]
    for one, other in itertools.combinations(first, 2):
        assert_uncorrelated(one, other)


@pytest.mark.parametrize("sparse", ["outgoing", "incoming"])
def test_smart_tanh_keeps_any_weights_alike_and_each_unit_others(sparse):
    network = SmartTanh(sparse=sparse).parameters(SIZES, range(40), dtype=torch.float64)
    kept = (network.W_rec.mT if sparse == "outgoing" else network.W_rec) != 0  # seed, unit, other unit
    counts = kept.sum(dim=(0, 1)).double()
    # Fifteen different ones of fifty: chi squared is (1 - 15/50) 50/49 times one of 49 degrees of freedom.
    assert_distributed(600 + (counts - 600) / math.sqrt(0.7 * 50 / 49), torch.full_like(counts, 600.0))
    shared = (kept[:, 1:] & kept[:, :-1]).sum(dim=2).double()
    # Hypergeometric: two choices of 15 among 50 share 4.5 on average, with variance 4.5 (35/50) (35/49).
    assert abs(float(shared.mean()) - 4.5) < 5 * math.sqrt(2.25 / shared.numel())
    diagonal = kept.diagonal(dim1=1, dim2=2).double()
    assert abs(float(diagonal.mean()) - 0.3) < 5 * math.sqrt(0.3 * 0.7 / diagonal.numel())


@pytest.mark.parametrize("rho", [0.95, 1.2])
def test_smart_tanhs_largest_eigenvalue_has_the_asked_modulus(rho):
    network = SmartTanh(rho=rho).parameters(SIZES, range(5), dtype=torch.float64)
    for W in network.W_rec.numpy():
        assert np.abs(np.linalg.eigvals(W)).max() == pytest.approx(rho, rel=1e-12)


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


@pytest.mark.parametrize("learned", [False, True])
def test_an_lstm_begins_with_all_weights_normal_and_its_forget_gates_open(learned):
    sizes = Sizes(6, 20, 4, LSTM(forget_bias=2.5, learned_start=learned))
    network = BasicTanh().parameters(sizes, range(10), dtype=torch.float64)
    for weights in (network.W_rec, network.W_in, network.W_out):
        n = weights.numel()
        assert abs(float(weights.std()) / 0.1 - 1) < 5 / math.sqrt(2 * n)
        assert abs(float(weights.mean())) < 0.5 / math.sqrt(n)
    assert network.b.tolist() == [[0.0] * 20 + [2.5] * 20 + [0.0] * 40] * 10
    assert not network.b_out.any()
    assert not learned or not network.views["h_0"].any()
    assert not BasicTanh().parameters(Sizes(6, 20, 4, LSTM(forget=False)), [0]).b.any()
    assert not BasicTanh().parameters(Sizes(6, 20, 4, Leaky()), [0]).b.any()


def test_smart_tanh_refuses_a_cell_of_gates_and_takes_a_leaky_one():
    for cell in (LSTM(), LSTM(forget=False)):
        with pytest.raises(ValueError, match=r"init must be another for a cell of several gates.*, got SmartTanh\("):
            SmartTanh().parameters(Sizes(6, 20, 4, cell), [0])
    plain, leaky = (SmartTanh().parameters(Sizes(6, 20, 4, cell), [3]) for cell in (None, Leaky()))
    assert torch.equal(plain.theta, leaky.theta)


def test_a_recurrent_matrix_of_several_gates_has_no_spectral_radius():
    assert spectral_radius(torch.ones(2, 8, 2)).isnan().all()

"""Networks to PyTorch's modules and back: what they compute, their gradients, and what PyTorch does not have."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import rnnlab
from rnnlab import LSTM, BasicTanh, Batch, Bernoulli, Leaky, Parameters, Sigmoid, Sizes, Spec, Tanh, TemporalOrder
from rnnlab.engine import batched

KINDS = [(None, Tanh()), (LSTM(), None)]
T, B, I, N, O = 7, 4, 3, 5, 2


def networks(cell):
    found = BasicTanh(std=0.5).parameters(Sizes(I, N, O, cell), [1, 2], dtype=torch.float64)
    found.theta.add_(torch.linspace(-0.1, 0.1, found.theta.numel(), dtype=torch.float64).view_as(found.theta))
    return found


@pytest.mark.parametrize(("cell", "sigma"), KINDS)
def test_a_module_of_torch_computes_what_the_network_does_and_has_its_gradients(cell, sigma):
    ours, generator = networks(cell), torch.Generator().manual_seed(0)
    recurrent, read = ours.to_torch(1, sigma=sigma)
    u = torch.randn(T, B, I, dtype=torch.float64, generator=generator)
    targets = torch.rand(T, B, O, dtype=torch.float64, generator=generator).round()
    y = read(recurrent(u)[0])
    nn.functional.binary_cross_entropy_with_logits(y, targets, reduction="sum").div(T * B).backward()
    batch = Batch(u.expand(2, -1, -1, -1), targets.expand(2, -1, -1, -1), torch.tensor([T, T]))
    g = batched.gradients(ours, batch, loss=Bernoulli(every_step=True), sigma=sigma)
    torch.testing.assert_close(g.outputs[1], y.detach(), rtol=1e-12, atol=1e-12)
    theirs = {name: x.grad for name, x in recurrent.named_parameters()}
    got = Parameters(g.theta, ours.sizes)
    for name, other in (("W_rec", "weight_hh_l0"), ("W_in", "weight_ih_l0"), ("b", "bias_ih_l0"), ("b", "bias_hh_l0")):
        torch.testing.assert_close(got.views[name][1], theirs[other], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got.W_out[1], read.weight.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("cell", "sigma"), KINDS)
def test_there_and_back_is_the_same_network_and_changes_to_one_leave_the_other_alone(cell, sigma):
    ours = networks(cell)
    recurrent, read = ours.to_torch(1, sigma=sigma)
    back = Parameters.from_torch(recurrent, read)
    assert torch.equal(back.theta[0], ours.theta[1])
    assert back.sizes == ours.sizes
    before = ours.theta.clone()
    recurrent.weight_hh_l0.data.zero_()
    back.theta.zero_()
    assert torch.equal(ours.theta, before)
    assert read.weight.any()


def test_both_biases_of_a_module_count_and_one_without_has_none():
    recurrent, read = nn.RNN(I, N, batch_first=True), nn.Linear(N, O, bias=False)
    network = Parameters.from_torch(recurrent, read)
    assert torch.equal(network.b[0], (recurrent.bias_ih_l0 + recurrent.bias_hh_l0).detach())
    assert not network.b_out.any()
    assert not Parameters.from_torch(nn.RNN(I, N, bias=False), read).b.any()


@pytest.mark.parametrize(
    ("cell", "sigma"), [(None, None), (None, Sigmoid()), (LSTM(forget=False), None), (Leaky(), None), (LSTM(), Tanh())]
)
def test_what_torch_does_not_have_is_refused(cell, sigma):
    with pytest.raises(ValueError, match=re.escape("networks must be sigma=Tanh() of a simple cell, or an LSTM with")):
        networks(cell).to_torch(sigma=sigma)


@pytest.mark.parametrize("m", [2, -1])
def test_a_member_that_is_not_there_is_refused(m):
    with pytest.raises(ValueError, match="m must be"):
        networks(LSTM()).to_torch(m)


@pytest.mark.parametrize(
    "recurrent",
    [nn.RNN(I, N, 2), nn.RNN(I, N, nonlinearity="relu"), nn.RNN(I, N, bidirectional=True), nn.RNN(I, N + 1)],
)
def test_modules_that_are_no_network_of_ours_are_refused(recurrent):
    with pytest.raises(ValueError, match="recurrent must be of one layer, one direction and tanh"):
        Parameters.from_torch(recurrent, nn.Linear(N, O))


def test_gradients_choose_the_engine_by_the_dtype_and_what_is_asked():
    task, sizes = TemporalOrder(10), Sizes(6, N, 4)
    batch = task.chunk(torch.arange(2), torch.arange(1), batch=3)[0]
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        network = BasicTanh().parameters(sizes, [0, 1], dtype=dtype)
        got = rnnlab.gradients(network, batch, loss=task.loss, sigma=Tanh(), omega=rnnlab.Code(), alpha=2.0)
        want = batched.gradients(
            network.to(torch.float64), batch, loss=task.loss, sigma=Tanh(), omega=rnnlab.Code(), alpha=2.0
        )
        assert got.theta.dtype == dtype
        torch.testing.assert_close(got.theta.double(), want.theta, rtol=bound, atol=bound)
    lstm = BasicTanh().parameters(Sizes(6, N, 4, LSTM()), [0, 1])
    assert rnnlab.gradients(lstm, batch, loss=task.loss).states.shape == (2, 11, 3, 2 * N)


SPEC = Spec(task=TemporalOrder(10), units=N, batch=4, updates=60, check_every=30)
SPEC = SPEC.with_(check_sequences=20, confirm_sequences=20)


def test_the_networks_of_a_result_are_those_that_were_trained(tmp_path):
    runs = rnnlab.train(SPEC, seeds=3, device="cpu", store=rnnlab.Store(tmp_path))
    ensemble = rnnlab.Ensemble(SPEC, 3, device="cpu")
    ensemble.advance(60)
    assert torch.equal(rnnlab.networks(runs).theta, ensemble.parameters.theta)
    assert torch.equal(rnnlab.networks(runs.isel(seed=1)).theta, ensemble.parameters.theta[1:2])
    axes = {"init": {"basic tanh": SPEC.init}, "units": [N, N + 1], "length": [10]}
    both = rnnlab.sweeps.run(SPEC, **axes, seeds=3, device="cpu", store=rnnlab.Store(tmp_path))
    cell = both.sel(init="basic tanh", length=10)
    assert torch.equal(rnnlab.networks(cell.sel(units=N)).theta, ensemble.parameters.theta)
    assert rnnlab.networks(cell.sel(units=N + 1)).sizes.units == N + 1


def test_several_cells_and_results_without_parameters_are_refused():
    runs = rnnlab.train(SPEC, seeds=2, device="cpu")
    with pytest.raises(ValueError, match=re.escape("choose one of each of ['units'], as by runs.isel(units=0)")):
        rnnlab.networks(runs.expand_dims(units=np.array([5])))
    with pytest.raises(ValueError, match="runs must hold theta"):
        rnnlab.networks(runs.drop_vars("theta"))
    with pytest.raises(ValueError, match="runs must say their specification"):
        rnnlab.networks(runs.assign_attrs(spec=""))

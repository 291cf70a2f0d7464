"""What is taken apart adds up, and following a training changes nothing of it."""

import pytest
import torch

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.omega import Code, Eq9, Eq10AsPrinted
from rnnlab.dynamics import backward
from rnnlab.engine import reference
from rnnlab.network.cells import LSTM, Sigmoid, Simple, Tanh
from rnnlab.network.inits import BasicTanh, SigmoidInit
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.pathological import TemporalOrder
from rnnlab.training.ensembles import Ensemble, along
from rnnlab.training.specs import Spec
from tests.own import Pieces, Softsign

TASK = TemporalOrder(12)


def drawn(members=2, units=6):
    seeds = torch.arange(members)
    network = BasicTanh().parameters(Sizes(TASK.inputs, units, TASK.outputs), seeds.tolist(), dtype=torch.float64)
    return network, TASK.chunk(seeds, torch.tensor([3]), batch=4)[0]


@pytest.mark.parametrize("form", [Code(), Eq9(), Eq10AsPrinted()])
def test_the_parts_are_those_that_autograd_gives(form):
    network, batch = drawn()
    parts = backward.signal(network, batch, sigma=Tanh(), loss=TASK.loss, omega=form)
    bare, whole = (
        reference.gradients(network, batch, sigma=Tanh(), loss=TASK.loss, omega=form, alpha=alpha)
        for alpha in (0.0, 0.7)
    )
    of_error, both = (Parameters(g.theta, network.sizes).W_rec for g in (bare, whole))
    torch.testing.assert_close(parts.of_error, of_error, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(parts.of_error + 0.7 * parts.of_omega, both, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(parts.omega, bare.omega, rtol=1e-10, atol=0)


def test_with_one_loss_at_the_end_the_ratio_is_that_of_neighbouring_norms():
    network, batch = drawn()
    parts = backward.signal(network, batch, sigma=Tanh(), loss=TASK.loss)
    torch.testing.assert_close(parts.ratio, parts.delta[:, :-1] / parts.delta[:, 1:], rtol=1e-10, atol=0)
    torch.testing.assert_close(parts.kept[:, 1:] * parts.delta[:, -1:], parts.delta[:, 1:], rtol=1e-12, atol=0)
    code = (parts.ratio.square() - 1).square().mean(dim=(1, 2))  # all pairs are live
    assert parts.live.all()
    torch.testing.assert_close(parts.omega, code, rtol=1e-10, atol=0)


def test_a_signal_that_vanishes_keeps_its_ratio_until_it_is_no_number_any_more():
    """Of two units that are one another's copy: |n_t|/|d_t| = w sigma'(a_t). Squares are below float64 halfway down."""
    task = TemporalOrder(100)
    network = SigmoidInit().parameters(Sizes(task.inputs, 2, task.outputs), [1], dtype=torch.float64)
    network.W_rec.copy_(0.01 * torch.eye(2, dtype=torch.float64))
    network.W_in[:, 1], network.W_out[:, :, 1] = network.W_in[:, 0], network.W_out[:, :, 0]
    batch = task.chunk(torch.arange(1), torch.tensor([0]), batch=2)[0]
    parts = backward.signal(network, batch, sigma=Sigmoid(), loss=task.loss)
    h = reference.gradients(network, batch, sigma=Sigmoid(), loss=task.loss).states[:, 1:, :, 0]
    held = parts.delta[:, :-1] > 1e-300  # of the later steps
    assert parts.delta[:, :-1][held].min() < 1e-250
    want = (0.01 * h * (1 - h))[held]
    torch.testing.assert_close(parts.ratio[held], want, rtol=1e-10, atol=0)


def test_the_cosine_is_that_of_the_angle_between_the_parts():
    network, batch = drawn()
    parts = backward.signal(network, batch, sigma=Tanh(), loss=TASK.loss)
    a, b = parts.of_error.flatten(1), parts.of_omega.flatten(1)
    torch.testing.assert_close(parts.cosine, (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)), rtol=1e-10, atol=0)


def test_following_a_training_leaves_it_as_it_is():
    spec = Spec(task=TASK, units=8, batch=4, algorithm=Algorithm.named("MSGD-CR"))
    alone, watched = Ensemble(spec, 2, device="cpu"), Ensemble(spec, 2, device="cpu")
    norm = alone.advance(7).norm
    seen = list(along(watched, [0, 3, 7]))
    assert [stop for stop, _, _ in seen] == [0, 3, 7]
    assert torch.equal(torch.cat([norms for _, _, norms in seen]), norm)
    assert torch.equal(watched.parameters.theta, alone.parameters.theta)


def test_the_signal_at_a_stop_is_that_of_the_next_update():
    spec = Spec(task=TASK, units=8, batch=4, algorithm=Algorithm.named("MSGD"))
    ensemble = Ensemble(spec, 1, device="cpu")
    *_, (_, parts, _) = along(ensemble, [2])
    before = ensemble.parameters.W_rec.clone()
    ensemble.advance(1)
    step = (before - ensemble.parameters.W_rec) / spec.algorithm.learning_rate
    torch.testing.assert_close(step.double(), parts.of_error, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop", [0, 2])
def test_the_signal_of_sequences_that_go_on_begins_where_the_update_before_left_them(stop):
    spec = Spec(task=Pieces(), units=8, batch=4, algorithm=Algorithm(0.1), cell=Simple(Softsign()))
    ensemble = Ensemble(spec, 2, device="cpu")
    *_, (_, parts, _) = along(ensemble, [stop])
    before = ensemble.parameters.W_rec.clone()
    ensemble.advance(1)
    step = (before - ensemble.parameters.W_rec) / spec.algorithm.learning_rate
    torch.testing.assert_close(step.double(), parts.of_error, rtol=1e-4, atol=1e-6)


def test_only_the_simple_cell_is_taken_apart():
    spec = Spec(task=TASK, units=8, batch=4, algorithm=Algorithm(), cell=LSTM())
    with pytest.raises(ValueError, match=r"parameters must be of the simple cell, .* got LSTM"):
        list(along(Ensemble(spec, 2, device="cpu"), [0]))

"""A read-out by ridge regression, against NumPy's least squares; under the contract of methods."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional

from rnnlab import (
    LSTM,
    Addition,
    BasicTanh,
    Ensemble,
    Leaky,
    NoiselessMemorization,
    Parameters,
    Spec,
    TemporalOrder,
    sweeps,
    train,
)
from rnnlab.engine import reference
from rnnlab.methods.readout import Readout
from tests.own import Pieces

TASKS = [TemporalOrder(10), Addition(10), NoiselessMemorization((3, 6), values=2, positions=2)]
TESTS = {"check_every": 2, "check_sequences": 100, "confirm_sequences": 100, "stop": "never"}


def spec(task, **changes):
    return Spec(task=task, init=BasicTanh(0.5), algorithm=Readout(0.01), units=7, batch=30, updates=4, **TESTS).with_(
        **changes
    )


def rows(parameters, batch, task, sigma, m):
    """States and targets of each pair that is read, from autograd's engine."""
    one = Parameters(parameters.theta[m : m + 1].double(), parameters.sizes)
    kept = {name: x[m : m + 1] for name, x in batch.parts.items()}
    h = reference.gradients(one, type(batch)(**kept), sigma=sigma, loss=task.loss).states[0, ..., : one.sizes.units]
    T = int(batch.lengths[m].max())
    h, d = (h[1 : T + 1], batch.targets[m, :T]) if task.loss.every_step else (h[T : T + 1], batch.targets[m])
    d = d if task.loss.real_targets else functional.one_hot(d.long(), task.outputs)
    return h.flatten(0, 1).numpy(), d.flatten(0, 1).double().numpy()


@pytest.mark.parametrize("cell", [None, Leaky(0.3), LSTM()], ids=str)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_read_out_is_the_least_squares_solution_of_all_that_was_seen(task, cell):
    ensemble = Ensemble(spec(task, cell=cell), [3, 5], device="cpu")
    before = ensemble.parameters.clone()
    ensemble.advance(3)
    batches = task.chunk(torch.tensor([3, 5]), torch.arange(3), batch=30)
    for m in range(2):
        seen = [rows(before, batch, task, ensemble.spec.sigma, m) for batch in batches]
        X, Y = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        held = np.sqrt(0.01 * len(X)) * np.eye(7)  # ridge as further equations: those of W_out are 0
        A = np.block([[X, np.ones((len(X), 1))], [held, np.zeros((7, 1))]])
        wanted = np.linalg.lstsq(A, np.concatenate([Y, np.zeros((7, Y.shape[1]))]), rcond=None)[0]
        np.testing.assert_allclose(ensemble.parameters.W_out[m].T, wanted[:-1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ensemble.parameters.b_out[m], wanted[-1], rtol=1e-4, atol=1e-5)
    for name, x in before.views.items():
        assert name in ("W_out", "b_out") or torch.equal(x, ensemble.parameters.views[name])


def test_the_loss_taken_down_is_that_of_the_batch_before_its_update():
    ensemble = Ensemble(spec(TASKS[0]), 2, device="cpu")
    ensemble.advance(1)
    batch = TASKS[0].chunk(torch.arange(2), torch.tensor([1]), batch=30)[0]
    before = reference.gradients(ensemble.parameters, batch, sigma=ensemble.spec.sigma, loss=TASKS[0].loss).loss
    torch.testing.assert_close(ensemble.advance(1).loss[0], before.float())


def test_states_go_on_from_batch_to_batch_where_sequences_do():
    task = Pieces()
    ensemble = Ensemble(spec(task, batch=2), [1], device="cpu")
    before = ensemble.parameters.clone()
    ensemble.advance(3)
    p, h, X, Y = before.to(torch.float64), None, [], []
    for batch in task.chunk(torch.tensor([1]), torch.arange(3), batch=2):
        begins, lengths = batch.begins[0], batch.lengths.expand(1, 2)[0]
        h = h if h is None else h * ~begins[None, :, None]
        g = reference.gradients(p, batch, sigma=ensemble.spec.sigma, loss=task.loss, h_0=h)
        h = torch.stack([g.states[0, T, b] for b, T in enumerate(lengths.tolist())])[None]
        live = torch.arange(g.states.shape[1] - 1)[:, None] < lengths
        X.append(g.states[0, 1:][live])
        Y.append(batch.targets[0][live])
    X, Y = torch.cat(X).numpy(), torch.cat(Y).double().numpy()
    A = np.block([[X, np.ones((len(X), 1))], [np.sqrt(0.01 * len(X)) * np.eye(7), np.zeros((7, 1))]])
    wanted = np.linalg.lstsq(A, np.concatenate([Y, np.zeros((7, Y.shape[1]))]), rcond=None)[0]
    np.testing.assert_allclose(ensemble.parameters.W_out[0].T, wanted[:-1], rtol=1e-4, atol=1e-5)


def interrupt(progress):
    raise KeyboardInterrupt


def test_a_reservoir_that_was_interrupted_ends_with_the_same_bits(tmp_path):
    wanted = train(spec(TASKS[2]), seeds=3, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(spec(TASKS[2]), seeds=3, device="cpu", store=tmp_path, progress=interrupt)
    again = sweeps.run(spec(TASKS[2]), seeds=3, device="cpu", store=tmp_path)
    assert np.array_equal(wanted["theta"], again["theta"])
    assert np.array_equal(wanted["loss"], again["loss"])


@dataclass(frozen=True)
class NoRecurrence(BasicTanh):
    """Units that have no weights among each other."""

    name: ClassVar = "no recurrence"

    def parameters(self, sizes, seeds, **how):
        network = super().parameters(sizes, seeds, **how)
        network.W_rec.zero_()
        return network


def test_a_reservoir_without_recurrence_answers_from_the_last_input_alone():
    short = spec(TASKS[0], init=NoRecurrence(0.5), batch=500)
    ensemble = Ensemble(short, 4, device="cpu")
    ensemble.advance(4)
    assert (ensemble.errors(1000) > 0.68).all()  # chance is 0.75, from which 0.014 is a standard deviation

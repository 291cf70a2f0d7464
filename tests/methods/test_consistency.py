"""Two runs of each sequence that should end alike: their cost by hand, and its numerical derivative."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from rnnlab import (
    LSTM,
    AdamW,
    Addition,
    Algorithm,
    BasicTanh,
    Code,
    ConsistencyTraining,
    ElementwiseSignal,
    Ensemble,
    Networks,
    NoClip,
    Parameters,
    Spec,
    Tanh,
    TemporalOrder,
    bits,
)
from rnnlab.engine import batched
from rnnlab.methods.consistency import _twice
from rnnlab.tasks.task import Batch

NOISE, RATE = 0.5, 0.1
SPEC = Spec(
    task=TemporalOrder((10, 13)),
    init=BasicTanh(0.5),
    algorithm=ConsistencyTraining(Algorithm(RATE, NoClip(), noise=NOISE), updates=100, weight=8.0),
    units=3,
    batch=4,
)


def cost(theta, sizes, batch, seeds, update, weight):
    """The cost of each member's networks, by one sequence, run and step after the other, in float64."""
    network, B, costs = Parameters(theta, sizes), batch.inputs.shape[2], []
    for m, T in enumerate(batch.lengths.tolist()):
        drawn = bits.disturbances(seeds[m : m + 1], torch.tensor([update]), count=T * 2 * B * sizes.units)[0, 0]
        drawn = NOISE * drawn.unflatten(0, (T, 2 * B, sizes.units))
        nll, apart = [], []
        for b in range(B):
            runs = []
            for place in (b, B + b):
                h, passed = torch.zeros(sizes.units, dtype=torch.float64), []
                for t in range(T):
                    push = network.W_in[m, :, int(batch.inputs[m, t, b])] + network.b[m] + drawn[t, place]
                    h = torch.tanh(network.W_rec[m] @ h + push)
                    passed.append(h)
                y = network.W_out[m] @ h + network.b_out[m]
                nll.append(cross_entropy(y[None], batch.targets[m, 0, b : b + 1].long()))
                runs.append(torch.stack(passed))
            apart.append((runs[0] - runs[1]).square().mean())
        costs.append(torch.stack((torch.stack(nll).mean(), weight * torch.stack(apart).mean())))
    return torch.stack(costs)


@pytest.mark.parametrize(
    ("update", "weight", "share"), [(0, 0.0, 1.0), (40, 4.0, 0.64), (90, 8.0, 0.19), (300, 8.0, 0.1)]
)
def test_an_update_descends_loss_and_distance_by_their_numerical_derivative(update, weight, share):
    ensemble = Ensemble(SPEC, 2, device="cpu")
    ensemble.update = update
    theta, sizes, seeds = ensemble.parameters.theta.double(), ensemble.parameters.sizes, ensemble._seeds
    batch = SPEC.task.chunk(seeds, torch.tensor([update]), batch=4)[0]
    trace = ensemble.advance(1)
    parts = cost(theta, sizes, batch, seeds, update, weight)
    torch.testing.assert_close(trace.loss[0].double(), parts[:, 0], rtol=1e-5, atol=1e-6)
    assert update == 0 or (parts[:, 1] > 0.01).all()
    step, eps = (theta - ensemble.parameters.theta) / (RATE * share), 1e-6
    for p in range(0, theta.shape[1], 4):
        side = eps * torch.eye(theta.shape[1], dtype=torch.float64)[p]
        ends = (cost(theta + s * side, sizes, batch, seeds, update, weight).sum(1) for s in (1, -1))
        slope = (next(ends) - next(ends)) / (2 * eps)
        torch.testing.assert_close(step[:, p], slope, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(trace.norm[0].double(), step.norm(dim=1), rtol=1e-3, atol=0)


def test_without_noise_both_runs_are_one_and_the_update_is_that_of_the_loss_alone():
    still = ConsistencyTraining(Algorithm(RATE, NoClip()), updates=10**6)
    twice, once = (Ensemble(SPEC.with_(algorithm=how), 2, device="cpu") for how in (still, still.descent))
    twice.update = once.update = 10**5
    for ensemble in (twice, once):
        ensemble.advance(1)
    change = once.parameters.theta - Ensemble(SPEC, 2, device="cpu").parameters.theta
    other = twice.parameters.theta - Ensemble(SPEC, 2, device="cpu").parameters.theta
    torch.testing.assert_close(other, 0.91 * change, rtol=1e-4, atol=1e-7)


def test_each_sequence_comes_twice_whether_members_or_sequences_have_lengths():
    words = torch.arange(12).view(1, 4, 3)
    for lengths, wanted in ((torch.tensor([4]), [4]), (torch.tensor([[4, 2, 3]]), [[4, 2, 3, 4, 2, 3]])):
        batch = _twice(Batch(words, torch.tensor([[[0, 1, 2]]]), lengths))
        assert torch.equal(batch.inputs, torch.cat((words, words), dim=2))
        assert batch.targets.tolist() == [[[0, 1, 2, 0, 1, 2]]]
        assert batch.lengths.tolist() == wanted


def test_a_member_learns_the_same_alone_and_among_others():
    many, alone = Ensemble(SPEC, 3, device="cpu"), Ensemble(SPEC, [2], device="cpu")
    before = alone.parameters.theta.clone()
    for ensemble in (many, alone):
        ensemble.advance(5)
    assert not torch.equal(alone.parameters.theta, before)
    torch.testing.assert_close(alone.parameters.theta[0], many.parameters.theta[2], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "other", [{"task": Addition(10)}, {"cell": LSTM()}, {"task": TemporalOrder(10), "cell": LSTM(forget=False)}]
)
def test_real_inputs_and_other_cells_learn_by_it_too(other):
    ensemble = Ensemble(SPEC.with_(**other), 2, device="cpu")
    before = ensemble.parameters.theta.clone()
    assert ensemble.advance(3).loss.isfinite().all()
    assert (ensemble.parameters.theta != before).any(dim=1).all()


def test_it_makes_what_noise_does_to_the_states_smaller():
    apart = {}
    for weight in (0.0, 30.0):
        how = ConsistencyTraining(AdamW(0.01, noise=NOISE), updates=200, weight=weight)
        ensemble = Ensemble(SPEC.with_(algorithm=how, batch=10), 2, device="cpu")
        ensemble.advance(200)
        batch = SPEC.task.chunk(ensemble._seeds, torch.tensor([10**6]), batch=10)[0]
        theta = ensemble.parameters.theta.double()
        apart[weight] = cost(theta, ensemble.parameters.sizes, batch, ensemble._seeds, 10**6, 1.0)[:, 1]
    assert (apart[30.0] < 0.3 * apart[0.0]).all()


def test_sequences_that_go_on_are_refused():
    ensemble, how = Ensemble(SPEC, 2, device="cpu"), SPEC.algorithm
    chunk = SPEC.task.chunk(ensemble._seeds, torch.arange(1), batch=4)
    chunk = replace(chunk, begins=torch.zeros(1, 2, 4, dtype=torch.bool))
    network = Networks(ensemble.parameters, SPEC.task.loss, Tanh(), batched, ensemble._seeds)
    with pytest.raises(ValueError, match="task must be of sequences that begin anew in each update"):
        how.advance(network, how.init(network), chunk)


@pytest.mark.parametrize(
    "descent", [Algorithm(omega=Code(), noise=1.0), Algorithm(clip=ElementwiseSignal(0.1), noise=1.0)]
)
def test_a_descent_with_omega_or_a_clipped_signal_is_refused(descent):
    with pytest.raises(ValueError, match="descent must be without omega and clipping of the signal"):
        ConsistencyTraining(descent)

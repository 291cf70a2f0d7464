"""Bounds over all words of distractors, against the words themselves, and the descent of what they bound."""

from itertools import product

import pytest
import torch

from rnnlab import (
    LSTM,
    AdamW,
    Addition,
    Algorithm,
    BasicTanh,
    Batch,
    BoxTraining,
    Code,
    ElementwiseSignal,
    Ensemble,
    NoClip,
    Parameters,
    Sizes,
    Spec,
    Tanh,
    TemporalOrder,
)
from rnnlab.engine import batched
from rnnlab.methods.boxes import bounds
from rnnlab.network.losses import Softmax

WORD = torch.tensor([2, 0, 3, 2, 1, 2])
ASKED = 2


def drawn(units, seed=0, members=3):
    network = Parameters.zeros(Sizes(5, units, 4), members, dtype=torch.float64)
    network.theta.copy_(torch.randn(network.theta.shape, generator=torch.Generator().manual_seed(seed)))
    return network


def batch_of(words):
    """One batch of these words for three members."""
    inputs = words.T.expand(3, -1, -1).contiguous()
    targets = torch.full((3, 1, len(words)), ASKED, dtype=torch.uint8)
    return Batch(inputs.to(torch.uint8), targets, torch.full((3,), words.shape[1]))


def excesses(network):
    """What each output exceeds the asked one by, for all words that say the same, `M words O`."""
    places = (WORD >= 2).nonzero().flatten()
    words = WORD.expand(3 ** len(places), -1).clone()
    words[:, places] = torch.tensor(list(product((2, 3, 4), repeat=len(places))))
    y = batched.outputs(network, batch_of(words), sigma=Tanh(), loss=Softmax())[0][:, 0]
    return y - y[..., ASKED, None]


def test_of_one_unit_the_bounds_are_the_largest_over_all_words():
    for seed in range(20):
        network = drawn(1, seed)
        y = bounds(network, batch_of(WORD[None]), sigma=Tanh())
        torch.testing.assert_close(y[:, 0, 0], excesses(network).amax(dim=1), rtol=1e-12, atol=1e-12)


def test_of_several_units_no_word_exceeds_them_and_with_slack_they_are_wider():
    for seed in range(10):
        network = drawn(4, seed)
        network.W_rec.mul_(0.3)
        most, y = excesses(network).amax(dim=1), bounds(network, batch_of(WORD[None]), sigma=Tanh())[:, 0, 0]
        others = torch.arange(4) != ASKED
        assert (y[:, others] > most[:, others]).all()
        assert (y[:, ASKED] == 0).all()
        wider = bounds(network, batch_of(WORD[None]), sigma=Tanh(), slack=0.1)[:, 0, 0]
        assert (wider[:, others] > y[:, others]).all()


def test_without_spread_all_distractors_are_their_middle_and_each_sequence_ends_at_its_own_length():
    network, words = drawn(4), torch.stack((WORD, torch.tensor([4, 1, 2, 0, 2, 4])))
    batch = batch_of(words)
    batch = Batch(batch.inputs, batch.targets, torch.tensor([6, 4, 5]))
    middle = network.clone()
    others = network.W_in[..., 2:]
    middle.W_in[..., 2:] = ((others.amin(dim=-1) + others.amax(dim=-1)) / 2)[..., None]
    y = batched.outputs(middle, batch, sigma=Tanh(), loss=Softmax())[0]
    got = bounds(network, batch, sigma=Tanh(), spread=0.0)
    torch.testing.assert_close(got, y - y[..., ASKED, None], rtol=1e-12, atol=1e-12)


SPEC = Spec(
    task=TemporalOrder((10, 13)), init=BasicTanh(0.5), algorithm=BoxTraining(Algorithm(0.1, NoClip())), units=1, batch=3
)


def test_an_update_descends_the_worst_cross_entropy_meaned_over_classes_by_its_numerical_derivative():
    box = BoxTraining(Algorithm(0.1, NoClip()), updates=100, slack=0.2)
    ensemble = Ensemble(SPEC.with_(algorithm=box, units=3, batch=6), 2, device="cpu")
    ensemble.update = 40  # of 100: half of the spread, and a rate of 1 - 0.9 * 0.4
    theta = ensemble.parameters.theta.double()
    batch = SPEC.task.chunk(torch.arange(2), torch.tensor([40]), batch=6)[0]

    def cost(theta):
        network = Parameters(theta, ensemble.parameters.sizes)
        y = bounds(network, batch, sigma=Tanh(), spread=0.5, slack=0.1)[:, 0]
        nll = -y.log_softmax(dim=-1).gather(-1, batch.targets[:, 0].long()[..., None])[..., 0]
        classes = [{int(k) for k in row} for row in batch.targets[:, 0]]
        means = [[x[t == k].mean() for k in some] for x, t, some in zip(nll, batch.targets[:, 0], classes, strict=True)]
        return torch.stack([torch.stack(row).mean() for row in means])

    trace = ensemble.advance(1)
    torch.testing.assert_close(trace.loss[0].double(), cost(theta), rtol=1e-5, atol=1e-6)
    step, eps = (theta - ensemble.parameters.theta) / (0.1 * 0.64), 1e-6
    for p in range(0, theta.shape[1], 3):
        side = eps * torch.eye(theta.shape[1], dtype=torch.float64)[p]
        slope = (cost(theta + side) - cost(theta - side)) / (2 * eps)
        torch.testing.assert_close(step[:, p], slope, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trace.norm[0].double(), step.norm(dim=1), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "other", [{"task": Addition(10)}, {"cell": LSTM()}, {"task": TemporalOrder(10), "cell": LSTM(forget=False)}]
)
def test_what_has_no_boxes_is_refused_in_words(other):
    with pytest.raises(ValueError, match="task must be of symbols and of a class at the end"):
        Ensemble(SPEC.with_(**other), 2, device="cpu").advance(1)


@pytest.mark.parametrize("descent", [AdamW(noise=0.5), Algorithm(omega=Code()), Algorithm(clip=ElementwiseSignal(0.1))])
def test_a_descent_with_what_boxes_do_not_have_is_refused(descent):
    with pytest.raises(ValueError, match="descent must be without noise, omega and clipping of the signal"):
        BoxTraining(descent)

"""Losses against torch's own, autograd, and cases worked by hand."""

import math

import pytest
import torch
from torch.nn import functional

from rnnlab.network.losses import Bernoulli, Softmax, SquaredError

M, S, B, O = 3, 4, 5, 6


def everything(steps=S):
    return torch.ones(M, steps, B, dtype=torch.bool)


KINDS = {
    Softmax: lambda y, target: functional.cross_entropy(y, target),
    SquaredError: lambda y, target: functional.mse_loss(y, target, reduction="sum"),
    Bernoulli: lambda y, target: functional.binary_cross_entropy(y.sigmoid(), target, reduction="sum"),
}
PLACES = [(False, "mean"), (True, "mean"), (True, "sum")]
NINE = [kind(every_step=every, over_steps=over) for kind in KINDS for every, over in PLACES]
LENGTHS = torch.tensor([[4, 1, 2, 3, 4], [4] * B, [1] * B])


def some(loss):
    """Outputs, targets and which count, of sequences of all lengths."""
    generator = torch.Generator().manual_seed(0)
    steps = S if loss.every_step else 1
    y = 2 * torch.randn(M, steps, B, O, dtype=torch.float64, generator=generator)
    classes = torch.randint(0, O, (M, steps, B), generator=generator)
    numbers = torch.rand(M, steps, B, O, dtype=torch.float64, generator=generator)
    counted = torch.arange(steps)[:, None] < LENGTHS[:, None] if loss.every_step else everything(1)
    return y, numbers if loss.real_targets else classes, counted


@pytest.mark.parametrize("loss", NINE, ids=str)
def test_a_loss_is_torchs_of_each_counted_pair_averaged_or_summed_over_steps(loss):
    y, targets, counted = some(loss)
    got = loss.value(y, targets, counted)
    assert got.shape == (M,)
    for m in range(M):
        pairs = [(s, b) for b in range(B) for s in range(int(LENGTHS[m, b]) if loss.every_step else 1)]
        terms = [KINDS[type(loss)](y[m, s, b], targets[m, s, b]) for s, b in pairs]
        want = sum(terms) / (len(pairs) if loss.over_steps == "mean" else B)
        torch.testing.assert_close(got[m], want, rtol=1e-13, atol=0)


@pytest.mark.parametrize("loss", NINE, ids=str)
def test_gradients_in_closed_form_are_those_of_autograd_and_of_differences(loss):
    y, targets, counted = some(loss)
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: loss.value(y, targets, counted), y)
    (want,) = torch.autograd.grad(loss.value(y, targets, counted).sum(), y)
    torch.testing.assert_close(loss.gradient(y.detach(), targets, counted), want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", [loss for loss in NINE if loss.every_step], ids=str)
def test_what_stands_where_nothing_counts_enters_nothing(loss):
    y, targets, counted = some(loss)
    padded, other = y.clone(), targets.clone()
    padded[~counted], other[~counted] = math.nan, math.nan if loss.real_targets else 0
    for what in (loss.value, loss.gradient, loss.wrong):
        assert torch.equal(what(padded, other, counted), what(y, targets, counted))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sure_output_that_is_right_costs_nothing_and_one_that_is_wrong_its_distance(sign):
    """Cross-entropy of on or off at 1,000 nats, whose probability is 0 in float64."""
    y, loss = torch.full((1, 1, 1, 1), sign * 1e3, dtype=torch.float64), Bernoulli()
    for target in (0.0, 1.0):
        right = target == (sign > 0)
        assert loss.value(y, torch.full_like(y, target), everything(1)[:1, :, :1]).item() == (0 if right else 1e3)


def test_steps_that_do_not_count_do_not_enter_the_mean():
    y, targets = torch.randn(M, S, B, O, dtype=torch.float64), torch.randint(0, O, (M, S, B))
    some = everything()
    some[:, 2:] = False
    want = Softmax(every_step=True).value(y[:, :2], targets[:, :2], everything(2))
    torch.testing.assert_close(Softmax(every_step=True).value(y, targets, some), want, rtol=1e-13, atol=0)


def test_squared_error_has_no_half_and_sums_over_outputs():
    y = torch.tensor([[[[3.0, 1.0]]]])
    loss = SquaredError()
    assert loss.value(y, torch.zeros_like(y), torch.ones(1, 1, 1, dtype=torch.bool)).item() == 10.0


def test_a_sequence_is_wrong_if_any_counted_step_is_wrong():
    y = functional.one_hot(torch.zeros(1, 3, 4, dtype=torch.int64), 2).double()
    targets = torch.zeros(1, 3, 4, dtype=torch.int64)
    targets[0, 1, 1] = 1  # wrong at a counted step
    targets[0, 2, 2] = 1  # wrong at a step that does not count
    y[0, 0, 3] = math.nan
    counted = torch.ones(1, 3, 4, dtype=torch.bool)
    counted[0, 2] = False
    assert Softmax(every_step=True).wrong(y, targets, counted).tolist() == [[False, True, False, True]]


def test_a_number_is_wrong_above_a_squared_error_of_four_hundredths():
    y = torch.tensor([0.0, 0.199, 0.201, math.nan, math.inf])[None, None, :, None]
    wrong = SquaredError().wrong(y, torch.zeros_like(y), torch.ones(1, 1, 5, dtype=torch.bool))
    assert wrong.tolist() == [[False, False, True, True, True]]


def test_an_output_on_the_wrong_side_of_one_half_or_not_finite_makes_a_sequence_wrong():
    y = torch.tensor([[3.0, -3.0], [3.0, 3.0], [0.0, -1.0], [0.0, 1.0], [math.inf, -1.0], [math.nan, -1.0]])
    targets = torch.tensor([[1.0, 0.0]] * 2 + [[0.5, 0.25]] + [[1.0, 1.0]] + [[1.0, 0.0]] * 2)
    wrong = Bernoulli().wrong(y[None, None], targets[None, None], torch.ones(1, 1, 6, dtype=torch.bool))
    assert wrong.tolist() == [[False, True, False, True, True, True]]


@pytest.mark.parametrize("loss", [Softmax(every_step=True), SquaredError(every_step=True), Bernoulli(every_step=True)])
def test_the_sequences_that_are_wrong_are_those_with_a_wrong_step_that_counts(loss):
    y = torch.tensor([[1.0, -1.0]]).expand(1, 3, 4, 2).clone()
    targets = torch.tensor([[1.0, 0.0]]).expand(1, 3, 4, 2).clone()
    if isinstance(loss, SquaredError):
        targets = y.clone()
    targets[0, 1, 1] = targets[0, 1, 1].flip(0)
    targets[0, 2, 2] = targets[0, 2, 2].flip(0)
    counted = torch.arange(3)[:, None] < torch.tensor([3, 3, 2, 3])
    given = targets if loss.real_targets else targets.argmax(dim=-1)
    assert loss.wrong(y, given, counted[None]).tolist() == [[False, True, False, False]]


def test_a_loss_reads_the_last_step_unless_told_and_takes_no_other_word_for_what_is_done_over_steps():
    for kind in KINDS:
        assert kind() == kind(every_step=False, over_steps="mean")
        with pytest.raises(ValueError, match="over_steps must be 'mean' or 'sum', got 'max'"):
            kind(over_steps="max")

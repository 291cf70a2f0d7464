"""Losses against torch's own, autograd, and cases worked by hand."""

import math

import pytest
import torch
from torch.nn import functional

from rnnlab.network.losses import Softmax, SquaredError

M, S, B, O = 3, 4, 5, 6


def everything(steps=S):
    return torch.ones(M, steps, B, dtype=torch.bool)


def test_softmax_losses_are_torchs_cross_entropy_of_each_member():
    torch.manual_seed(0)
    y, targets = torch.randn(M, S, B, O, dtype=torch.float64), torch.randint(0, O, (M, S, B))
    got = Softmax(every_step=True).value(y, targets, everything())
    want = [functional.cross_entropy(y[m].flatten(0, 1), targets[m].flatten()) for m in range(M)]
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-13, atol=0)
    last = Softmax().value(y[:, -1:], targets[:, -1:], everything(1))
    want = [functional.cross_entropy(y[m, -1], targets[m, -1]) for m in range(M)]
    torch.testing.assert_close(last, torch.stack(want), rtol=1e-13, atol=0)


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


@pytest.mark.parametrize("loss", [Softmax(every_step=True), SquaredError()])
def test_gradients_are_autograds(loss):
    torch.manual_seed(1)
    y = torch.randn(M, S, B, O, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, O, (M, S, B)) if loss.every_step else torch.randn(M, S, B, O, dtype=torch.float64)
    counted = torch.rand(M, S, B) < 0.8
    (want,) = torch.autograd.grad(loss.value(y, targets, counted).sum(), y)
    torch.testing.assert_close(loss.gradient(y.detach(), targets, counted), want, rtol=1e-12, atol=1e-15)


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

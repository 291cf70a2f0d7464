"""The pages of earlier remedies: their own gradients, methods and signals against autograd, NumPy and plain loops."""

import ast
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from rnnlab import L1, L2, LSTM, Algorithm, BasicTanh, LargestSingularValue, Norm, Sizes, Tanh, TemporalOrder
from rnnlab.book import myst
from rnnlab.engine import batched
from rnnlab.methods.method import Networks

FOLDER = Path(__file__).parents[2] / "book" / "4_remedies"
KINDS = ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef


@cache
def page(name: str) -> dict:
    """The functions and classes of a page."""
    source = "\n".join(cell.source for cell in myst.page(FOLDER / f"{name}.md").cells if cell.cell_type == "code")
    names: dict = {"__name__": name, "OUTPUTS": 2, "off": torch.tensor(False)}
    body = [line for line in ast.parse(source).body if isinstance(line, KINDS)]
    exec(compile(ast.Module(body, []), name, "exec"), names)
    return names


def by_loop(A, d, push, forced):
    """The error of one network, step by step, some of its units reading their targets."""
    N, O, error = A.shape[0], d.shape[-1], 0.0
    h = torch.cat((d[0], torch.zeros(len(d[0]), N - O, dtype=A.dtype)), dim=1)
    for t in range(len(push)):
        read = torch.cat((d[t] if forced else h[:, :O], h[:, O:], push[t]), dim=1)
        h = torch.tanh(read @ A.T)
        error = error + (h[:, :O] - d[t + 1]).square().sum()
    return error / (len(push) * d.shape[1] * O)


def test_the_gradient_of_forced_and_free_networks_is_autograds_of_a_loop_over_steps():
    g = torch.Generator().manual_seed(0)
    A, d, push = (torch.randn(x, generator=g, dtype=torch.float64) for x in ((4, 6, 8), (10, 4, 3, 2), (9, 4, 3, 2)))
    forced = torch.tensor([True, False, True, False])
    got = page("teacher_forcing")["gradient"](A, d, push, forced[:, None, None])
    for m in range(4):
        theta = A[m].clone().requires_grad_()
        (want,) = torch.autograd.grad(by_loop(theta, d[:, m], push[:, m], forced[m]), theta)
        torch.testing.assert_close(got[m], want, rtol=1e-12, atol=1e-15)


def test_a_misfit_is_the_squared_error_over_the_variance_and_best_at_any_phase():
    names = page("teacher_forcing")
    wanted = names["signal"]("sine", 75)[1:26, None, None]
    ahead = wanted.roll(7, 0)
    torch.testing.assert_close(names["misfit"](wanted + 0.1, wanted), torch.tensor([0.01 / 0.32]), rtol=1e-5, atol=0)
    assert names["misfit"](ahead, wanted).item() > 0.5
    turn = torch.tensor([[2 * np.pi / 25]])
    W = torch.cat((torch.cat((turn.cos(), turn.sin()), 1), torch.cat((-turn.sin(), turn.cos()), 1)))
    A = torch.cat((W, torch.zeros(2, 1)), dim=1)[None]  # turns, and shrinks by r^3/4 a step: r = (2/t)^(1/2)
    last = names["misfit_at_last"](A, names["signal"]("sine", 75)[:, None, None], 25).item()
    assert last == pytest.approx((1 - (2 / 987.5) ** 0.5 / 0.8) ** 2, rel=0.003)


def some(members=3):
    task, seeds = TemporalOrder(10), torch.arange(members)
    network = BasicTanh(0.4).parameters(Sizes(task.inputs, 7, task.outputs), range(members), dtype=torch.float64)
    return task, network, task.chunk(seeds, torch.arange(3), batch=5), seeds


@pytest.mark.parametrize("most", [0.3, 0.9, 5.0])
def test_a_bound_by_eigenvectors_gives_the_matrix_that_numpys_singular_values_give(most):
    _, network, *_ = some()
    U, S, V = np.linalg.svd(network.W_rec.numpy())
    package, want = network.clone(), (U * S.clip(max=most)[:, None]) @ V
    LargestSingularValue(most).hold_(package)
    page("penalties")["Held"](most).hold_(network)
    for W in (network.W_rec, package.W_rec):
        np.testing.assert_allclose(W.numpy(), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("penalties", [(), (L2(0.1), L1(0.02)), (LargestSingularValue(0.8),)])
def test_the_pages_method_makes_the_updates_that_an_algorithm_with_these_penalties_makes(penalties):
    task, network, chunk, seeds = some()
    descent, theirs = Algorithm(0.1, Norm(1.0), penalties=penalties), network.clone()
    trace = batched.sgd(theirs, chunk, sigma=Tanh(), loss=task.loss, algorithm=descent)
    method, whole = page("penalties")["Penalized"](descent), Networks(network, task.loss, Tanh(), batched, seeds)
    _, ours = method.advance(whole, method.init(whole), chunk)
    torch.testing.assert_close(network.theta, theirs.theta, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(ours.norm, trace.norm, rtol=1e-12, atol=0)


def test_the_target_of_a_flip_flop_is_the_sign_of_the_last_pulse():
    u, d = page("suppositions")["signs"](2, 30, 4, 0.2, torch.Generator().manual_seed(1))
    assert torch.equal(u[0], u[1])
    assert u.shape == d.shape == (2, 30, 4, 1)
    for b in range(4):
        last = 0.0
        for t in range(30):
            last = u[0, t, b, 0].item() or last
            assert d[0, t, b, 0].item() == pytest.approx(0.8 * last)
        assert 3 <= int((u[0, :, b] != 0).sum()) <= 15


def test_what_comes_back_to_an_lstms_two_states_is_torchs_own():
    task, sizes = TemporalOrder(10), Sizes(6, 5, 4, LSTM())
    networks, names = BasicTanh(0.5).parameters(sizes, range(2), dtype=torch.float64), page("lstm")
    d = names["back"](networks, task, [0, 1], B=3)  # 2 M T+1 B
    batch = task.chunk(torch.arange(2), torch.arange(1), batch=3, stream=names["bits"].TEST)[0]
    for m in range(2):
        (lstm, read), begun = networks.to_torch(m), torch.zeros(2, 1, 3, 5, dtype=torch.float64, requires_grad=True)
        u = torch.nn.functional.one_hot(batch.inputs[m].long(), 6).double()
        h = lstm(u, (begun[0], begun[1]))[0][-1]
        h.retain_grad()
        torch.nn.functional.cross_entropy(read(h), batch.targets[m, 0].long()).backward()
        torch.testing.assert_close(d[:, m, 0], begun.grad[:, 0].norm(dim=-1), rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(d[0, m, -1], h.grad.norm(dim=-1), rtol=1e-9, atol=1e-15)
        rates = names["flow"](d)
        want = (begun.grad[1, 0].norm(dim=-1) / h.grad.norm(dim=-1)).log().median() / 10
        torch.testing.assert_close(rates[1][m], want, rtol=1e-9, atol=1e-12)

"""What an engine returns, against finite differences, autograd, torch.nn.RNN and one another."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from rnnlab.cells import Linear, Parameters, Sigmoid, Sizes, Tanh
from rnnlab.clipping import Elementwise, ElementwiseSignal, NoClip, Norm, Skip
from rnnlab.engine import batched, reference
from rnnlab.engine.contract import ALGORITHMS, Algorithm
from rnnlab.losses import EverySoftmax, LastSoftmax, LastSquaredError
from rnnlab.omega import Code, Eq9, Eq10AsPrinted, InverseTime
from rnnlab.sequences import Batch
from rnnlab.tasks import Addition, NoiselessMemorization, TemporalOrder

ENGINES = {"reference": reference, "batched": batched}
LOSSES = [LastSoftmax(), EverySoftmax(), LastSquaredError()]
SIGMAS = [Tanh(), Sigmoid(), Linear()]
OMEGAS = [None, Code(), Eq9(), Eq10AsPrinted()]
SHAPES = {"usual": (2, 5, 3, 6), "T=1": (2, 1, 3, 5), "B=1": (2, 4, 1, 5), "M=1": (1, 4, 3, 5), "N=1": (2, 4, 3, 1)}


def random_case(M, T, B, N, *, loss, symbols=True, mixed=False, I=5, O=3):
    """Networks and a batch without a task, drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(M + 10 * T + 100 * B + 1000 * N)
    sizes = Sizes(I, N, O)
    theta = torch.randn(M, sizes.P, dtype=torch.float64, generator=generator) * 1.2 / N**0.5
    S = T if loss.every_step else 1
    classes = torch.randint(0, O, (M, S, B), generator=generator)
    values = torch.randn(M, S, B, O, dtype=torch.float64, generator=generator)
    batch = Batch(
        inputs=torch.randint(0, I, (M, T, B), generator=generator, dtype=torch.uint8)
        if symbols
        else torch.randn(M, T, B, I, dtype=torch.float64, generator=generator),
        targets=values if isinstance(loss, LastSquaredError) else classes,
        lengths=torch.tensor([max(1, T - m) if mixed else T for m in range(M)]),
    )
    return Parameters(theta, sizes), batch


def loss_from(network, batch, m, k, h, loss, sigma):
    """Member m's loss when its state at step k is h: a plain loop in NumPy, apart from everything under test."""
    f = {Tanh: np.tanh, Sigmoid: lambda a: 1 / (1 + np.exp(-a)), Linear: lambda a: a}[type(sigma)]
    W_rec, W_in, b, W_out, b_out = (
        p[m].numpy() for p in (network.W_rec, network.W_in, network.b, network.W_out, network.b_out)
    )
    T, total = int(batch.lengths[m]), 0.0
    B, counted = h.shape[0], T if loss.every_step else 1
    for t in range(k, T + 1):
        if t > k:
            h = f(h @ W_rec.T + W_in[:, batch.inputs[m, t - 1].long().numpy()].T + b)
        if t == T or (loss.every_step and t >= 1):
            y = h @ W_out.T + b_out
            target = batch.targets[m, t - 1 if loss.every_step else 0].numpy()
            if isinstance(loss, LastSquaredError):
                total += ((y - target) ** 2).sum()
            else:
                total += (np.log(np.exp(y).sum(axis=1)) - y[np.arange(B), target]).sum()
    return total / (B * counted)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("mixed", [False, True])
def test_delta_is_the_total_derivative_of_every_step(engine, loss, mixed):
    sigma, M, T = Tanh(), 2, 5
    network, batch = random_case(M, T, 2, 4, loss=loss, mixed=mixed)
    g = ENGINES[engine].gradients(network, batch, sigma=sigma, loss=loss)
    step = 1e-5
    for m in range(M):
        L = int(batch.lengths[m])
        for t in range(L + 1):
            state, want = g.states[m, t].numpy(), np.empty((2, 4))
            for index in np.ndindex(2, 4):
                shift = np.zeros((2, 4))
                shift[index] = step
                ends = [loss_from(network, batch, m, t, state + s * shift, loss, sigma) for s in (1, -1)]
                want[index] = (ends[0] - ends[1]) / (2 * step)
            # central differences: truncation step^2 = 1e-10, rounding 1e-16/step = 1e-11
            np.testing.assert_allclose(g.delta[m, t].numpy(), want, rtol=1e-7, atol=1e-9)
        assert not g.delta[m, L + 1 :].any()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("sigma", SIGMAS, ids=lambda sigma: type(sigma).__name__)
def test_the_gradient_is_autograds_of_torchs_own_recurrence(loss, sigma):
    M, T, B, N = 2, 5, 3, 4
    network, batch = random_case(M, T, B, N, loss=loss)
    g = batched.gradients(network, batch, sigma=sigma, loss=loss)
    for m in range(M):
        theta = network.theta[m : m + 1].clone().requires_grad_()
        p = Parameters(theta, network.sizes)
        h, rows = torch.zeros(B, N, dtype=torch.float64), []
        for t in range(T):
            u = nn.functional.one_hot(batch.inputs[m, t].long(), network.sizes.inputs).double()
            h = sigma(nn.functional.linear(h, p.W_rec[0]) + nn.functional.linear(u, p.W_in[0], p.b[0]))
            rows.append(nn.functional.linear(h, p.W_out[0], p.b_out[0]))
        y = torch.stack(rows if loss.every_step else rows[-1:])
        target = batch.targets[m]
        if isinstance(loss, LastSquaredError):
            E = (y - target).square().sum() / B
        else:
            E = nn.functional.cross_entropy(y.flatten(0, 1), target.flatten().long())
        (want,) = torch.autograd.grad(E, theta)
        torch.testing.assert_close(g.theta[m], want[0], rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(g.loss[m], E.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(g.outputs[m], y.detach(), rtol=1e-12, atol=1e-14)


def test_weights_are_oriented_as_in_torchs_rnn():
    network, batch = random_case(1, 6, 3, 5, loss=LastSoftmax())
    rnn = nn.RNN(network.sizes.inputs, 5, dtype=torch.float64)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(network.W_rec[0])
        rnn.weight_ih_l0.copy_(network.W_in[0])
        rnn.bias_ih_l0.copy_(network.b[0])
        rnn.bias_hh_l0.zero_()
        want, _ = rnn(nn.functional.one_hot(batch.inputs[0].long(), network.sizes.inputs).double())
    got = batched.gradients(network, batch, sigma=Tanh(), loss=LastSoftmax()).states[0, 1:]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("sigma", SIGMAS, ids=lambda sigma: type(sigma).__name__)
def test_reference_and_batched_agree(shape, loss, sigma):
    """The whole matrix of cell, loss, form of omega, edge size, input and length: to 1e-10 in float64."""
    M, T, B, N = SHAPES[shape]
    kinds = [(True, False, None), (False, True, None), (True, True, 0.01)]  # symbols, mixed lengths, signal clipping
    for omega, (symbols, mixed, signal) in itertools.product(OMEGAS, kinds):
        network, batch = random_case(M, T, B, N, loss=loss, symbols=symbols, mixed=mixed)
        h_0 = torch.full((M, B, N), 0.25, dtype=torch.float64) if mixed else None
        given = {"sigma": sigma, "loss": loss, "omega": omega, "alpha": 0.7, "signal_threshold": signal, "h_0": h_0}
        want, got = (engine.gradients(network, batch, **given) for engine in (reference, batched))
        for name in ("theta", "states", "delta", "loss", "omega"):
            torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("task", [TemporalOrder((10, 15)), Addition(12), NoiselessMemorization((3, 6), 2, 2)])
@pytest.mark.parametrize("clip", [NoClip(), Norm(0.1), Norm(0.1, Skip()), Elementwise(0.01), ElementwiseSignal(0.003)])
def test_engines_make_the_same_updates(task, clip):
    algorithm = Algorithm(learning_rate=0.1, clip=clip, omega=Code(), alpha=InverseTime(0.5, period=2))
    sizes = Sizes(task.inputs, 6, task.outputs)
    start = torch.randn(3, sizes.P, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.4
    chunk = task.chunk(torch.arange(3), torch.arange(5), batch=4)
    ends, traces = [], []
    for engine in (reference, batched):
        network = Parameters(start.clone(), sizes)
        traces.append(engine.sgd(network, chunk, sigma=Tanh(), loss=task.loss, algorithm=algorithm, first_update=1))
        ends.append(network.theta)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-10, atol=1e-10)
    assert (ends[0] - start).abs().max() > 1e-3
    for name in ("loss", "norm", "omega", "events"):
        torch.testing.assert_close(getattr(traces[1], name), getattr(traces[0], name), rtol=1e-9, atol=1e-10)


def test_an_update_is_the_gradient_step():
    task, sizes = TemporalOrder(10), Sizes(6, 5, 4)
    chunk = task.chunk(torch.arange(2), torch.arange(1), batch=3)
    start = torch.randn(2, sizes.P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = Parameters(start.clone(), sizes)
    g = batched.gradients(network, chunk[0], sigma=Tanh(), loss=task.loss)
    batched.sgd(network, chunk, sigma=Tanh(), loss=task.loss, algorithm=Algorithm(learning_rate=0.5))
    torch.testing.assert_close(network.theta, start - 0.5 * g.theta, rtol=1e-12, atol=0)


def test_a_member_that_diverges_takes_nobody_along():
    task, sizes = TemporalOrder(10), Sizes(6, 5, 4)
    chunk = task.chunk(torch.arange(2), torch.arange(4), batch=3)
    theta = torch.randn(2, sizes.P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sick = theta.clone()
    sick[1] = float("nan")
    for name in ALGORITHMS:
        healthy, beside = Parameters(theta.clone(), sizes), Parameters(sick.clone(), sizes)
        for network in (healthy, beside):
            given = {"sigma": Tanh(), "loss": task.loss, "algorithm": Algorithm.named(name)}
            trace = batched.sgd(network, chunk, **given)
        torch.testing.assert_close(beside.theta[0], healthy.theta[0], rtol=1e-12, atol=0)
        assert set(trace.events[:, 1].tolist()) == {3 if name in ("MSGD", "MSGD-R") else 2}


def test_states_streamed_in_windows_are_those_of_one_pass():
    network, batch = random_case(3, 9, 2, 4, loss=EverySoftmax(), mixed=True)
    given = {"sigma": Tanh(), "loss": EverySoftmax()}
    y, h = batched.outputs(network, batch, **given)
    parts, state = [], None
    for start, stop in ((0, 4), (4, 9)):
        window = Batch(
            batch.inputs[:, start:stop], batch.targets[:, start:stop], (batch.lengths - start).clamp(0, stop - start)
        )
        part, state = batched.outputs(network, window, h_0=state, **given)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), y, rtol=1e-13, atol=0)
    torch.testing.assert_close(state, h, rtol=1e-13, atol=0)


def test_algorithms_have_the_papers_names():
    made = {name: Algorithm.named(name, threshold=2.0, alpha=3.0) for name in ALGORITHMS}
    assert made["MSGD"] == Algorithm(clip=NoClip(), omega=None, alpha=made["MSGD"].alpha)
    assert made["MSGD-C"].clip == Norm(2.0)
    assert made["MSGD-C"].omega is None
    assert made["MSGD-CR"].clip == Norm(2.0)
    assert made["MSGD-CR"].omega == Code()
    assert made["MSGD-CR"].alpha(10**6) == 3.0
    assert made["MSGD-R"].clip == NoClip()
    with pytest.raises(ValueError, match="algorithm must be one of"):
        Algorithm.named("SGD")
    with pytest.raises(ValueError, match="learning_rate must be a positive"):
        Algorithm(learning_rate=0)

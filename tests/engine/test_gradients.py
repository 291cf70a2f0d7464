"""What an engine returns, against finite differences, autograd, torch.nn.RNN and one another."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from rnnlab.descent.algorithm import ALGORITHMS, Algorithm
from rnnlab.descent.clipping import Elementwise, ElementwiseSignal, Event, NoClip, Norm, Shrink, Skip
from rnnlab.descent.omega import Code, Eq9, Eq10AsPrinted
from rnnlab.descent.schedules import InverseTime
from rnnlab.engine import batched, phases, reference
from rnnlab.engine.contract import alive
from rnnlab.engine.cpu import fused as cpu
from rnnlab.network.cells import Linear, Sigmoid, Simple, Tanh
from rnnlab.network.losses import Bernoulli, Softmax, SquaredError
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.pathological import Addition, NoiselessMemorization, TemporalOrder
from rnnlab.tasks.task import Batch, Chunk

ENGINES = {"reference": reference, "batched": batched}
LOSSES = [Softmax(), Softmax(every_step=True), SquaredError()]
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
        inputs=torch.randint(0, I, (M, T, B), generator=generator, dtype=torch.uint8 if I <= 256 else torch.int16)
        if symbols
        else torch.randn(M, T, B, I, dtype=torch.float64, generator=generator),
        targets={SquaredError: values, Bernoulli: values.sigmoid()}.get(type(loss), classes),
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
            if isinstance(loss, SquaredError):
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
        if isinstance(loss, SquaredError):
            E = (y - target).square().sum() / B
        else:
            E = nn.functional.cross_entropy(y.flatten(0, 1), target.flatten().long())
        (want,) = torch.autograd.grad(E, theta)
        torch.testing.assert_close(g.theta[m], want[0], rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(g.loss[m], E.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(g.outputs[m], y.detach(), rtol=1e-12, atol=1e-14)


def test_weights_are_oriented_as_in_torchs_rnn():
    network, batch = random_case(1, 6, 3, 5, loss=Softmax())
    rnn = nn.RNN(network.sizes.inputs, 5, dtype=torch.float64)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(network.W_rec[0])
        rnn.weight_ih_l0.copy_(network.W_in[0])
        rnn.bias_ih_l0.copy_(network.b[0])
        rnn.bias_hh_l0.zero_()
        want, _ = rnn(nn.functional.one_hot(batch.inputs[0].long(), network.sizes.inputs).double())
    got = batched.gradients(network, batch, sigma=Tanh(), loss=Softmax()).states[0, 1:]
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


@pytest.mark.parametrize("steps", [1, 2, 5])  # of seven
def test_a_history_in_tiles_of_any_number_of_steps_has_the_same_gradients(monkeypatch, steps):
    monkeypatch.setattr(phases, "_TILE", steps * 2 * 3 * 4)
    for loss, omega, mixed in itertools.product(LOSSES, (None, Code()), (False, True)):
        network, batch = random_case(2, 7, 3, 4, loss=loss, mixed=mixed)
        given = {"sigma": Tanh(), "loss": loss, "omega": omega, "alpha": 0.7}
        want, got = (engine.gradients(network, batch, **given) for engine in (reference, batched))
        for name in ("theta", "states", "delta", "omega"):
            torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("omega", OMEGAS)
@pytest.mark.parametrize("kind", [Softmax, SquaredError, Bernoulli])
@pytest.mark.parametrize(("every", "over"), [(False, "mean"), (True, "mean"), (True, "sum")])
def test_reference_and_batched_agree_on_sequences_with_lengths_and_starts_of_their_own(every, over, kind, omega):
    loss, (M, T, B, N) = kind(every_step=every, over_steps=over), SHAPES["usual"]
    plain, batch = random_case(M, T, B, N, loss=loss)
    sizes = replace(plain.sizes, cell=Simple(Sigmoid(), learned_start=True))
    network = Parameters(torch.cat((plain.theta, plain.theta[:, :N]), dim=1), sizes)
    batch = replace(
        batch,
        lengths=torch.tensor([[5, 1, 3], [2, 4, 2]]),
        begins=torch.tensor([[True, False, True], [False, True, False]]),
    )
    h_0 = torch.full((M, B, N), 0.25, dtype=torch.float64)
    for start, signal in ((None, 0.01), (h_0, None)):
        given = {"loss": loss, "omega": omega, "alpha": 0.7, "signal_threshold": signal, "h_0": start}
        want, got = (engine.gradients(network, batch, **given) for engine in (reference, batched))
        assert omega is None or want.omega.abs().min() > 0
        for name in ("theta", "states", "delta", "loss", "omega"):
            torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-10)
        counted = alive(batch.lengths, T) if every else torch.ones(M, 1, B, dtype=torch.bool)
        torch.testing.assert_close(got.outputs[counted], want.outputs[counted], rtol=1e-10, atol=1e-10)


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


ALL_ENGINES = [(reference, torch.float64), (batched, torch.float64), (batched, torch.float32), (cpu, torch.float32)]


def steep(scale, *, dtype, device="cpu"):
    """A network whose loss has the gradient scale (3/4, 1) for W_out and b_out, and 0 for all else; and a batch."""
    network = Parameters.zeros(Sizes(1, 1, 1), 1, dtype=dtype, device=device)
    network.b.fill_(0.75)  # h = b, by a linear unit, and y = 0
    given = {"dtype": dtype, "device": device}
    target = torch.full((1, 1, 1, 1, 1), -scale / 2, **given)
    lengths = torch.ones(1, 1, dtype=torch.int64)
    return network, Chunk(torch.zeros(1, 1, 1, 1, 1, **given), target, lengths)


def check_clipping(engine, dtype, scale, threshold, device="cpu"):
    """A gradient of any scale is clipped, of which none is called diverged."""
    for clip in (Norm(threshold, None), Norm(threshold, Skip()), NoClip()):
        network, chunk = steep(scale, dtype=dtype, device=device)
        algorithm = Algorithm(learning_rate=1.0, clip=clip)
        trace = engine.sgd(network, chunk, sigma=Linear(), loss=SquaredError(), algorithm=algorithm)
        clipped = clip != NoClip() and 1.25 * scale > threshold
        want = -(threshold * np.array([0.6, 0.8]) if clipped else scale * np.array([0.75, 1.0]))
        np.testing.assert_allclose(network.theta[0, 3:].cpu().numpy(), want, rtol=1e-5)
        if abs(1.25 * scale - threshold) > 1e-5 * threshold:
            assert trace.events.item() == (Event.CLIPPED if clipped else Event.NONE)
        np.testing.assert_allclose(trace.norm.item(), torch.tensor(1.25 * scale, dtype=trace.norm.dtype), rtol=1e-6)


@pytest.mark.parametrize(("engine", "dtype"), ALL_ENGINES)
@given(power=st.floats(-37, 37), threshold=st.floats(-37, 37))
@example(power=np.log10(3e38), threshold=0.0)  # whose norm is beyond float32
@example(power=20.0, threshold=-25.0)
def test_engines_clip_a_gradient_of_any_scale(engine, dtype, power, threshold):
    check_clipping(engine, dtype, 10**power, 10**threshold)


def at_the_bound(w, form, *, dtype, device="cpu"):
    """A linear unit, dE/dh of four sequences around the form's bound, by a loss that is exact in float32."""
    network = Parameters.zeros(Sizes(1, 1, 1), 1, dtype=dtype, device=device)
    network.W_rec.fill_(w)
    network.W_out.fill_(1.0)
    root = form.bound**0.5
    d = torch.tensor([0.0, root, root * (1 - 2**-10), 8 * root], dtype=dtype, device=device)
    inputs = torch.zeros(1, 1, 4, 1, dtype=dtype, device=device)
    return network, Batch(inputs, -2 * d[None, None, :, None], torch.ones(1, dtype=torch.int64))


BOUND = 2.0**-66
EDGES = [(form, w) for form in (Code(BOUND), Eq9(BOUND), Eq10AsPrinted(BOUND)) for w in (0.0, 0.5, -2.0)]


def check_edge(engine, dtype, form, w, device="cpu"):
    """Two of four pairs are live, the one at the bound too; |n|/|d| is |w|, and at w = 0 eq. (9) is flat in w."""
    network, batch = at_the_bound(w, form, dtype=dtype, device=device)
    given = {"sigma": Linear(), "loss": SquaredError(), "omega": form, "alpha": 3.0}
    g = engine.gradients(network, batch, **given)
    value, slope = {
        Code: ((w * w - 1) ** 2, 4 * w * (w * w - 1)),
        Eq9: ((abs(w) - 1) ** 2 / 2, np.sign(w) * (abs(w) - 1)),
        Eq10AsPrinted: ((w * w - 1) / 2, w),
    }[type(form)]
    assert g.delta[0, 1, 1].item() == form.bound**0.5
    assert g.omega.item() == pytest.approx(value, rel=1e-6)
    assert g.theta[0, 0].item() == pytest.approx(3 * slope, rel=1e-6, abs=1e-12)
    assert bool(g.theta.isfinite().all())


@pytest.mark.parametrize(("engine", "dtype"), ALL_ENGINES)
@pytest.mark.parametrize(("form", "w"), EDGES)
def test_forms_of_omega_are_right_where_n_or_d_is_zero_and_at_the_bound(engine, dtype, form, w):
    check_edge(engine, dtype, form, w)


@pytest.mark.parametrize("d", [1.0, 1e3])
@pytest.mark.parametrize(("engine", "dtype"), ALL_ENGINES)
def test_eq_9_pulls_a_signal_that_all_but_vanishes(engine, dtype, d):
    """|n| = 1e-21: the quotient of squares is beyond float32, and the derivative, 2 (|w| - 1), is not."""
    network = Parameters.zeros(Sizes(1, 1, 1), 1, dtype=dtype)
    network.W_rec.fill_(1e-21 / d)
    network.W_out.fill_(1.0)
    real = torch.zeros(1, 1, 1, 1, dtype=dtype)
    batch = Batch(real, real - d / 2, torch.ones(1, dtype=torch.int64))
    g = engine.gradients(network, batch, sigma=Linear(), loss=SquaredError(), omega=Eq9(), alpha=3.0)
    # n^2 = 1e-42 has three digits in float32
    assert g.theta[0, 0].item() == pytest.approx(-6, rel=1e-3 if dtype == torch.float32 else 1e-12)
    assert g.omega.item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("form", [Code(), Eq9(), Eq10AsPrinted()])
def test_a_saturated_unit_leaves_every_form_finite(form):
    for engine, dtype in ALL_ENGINES:
        network = Parameters.zeros(Sizes(6, 1, 4), 1, dtype=dtype)
        network.W_rec.fill_(0.5)
        network.b.fill_(40.0)  # tanh' is 0
        network.W_out[0, :, 0] = torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=dtype)
        batch = Batch(
            torch.zeros(1, 2, 3, dtype=torch.uint8), torch.zeros(1, 1, 3, dtype=torch.uint8), torch.tensor([2])
        )
        g = engine.gradients(network, batch, sigma=Tanh(), loss=Softmax(), omega=form, alpha=4.0)
        assert bool(g.theta.isfinite().all())
        if engine is not cpu:  # whose tanh stops a little below 1
            assert not g.theta[0, 0]
            assert g.omega.item() == (-1 if form == Eq10AsPrinted() else 1)  # the last step alone is live


@pytest.mark.parametrize(("engine", "dtype"), ALL_ENGINES)
def test_what_does_not_fit_is_refused_wherever_in_a_chunk_it_stands(engine, dtype):
    network, batch = random_case(2, 4, 3, 5, loss=Softmax())
    network = network.to(dtype)
    given = {"sigma": Tanh(), "loss": Softmax()}
    plain = [torch.stack([x.long()] * 3) for x in (batch.inputs, batch.targets, batch.lengths)]
    for part, at, value, said in (
        (0, (2, 1, 3, 2), 5, "inputs must be symbols from 0 to 4, got 0 to 5"),
        (0, (2, 1, 3, 2), -256, "inputs must be symbols from 0 to 4, got -256 to"),
        (1, (2, 0, 0, 1), 259, "targets must be classes from 0 to 2, got 0 to 259"),
        (2, (1, 1), 5, "lengths must hold 2 numbers of steps from 1 to 4"),
    ):
        parts = [x.clone() for x in plain]
        parts[part][at] = value
        with pytest.raises(ValueError, match=said):
            engine.sgd(network, Chunk(*parts), algorithm=Algorithm(), **given)
    for lacking in range(3):
        parts = [x[:2] if part == lacking else x for part, x in enumerate(plain)]
        with pytest.raises(ValueError, match="must have shape"):
            engine.sgd(network, Chunk(*parts), algorithm=Algorithm(), **given)
    with pytest.raises(ValueError, match="inputs must be on cpu, where the networks are, got meta"):
        engine.gradients(network, Batch(batch.inputs.to("meta"), batch.targets, batch.lengths), **given)
    vast = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(2, 2**16, 2**15)
    with pytest.raises(ValueError, match="inputs must have at most 1073741824 pairs of a step and a sequence"):
        engine.gradients(network, Batch(vast, batch.targets, batch.lengths), **given)


@pytest.mark.parametrize("engine", [batched, cpu])
def test_numbers_are_never_narrowed(engine):
    loss = SquaredError()
    network, wide = random_case(2, 4, 3, 5, loss=loss, symbols=False)
    network, given = network.to(torch.float32), {"sigma": Tanh(), "loss": loss}
    batch = Batch(wide.inputs.float(), wide.targets.float(), wide.lengths)
    h_0 = torch.zeros(2, 3, 5, dtype=torch.float64)
    said = "must be of no wider dtype than the networks' torch.float32, got torch.float64"
    for name, bad in (
        ("inputs", Batch(wide.inputs, batch.targets, batch.lengths)),
        ("targets", Batch(batch.inputs, wide.targets, batch.lengths)),
    ):
        with pytest.raises(ValueError, match=f"{name} {said}"):
            engine.gradients(network, bad, **given)
    for call in (engine.gradients, engine.outputs):
        with pytest.raises(ValueError, match=f"h_0 {said}"):
            call(network, batch, h_0=h_0, **given)
        with pytest.raises(ValueError, match="h_0 must have shape"):
            call(network, batch, h_0=h_0[:1].float(), **given)
    with pytest.raises(ValueError, match="inputs must have 5 channels"):
        engine.outputs(network, Batch(batch.inputs[..., :3], batch.targets, batch.lengths), **given)
    with pytest.raises(ValueError, match="lengths must hold"):
        engine.outputs(network, Batch(batch.inputs[:, :2], batch.targets, batch.lengths), **given)
    for rule, said in (
        (Algorithm(learning_rate=1e40), r"learning_rate must be at most 3.4e\+38 in torch.float32, got 1e\+40"),
        (Algorithm(omega=Code(), alpha=InverseTime(1e39)), "alpha must be at most"),
        (Algorithm(clip=Norm(1.0, Shrink(factor=1e40))), "factor must be at most"),
        (Algorithm(omega=Code(bound=1e-50)), "omega's bound must be at least 9.86e-32 in torch.float32, got 1e-50"),
    ):
        with pytest.raises(ValueError, match=said):
            engine.sgd(network, Chunk(*(x[None] for x in batch.parts.values())), algorithm=rule, **given)
    half = batch.inputs.half(), torch.full((2, 3, 5), 0.25, dtype=torch.float16)  # wider is no loss
    narrow = engine.outputs(network, Batch(half[0], batch.targets, batch.lengths), h_0=half[1], **given)
    same = engine.outputs(network, Batch(half[0].float(), batch.targets, batch.lengths), h_0=half[1].float(), **given)
    assert all(torch.equal(a, b) for a, b in zip(narrow, same, strict=True))


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
    network, batch = random_case(3, 9, 2, 4, loss=Softmax(every_step=True), mixed=True)
    given = {"sigma": Tanh(), "loss": Softmax(every_step=True)}
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

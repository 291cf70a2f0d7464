"""Hessian-free : products against torch.func, conjugate gradients against a solver, a step in closed form."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.func import grad, hessian, jacfwd, jvp, vjp, vmap
from torch.nn import functional

from rnnlab import (
    LSTM,
    Addition,
    BasicTanh,
    Bernoulli,
    Chunk,
    Ensemble,
    Linear,
    NoiselessMemorization,
    Parameters,
    Sigmoid,
    Spec,
    SquaredError,
    TemporalOrder,
    sweeps,
    train,
)
from rnnlab.engine import batched
from rnnlab.methods.hessian_free import HessianFree, Linearized, conjugate_gradients
from rnnlab.methods.method import Networks
from rnnlab.tasks.task import Task
from tests.own import Pieces

T, B, N, I = 6, 5, 4, 3
TESTS = {"check_every": 2, "check_sequences": 100, "confirm_sequences": 100, "stop": "never"}


@dataclass(frozen=True)
class Given(Task):
    """Real inputs, or symbols, with targets of any loss."""

    length: int = T
    loss: object = SquaredError()
    outputs: int = 2
    name: ClassVar = "given"
    symbols: ClassVar = False
    shortest: ClassVar = 2
    inputs: ClassVar = I

    def draw(self, draws, steps):
        T = self.length
        u = torch.stack([draws.uniforms(range(i * T, (i + 1) * T)) for i in range(I)], dim=-1)
        window = steps or range(T)
        S = T if self.loss.every_step else 1
        values = u[:, :, :S, :, : self.outputs].round()
        return Chunk(u[:, :, window.start : window.stop], values, draws.lengths(self.length))


TASKS = [
    TemporalOrder(10),
    Given(),
    Given(loss=Bernoulli(every_step=True)),
    NoiselessMemorization(3, values=2, positions=2),
]


def unrolled(theta, sizes, u, sigma):
    """Pre-activations and outputs of every step, by a loop that knows nothing of the package's."""
    p, h, found = Parameters(theta[None], sizes), torch.zeros(u.shape[1], sizes.units, dtype=theta.dtype), []
    for x in u:
        a = h @ p.W_rec[0].T + x @ p.W_in[0].T + p.b[0]
        h = sigma(a)
        found.append((a, h @ p.W_out[0].T + p.b_out[0]))
    return tuple(torch.stack(x) for x in zip(*found, strict=True))


def case(task, sigma):
    sizes = Spec(task=task, units=N).sizes
    p = BasicTanh(0.7).parameters(sizes, [3], dtype=torch.float64)
    p.theta.add_(0.1)
    batch = task.chunk(torch.tensor([3]), torch.arange(1), batch=B)[0]
    states = batched.gradients(p, batch, sigma=sigma, loss=task.loss).states[0]
    u = batch.inputs[0]
    u = functional.one_hot(u.long(), sizes.inputs).double() if task.symbols else u.double()

    def outputs(theta):
        return unrolled(theta, sizes, u, sigma)[1][0 if task.loss.every_step else -1 :]

    def loss(y, b=slice(None)):
        d = batch.targets[0, :, b]
        if task.symbols:
            return functional.cross_entropy(y.flatten(0, 1), d.flatten().long())
        if isinstance(task.loss, Bernoulli):
            return functional.binary_cross_entropy_with_logits(y, d.double()) * y.shape[-1]
        return (y - d).square().sum(-1).mean()

    network = Networks(p, task.loss, sigma, batched, torch.tensor([3]))
    return Linearized(network, batch, states), p.theta[0].clone(), outputs, loss, u


@pytest.mark.parametrize("sigma", [BasicTanh.sigma, Sigmoid(), Linear()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.name} {type(task.loss).__name__}")
def test_products_and_squares_are_those_that_torch_func_finds(task, sigma):
    near, theta, outputs, loss, u = case(task, sigma)
    v = torch.randn(len(theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y, dy = jvp(outputs, (theta,), (v,))
    curved = jvp(grad(loss), (y,), (dy,))[1]
    newton = vjp(outputs, theta)[1](curved)[0]
    torch.testing.assert_close(near.product(v), newton, rtol=1e-12, atol=1e-12)

    def before(theta):
        return unrolled(theta, near.network.parameters.sizes, u, sigma)[0]

    a, da = jvp(before, (theta,), (v,))
    slope = vmap(vmap(vmap(grad(sigma))))(a)
    states = vjp(before, theta)[1](slope * da / B)[0]
    torch.testing.assert_close(
        near.product(v, damping=0.6, structural=0.5), newton + 0.6 * v + 0.3 * states, rtol=1e-12, atol=1e-12
    )
    each = [grad(lambda theta, b=b: loss(outputs(theta)[:, b : b + 1], slice(b, b + 1)))(theta) for b in range(B)]
    torch.testing.assert_close(near.squares(), torch.stack(each).square().mean(dim=0), rtol=1e-12, atol=1e-14)


def test_products_in_several_threads_are_those_of_one():
    """PyTorch counts the levels of forward derivatives for a process, so that one thread can end another's."""
    near, theta, *_ = case(TASKS[1], Sigmoid())
    vectors = torch.randn(4, 100, len(theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    want = [torch.stack([near.product(v) for v in some]) for some in vectors]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            got = [*pool.map(lambda some: torch.stack([near.product(v) for v in some]), vectors)]
    finally:
        sys.setswitchinterval(interval)
    assert all(map(torch.equal, got, want))


def test_conjugate_gradients_solve_a_system_and_keep_iterates_ever_further_apart():
    g = torch.Generator().manual_seed(0)
    X = torch.randn(30, 30, generator=g, dtype=torch.float64)
    A, b, x = X @ X.T + torch.eye(30), torch.randn(30, generator=g, dtype=torch.float64), torch.ones(30).double()
    kept, n = conjugate_gradients(lambda v: A @ v, b, x=x, scale=A.diagonal(), most=200)
    models = [float(0.5 * x @ A @ x - b @ x) for x in kept]
    assert models == sorted(models, reverse=True)
    assert models[-1] + 0.5 * float(b @ torch.linalg.solve(A, b)) < 0.005 * abs(models[-1])
    assert 10 < n < 200
    assert len(kept) < n
    once, one = conjugate_gradients(lambda v: A @ v, b, x=0 * x, scale=torch.ones(30).double(), most=1)
    torch.testing.assert_close(once[-1], (b @ b) / (b @ A @ b) * b)  # the first step is that of steepest descent
    assert one == 1
    exact, few = conjugate_gradients(lambda v: 2 * v, b, x=0 * x, scale=torch.ones(30).double(), most=200)
    torch.testing.assert_close(exact[-1], b / 2)
    assert few <= 11
    stuck, none = conjugate_gradients(lambda v: -v, b, x=0 * x, scale=torch.ones(30).double(), most=9)
    assert none == 0
    assert not stuck[-1].any()


def spec(task=TASKS[0], **changes):
    method = HessianFree(20, damping=0.1)
    return Spec(task=task, algorithm=method, units=6, batch=60, updates=4, **TESTS).with_(**changes)


def test_without_recurrence_to_learn_an_update_is_a_damped_newton_step():
    """A linear read-out of one step has a quadratic loss, whose damped minimum is known."""
    task = Given(length=2)
    ensemble = Ensemble(spec(task, algorithm=HessianFree(60, 0.0, 0.5, 500), init=BasicTanh(1e-4)), [1], device="cpu")
    batch = task.chunk(torch.tensor([1]), torch.arange(1), batch=60)[0]
    p = ensemble.parameters.to(torch.float64)
    sizes, u = p.sizes, batch.inputs[0].double()
    theta = p.theta[0].clone()

    def outputs(theta):
        return unrolled(theta, sizes, u, torch.tanh)[1][-1]

    def loss(theta):
        return (outputs(theta) - batch.targets[0, 0]).square().sum(-1).mean()

    J = jacfwd(outputs)(theta).flatten(0, 1)
    A = 2 * J.T @ J / 60 + 0.5 * torch.eye(len(theta))
    wanted = theta + torch.linalg.solve(A, -grad(loss)(theta))
    trace = ensemble.advance(1)
    torch.testing.assert_close(ensemble.parameters.theta[0].double(), wanted, rtol=0, atol=2e-3)
    assert (theta - wanted).abs().max() > 0.1
    assert abs(float(hessian(loss)(theta).trace()) - 2 * float(J.square().sum()) / 60) < 0.1
    torch.testing.assert_close(trace.own["reduction"][0, 0].item(), 1.0, rtol=0.05, atol=0)
    assert ensemble.state["damping"].item() == pytest.approx(0.5 * 2 / 3)


def test_updates_never_raise_the_loss_of_their_batch_and_count_their_passes():
    ensemble, lower = Ensemble(spec(), [0, 1], device="cpu"), []
    for k in range(4):
        batch = TASKS[0].chunk(torch.arange(2), torch.tensor([k]), batch=60)[0]
        trace = ensemble.advance(1)
        after = batched.gradients(ensemble.parameters, batch, sigma=ensemble.spec.sigma, loss=TASKS[0].loss).loss
        lower.append(after <= trace.loss[0] + 1e-6)
        least = 60 + 20 * (trace.own["iterations"] + 3) + 30
        assert (trace.own["passes"] >= least).all()
    assert torch.stack(lower).all()


def test_a_training_that_was_interrupted_ends_with_the_same_bits_and_a_member_alone_with_nearly_the_same(tmp_path):
    def interrupt(progress):
        raise KeyboardInterrupt

    wanted = train(spec(Addition(10)), seeds=3, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(spec(Addition(10)), seeds=3, device="cpu", store=tmp_path, progress=interrupt)
    again = sweeps.run(spec(Addition(10)), seeds=3, device="cpu", store=tmp_path)
    alone = train(spec(Addition(10)), seeds=[1], device="cpu")
    for name in ("theta", "loss", "damping", "passes"):
        assert np.array_equal(wanted[name], again[name])
    np.testing.assert_allclose(alone["theta"][0], wanted["theta"][1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cell": LSTM()}, "cell must be None, the simple one, for HessianFree, got LSTM"),
        ({"task": Pieces()}, "task must be one whose sequences begin anew, all of a batch as long, for HessianFree"),
    ],
    ids=["cell", "task"],
)
def test_what_it_does_not_know_is_refused_in_a_sentence(changes, said):
    with pytest.raises(ValueError, match=said):
        Ensemble(spec(**changes), 2, device="cpu").advance(1)

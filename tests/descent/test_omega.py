"""Forms of the regularizer: their factors against finite differences, their values against the authors' ranges."""

import math

import pytest
import torch

from rnnlab.descent.omega import Code, Eq9, Eq10AsPrinted
from rnnlab.descent.schedules import Constant, InverseTime
from rnnlab.engine import batched
from rnnlab.network.inits import BasicTanh, SigmoidInit, SmartTanh
from rnnlab.network.parameters import Sizes
from rnnlab.tasks.pathological import TemporalOrder

FORMS = [Code(), Eq9(), Eq10AsPrinted()]
M, T, B, N = 2, 3, 4, 5


def value(form, W_rec, d, v):
    n = torch.einsum("mtbi,mij->mtbj", v, W_rec)
    d2, n2 = d.square().sum(-1), n.square().sum(-1)
    return form.value(d2, n2, d2 >= form.bound)


def fixture():
    generator = torch.Generator().manual_seed(0)
    d, v = (torch.randn(M, T, B, N, dtype=torch.float64, generator=generator) for _ in range(2))
    d[0, 1, 2] = 0  # a pair that is not live
    v[1, 0, 0] = 0  # a pair with n = 0
    return torch.randn(M, N, N, dtype=torch.float64, generator=generator), d, v


@pytest.mark.parametrize("form", FORMS)
def test_the_factor_gives_the_derivative_that_finite_differences_give(form):
    W_rec, d, v = fixture()
    n = torch.einsum("mtbi,mij->mtbj", v, W_rec)
    d2, n2 = d.square().sum(-1), n.square().sum(-1)
    live = d2 >= form.bound
    weight = torch.where(live, form.coefficient(d2, n2), 0.0) * form.scale(live)[:, None, None]
    got = torch.einsum("mtb,mtbi,mtbj->mij", weight, v, n)
    want, step = torch.empty_like(W_rec), 1e-6
    for i in range(N):
        for j in range(N):
            shift = torch.zeros_like(W_rec)
            shift[:, i, j] = step
            want[:, i, j] = (value(form, W_rec + shift, d, v) - value(form, W_rec - shift, d, v)) / (2 * step)
    torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-7)


def test_values_worked_by_hand():
    d2 = torch.tensor([[[1.0, 4.0], [1e-30, 1.0]]])
    n2 = torch.tensor([[[4.0, 1.0], [5.0, 0.0]]])
    live = d2 >= 1e-20
    # ratios of squares 4, 1/4 and 0 are live; of norms 2, 1/2 and 0
    assert Code().value(d2, n2, live).item() == pytest.approx((9 + 0.5625 + 1) / 3)
    assert Eq9().value(d2, n2, live).item() == pytest.approx((1 + 0.25 + 1) / 2)
    assert Eq10AsPrinted().value(d2, n2, live).item() == pytest.approx((3 - 0.75 - 1) / 2)


@pytest.mark.parametrize("form", FORMS)
def test_without_a_live_pair_omega_is_zero(form):
    nothing = torch.zeros(1, 2, 2)
    assert form.value(nothing, nothing, nothing > 0).item() == 0
    assert math.isfinite(form.scale(nothing > 0).item())


# Omega, mean q and norm of the derivative of single networks, by the authors' formulas apart from this package:
# temporal order at initialization, `facts/paper-2013.md`, section 4.
AT_INITIALIZATION = [
    (SigmoidInit(), [0.999], [2.9e-4], [0.0055]),
    (BasicTanh(), [0.33], [0.42], [0.5, 0.7]),
    (SmartTanh(), [0.045, 0.058], [0.88], [0.2, 0.3]),
]


@pytest.mark.parametrize(("init", "omegas", "ratios", "norms"), AT_INITIALIZATION)
def test_omega_at_initialization_is_that_of_the_authors_formulas(init, omegas, ratios, norms):
    """Single networks differ from one another, so each known number must lie in the range of eighty of ours."""
    seeds, measured = range(80), []
    for length in (20, 50):
        task = TemporalOrder(length)
        network = init.parameters(Sizes(task.inputs, 50, task.outputs), seeds, dtype=torch.float64)
        batch = task.chunk(torch.tensor(seeds), torch.tensor([0]), batch=20)[0]
        given = {"sigma": init.sigma, "loss": task.loss}
        plain = batched.gradients(network, batch, **given)
        pulled = batched.gradients(network, batch, omega=Code(), alpha=1.0, **given)
        d2 = plain.delta.square().sum(-1)
        live = d2[:, 1:] >= 1e-20
        q = torch.where(live, d2[:, :-1] / d2[:, 1:], 0).sum(dim=(1, 2)) / live.sum(dim=(1, 2))
        measured.append((pulled.omega, q, (pulled.theta - plain.theta).norm(dim=1)))
        if isinstance(init, SigmoidInit):
            assert bool((live.any(dim=2).sum(dim=1) == 5).all())  # "only the last 5 steps valid at any T"
        if isinstance(init, SmartTanh):
            assert bool(live.all())
    for ours, known in zip(zip(*measured, strict=True), (omegas, ratios, norms), strict=True):
        low, high = torch.cat(ours).min().item(), torch.cat(ours).max().item()
        slack = 5e-4 * high  # the known numbers are rounded
        assert all(low - slack <= value <= high + slack for value in known), (low, high, known)
        assert high < 10 * low  # and the range must say something


def test_schedules():
    assert [Constant(4.0)(u) for u in (0, 10**6)] == [4.0, 4.0]
    assert [InverseTime(4.0, period=10)(u) for u in (0, 9, 10, 35)] == [4.0, 4.0, 2.0, 1.0]


@pytest.mark.parametrize("make", [lambda: Constant(-1.0), lambda: InverseTime(math.nan), lambda: Constant(math.inf)])
def test_negative_and_infinite_weights_are_refused(make):
    with pytest.raises(ValueError, match="alpha must be a finite number, at least 0"):
        make()


def test_a_decay_without_a_period_is_refused():
    with pytest.raises(ValueError, match="period must be a positive integer, got 0"):
        InverseTime(4.0, period=0)

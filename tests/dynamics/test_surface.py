"""The error surface of one unit against autograd through a plain loop, and against what holds exactly on its wall."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.dynamics.surface import Unit

point = st.tuples(st.floats(-3, 7), st.floats(-4, 2))
unit = st.builds(Unit, st.floats(-2, 2), st.integers(1, 60), st.floats(-1, 2))


def error(theta, unit):
    x = torch.tensor(unit.x_0, dtype=torch.float64)
    for _ in range(unit.steps):
        x = theta[0] / (1 + torch.exp(-x)) + theta[1]
    return (1 / (1 + torch.exp(-x)) - unit.target) ** 2


@settings(deadline=None, max_examples=50)
@given(unit=unit, points=st.lists(point, min_size=1, max_size=3))
def test_the_surface_has_the_derivatives_that_autograd_finds(unit, points):
    theta = torch.tensor(points, dtype=torch.float64)
    found, slope = unit.surface(theta), unit.slope(theta)
    wanted = [(error, torch.func.grad(error), torch.func.hessian(error))]
    for ours, f in zip(found, *wanted, strict=True):
        theirs = torch.stack([f(p, unit) for p in theta])
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10 * float(1 + theirs.abs().max()))
    torch.testing.assert_close(slope, found[:2], rtol=1e-12, atol=1e-13)


@given(w=st.floats(4.3, 6), x_0=st.floats(-0.4, 0.6), steps=st.integers(1, 50))
def test_on_the_wall_the_state_stays_and_the_gradient_is_a_geometric_series(w, x_0, steps):
    unit, y = Unit(x_0, steps), 1 / (1 + math.exp(-x_0))
    rise, off = y * (1 - y), y - 0.7
    b = unit.wall(torch.tensor(w, dtype=torch.float64))
    assert b.item() == pytest.approx(x_0 - w * y, rel=1e-14)
    E, g = unit.slope(torch.stack((torch.tensor(w, dtype=torch.float64), b)))
    series = sum((w * rise) ** k for k in range(steps))
    away = 1e-15 * (w * rise) ** steps  # a rounding error of b, as large as it is at the last step
    assert E.item() == pytest.approx(off**2, rel=1e-9 + 100 * away, abs=1e-12)
    assert g.tolist() == pytest.approx([2 * off * rise * series * d for d in (y, 1)], rel=1e-9 + 1e3 * away)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_a_descent_is_a_loop_of_steps_and_only_a_long_gradient_is_rescaled(threshold):
    unit, starts, rates = Unit(), [[4.6, -2.3645], [5.0, -2.5]], [0.02, 0.05]
    path = unit.descend(
        torch.tensor(starts, dtype=torch.float64),
        rate=torch.tensor(rates, dtype=torch.float64),
        updates=12,
        threshold=threshold,
    )
    assert path.shape == (13, 2, 2)
    rescaled = 0
    for m, (start, rate) in enumerate(zip(starts, rates, strict=True)):
        theta = torch.tensor(start, dtype=torch.float64)
        for there in path[:, m]:
            torch.testing.assert_close(there, theta, rtol=1e-9, atol=0)
            g = torch.func.grad(error)(theta, unit)
            long = threshold is not None and g.norm() > threshold
            rescaled += bool(long)
            theta = theta - rate * (g * threshold / g.norm() if long else g)
    assert (0 < rescaled < 26) == (threshold is not None)


def test_a_member_alone_descends_as_beside_others():
    starts = torch.tensor([[4.6, -2.36], [5.5, -2.8], [4.2, -2.0]], dtype=torch.float64)
    how = {"rate": torch.tensor([0.1], dtype=torch.float64), "updates": 30, "threshold": 0.06}
    together = Unit().descend(starts, **how)
    assert torch.equal(together[:, 1:2], Unit().descend(starts[1:2], **how))


@settings(deadline=None, max_examples=50)
@given(points=st.lists(point, min_size=1, max_size=3))
def test_the_leading_curvature_is_that_along_its_direction_and_none_is_larger(points):
    found = Unit().surface(torch.tensor(points, dtype=torch.float64))
    curvature, direction = found.leading()
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(len(points), dtype=torch.float64))
    image = (found.hessian @ direction[..., None])[..., 0]
    near = 1e-12 * float(curvature.abs().max()) + 1e-300
    torch.testing.assert_close(image, curvature[..., None] * direction, rtol=1e-9, atol=near)
    spectral = torch.linalg.matrix_norm(found.hessian, ord=2)
    torch.testing.assert_close(curvature.abs(), spectral, rtol=1e-9, atol=near)


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_newtons_steps_follow_from_eigenvalues_by_hand(beta):
    unit, starts, damping = Unit(), [[4.6, -2.3], [6.0, -2.0]], 0.1
    path = unit.newton(torch.tensor(starts, dtype=torch.float64), beta=beta, damping=damping, updates=6)
    signs = set()
    for m, start in enumerate(starts):
        theta, A = torch.tensor(start, dtype=torch.float64), None
        for there in path[:, m]:
            torch.testing.assert_close(there, theta, rtol=1e-7, atol=0)
            (a, b), (_, c) = torch.func.hessian(error)(theta, unit).tolist()
            mean, root = (a + c) / 2, math.hypot((a - c) / 2, b)
            low, high = mean - root, mean + root
            signs |= {low > 0, high > 0}
            # |H| = p I + q H takes the two eigenvalues where their absolute values are.
            q = (abs(high) - abs(low)) / (high - low)
            here = torch.tensor([[a, b], [b, c]], dtype=torch.float64) * q + (abs(low) - q * low) * torch.eye(
                2, dtype=torch.float64
            )
            A = here if A is None else beta * A + (1 - beta) * here
            theta = theta - torch.linalg.inv(A + damping * torch.eye(2, dtype=torch.float64)) @ torch.func.grad(error)(
                theta, unit
            )
    assert signs == {True, False}

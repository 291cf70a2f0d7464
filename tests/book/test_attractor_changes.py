"""The page on attractors that come and go: its census and its labels, on networks whose attractors are known."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rnnlab import Algorithm, Parameters, SmartTanh, Spec, TemporalOrder
from rnnlab.book import myst

NONE = torch.zeros(0, 50, dtype=torch.float64)
PAGE = Path(__file__).parents[2] / "book" / "2_dynamics" / "attractor_changes.md"


@pytest.fixture(scope="module")
def page():
    """The functions of the page, and what they take from its other cells."""
    source = "\n".join(cell.source for cell in myst.page(PAGE).cells if cell.cell_type == "code")
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef
    body = [line for line in ast.parse(source).body if isinstance(line, kinds)]
    spec = Spec(task=TemporalOrder(50), init=SmartTanh(), algorithm=Algorithm.named("MSGD-C"))
    starts = 2 * torch.rand(24, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    names: dict = {"__name__": "page", "spec": spec, "drawn": starts}
    exec(compile(ast.Module(body, []), str(PAGE), "exec"), names)
    return names


def network(page, weight, bias):
    """One whose first units have these weights and biases, and whose others forget at once."""
    p = Parameters.zeros(page["spec"].sizes, 1, dtype=torch.float64)
    k = len(bias)
    p.W_rec[0, :k, :k], p.b[0, :k] = torch.tensor(weight), torch.tensor(bias)
    return p


def fold(w):
    """State and bias at which the upper attractor of x' = tanh(w x + b) goes: the slope w (1 - x^2) is 1 there."""
    x = math.sqrt(1 - 1 / w)
    return x, math.atanh(x) - w * x


def test_an_attractor_that_a_fold_takes_is_counted_lost_and_its_states_cross(page):
    x, b = fold(2.0)
    before, after = (network(page, [[2.0]], [b + off]) for off in (1e-3, -1e-3))
    (points, eigenvalues), (later, _) = (page["attracting"](one, NONE) for one in (before, after))
    assert (len(points), len(later)) == (2, 1)
    upper = points[:, 0] > 0
    assert page["lost"](points, after).tolist() == upper.tolist()
    assert page["lost"](later, before).tolist() == [False]
    assert abs(float(points[upper, 0]) - x) < 0.05
    assert eigenvalues[upper].angle() == 0
    ends = torch.zeros(3, 50, dtype=torch.float64)
    ends[:, 0] = torch.tensor([x + 0.1, 0.99, -0.5])
    assert page["resting"](before, ends, points, upper).tolist() == [True, True, False]
    assert page["resting"](before, ends, points, ~upper).tolist() == [False, False, True]
    assert not page["resting"](before, ends, points, upper & ~upper).any()
    apart = page["ends_apart"](*map(page["under_mean"], (before, after)), ends, ends)
    assert ((apart > 1) == torch.tensor([True, True, False])).all()


@pytest.mark.parametrize("angle", [0.7, math.pi])
def test_a_point_that_turns_lets_go_of_its_states_without_a_jump(page, angle):
    c, s = math.cos(angle), math.sin(angle)
    before, after = (network(page, (r * np.array([[c, -s], [s, c]])).tolist(), [0.0, 0.0]) for r in (0.99, 1.01))
    (points, eigenvalues), (later, _) = (page["attracting"](one, NONE) for one in (before, after))
    assert (len(points), len(later)) == (1, 0)
    assert page["lost"](points, after).tolist() == [True]
    assert float(eigenvalues[0].angle().abs()) == pytest.approx(angle)
    ends = torch.zeros(1, 50, dtype=torch.float64)
    ends[0, :2] = 0.2
    assert page["resting"](before, ends, points, page["lost"](points, after)).all()
    assert (page["ends_apart"](*map(page["under_mean"], (before, after)), ends, ends) < 1).all()

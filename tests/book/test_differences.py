"""The page of differences: its own methods against autograd, its statistics against what is known, its register."""

import ast
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from rnnlab import Algorithm, BasicTanh, Code, Networks, Sizes, TemporalOrder
from rnnlab.book import myst, pages
from rnnlab.engine import batched
from rnnlab.network.parameters import Parameters
from rnnlab.sweeps import results

PAGE = Path(__file__).parents[2] / "book" / "6_lab" / "differences.md"
NAMES = ("SAID = ", "BUDGET, own = ")


@cache
def page() -> dict:
    """What the cells define that train nothing and read no stored result."""
    source = "\n".join(cell.source for cell in myst.page(PAGE).cells if cell.cell_type == "code")
    kinds = ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef
    body = [line for line in ast.parse(source).body if isinstance(line, kinds) or ast.unparse(line).startswith(NAMES)]
    names: dict = {"__name__": "page"}
    exec(compile(ast.Module(body, []), str(PAGE), "exec"), names)
    return names


def network() -> tuple[Networks, object]:
    """Two networks in float64, with large weights, so that no slope is 1; and a minibatch."""
    task, seeds = TemporalOrder(12), torch.arange(2)
    parameters = BasicTanh(0.4).parameters(Sizes(task.inputs, 7, task.outputs), [0, 1], dtype=torch.float64)
    batch = task.chunk(seeds, torch.arange(1), batch=5)[0]
    return Networks(parameters, task.loss, BasicTanh.sigma, batched, seeds), batch


def omega_by_autograd(networks: Networks, batch, which: str) -> torch.Tensor:
    """d Omega / d W_rec of each member, everything but the W_rec of the step back held constant, as eq. (9) says."""
    E, sigma = networks.gradients(batch), networks.sigma
    slope = sigma.derivative(E.states)
    W = networks.parameters.W_rec.clone().requires_grad_()
    total = torch.zeros(2, dtype=torch.float64)
    pairs = torch.zeros(2, dtype=torch.float64)
    for t in range(1, E.states.shape[1]):
        if which == "Immediate" and t < E.states.shape[1] - 1:
            continue
        d = E.delta[:, t]
        if which == "PreActivation":
            d = d * slope[:, t]
            n = torch.einsum("mbi,mij->mbj", d, W) * slope[:, t - 1]
        else:
            n = torch.einsum("mbi,mij->mbj", d * slope[:, t], W)
        d2 = (d**2).sum(-1)
        live = d2 >= 1e-20
        total = total + (((n**2).sum(-1) / d2 - 1) ** 2 * live).sum(-1)
        pairs = pairs + live.sum(-1)
    return torch.autograd.grad((total / pairs).sum(), W)[0]


@pytest.mark.parametrize("which", ["PreActivation", "Immediate"])
def test_what_omega_compares_has_the_derivative_that_autograd_finds(which):
    networks, batch = network()
    whole = {"clipped": lambda self, g, parameters: g}
    step, loss = type("Unclipped", (page()[which],), whole)(alpha=0.7).step(networks, batch)
    E = networks.gradients(batch)
    pull = Parameters(step - E.theta, networks.parameters.sizes)
    torch.testing.assert_close(pull.W_rec, 0.7 * omega_by_autograd(networks, batch, which), rtol=1e-9, atol=1e-12)
    assert not pull.W_in.any()
    torch.testing.assert_close(loss, E.loss)


def test_pytorchs_clipping_is_pytorchs_and_omega_after_clipping_is_whole():
    networks, batch = network()
    networks.parameters.W_out.mul_(20)  # so that the gradient is long
    E, both = networks.gradients(batch), networks.gradients(batch, omega=Code(), alpha=4.0)
    assert (E.theta.norm(dim=1) > 1).all()
    step, _ = page()["TorchClip"]().step(networks, batch)
    after, _ = page()["OmegaAfter"]().step(networks, batch)
    for m in range(2):
        theta, whole = torch.zeros_like(step[m], requires_grad=True), both.theta[m].clone()
        theta.grad = whole
        torch.nn.utils.clip_grad_norm_([theta], 1.0)
        torch.testing.assert_close(step[m], theta.grad, rtol=1e-12, atol=0)
        want = E.theta[m] / E.theta[m].norm() + (both.theta[m] - E.theta[m])
        torch.testing.assert_close(after[m], want, rtol=1e-12, atol=1e-15)


def test_the_comparison_is_of_seeds_with_the_interval_of_order_statistics():
    ours = np.full(10, 8_000.0)
    theirs = ours * 2.0 ** np.array([3, -1, 1, 2, 1, 4, 1, 2, 3, 5])
    (median, low, high), coverage, p = page()["compared"](ours, theirs)
    assert (median, low, high) == (4.0, 2.0, 16.0)  # of sorted -1 1 1 1 2 2 3 3 4 5: the second and the ninth
    assert coverage == pytest.approx(1 - 2 * 11 / 1024)
    # The sum is 21, of at most 23: as far from 0 are all signs alike, and all but that of one of four ones.
    assert p == 2 * (1 + 4) / 1024


def test_who_is_not_solved_counts_as_solved_at_the_budget():
    ours, theirs = np.array([25_000.0, np.nan, 50_000.0]), np.array([np.nan, 25_000.0, np.nan])
    (median, low, high), _, p = page()["compared"](ours, theirs)
    assert (median, low, high, p) == (1.0, 0.5, 2.0, 1.0)


def test_a_row_changes_one_field_and_the_table_says_of_each_what():
    rows = page()["register"](50)
    assert set(rows) == set(page()["SAID"])
    for name, (book, other) in rows.items():
        changed = {one.name for one in fields(book) if getattr(book, one.name) != getattr(other, one.name)}
        assert len(changed) == 1, name
        assert book.algorithm == rows["window from 4L/10"][0].algorithm, name


def test_the_rows_that_are_no_methods_of_the_page_are_those_that_the_manifest_asks_for():
    wanted = [result for name, result in results.manifest(pages.RESULTS).items() if name.startswith("differences_")]
    assert [result.name for result in wanted if result.make is not None] == ["differences_own"]
    wanted = [result for result in wanted if result.make is None]
    asked = [spec for result in wanted for spec in result.specs.values.flat]
    assert {(result.pages[0], tuple(result.seeds)) for result in wanted} == {("6_lab/differences", tuple(range(10)))}
    others = {name: other for name, (_, other) in page()["register"](50).items()}
    kept = {"no omega", "stop at no error"}  # in the older result, temporal_order
    said = [other for name, other in others.items() if name not in kept and type(other.algorithm) is Algorithm]
    assert sorted(spec.canonical() for spec in asked) == sorted(spec.canonical() for spec in said)

"""Penalties against autograd, NumPy's singular values and what makes a matrix the nearest of a ball."""

import math

import numpy as np
import pytest
import torch

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import Norm
from rnnlab.descent.penalties import L1, L2, LargestSingularValue, Penalty
from rnnlab.engine import batched, reference
from rnnlab.network.cells import LSTM, Tanh
from rnnlab.network.losses import Softmax
from rnnlab.network.parameters import Parameters, Sizes
from tests.descent.loops import batches, begun, slope

ENGINES = [reference, batched]
VALUES = {L1: lambda strength, w: strength * w.abs().sum(), L2: lambda strength, w: strength / 2 * (w * w).sum()}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("of", [("W_rec",), ("b", "W_in"), ("h_0", "W_out", "b_out")])
def test_the_gradient_of_a_penalty_is_autograds_of_its_value_and_0_for_all_else(kind, of):
    network = begun(2, cell=LSTM(learned_start=True))
    network.theta[0, ::5] = 0.0  # where the modulus has a corner, its derivative is 0, as torch has it
    theta = network.theta.clone().requires_grad_()
    views = Parameters(theta, network.sizes).views
    (want,) = torch.autograd.grad(sum(VALUES[kind](0.3, views[name]) for name in of), theta)
    got = kind(0.3, of).gradient(network)
    torch.testing.assert_close(got, want, rtol=1e-14, atol=0)
    assert bool((got == 0).any())


@pytest.mark.parametrize("engine", ENGINES)
def test_penalties_join_the_gradient_before_it_is_clipped(engine):
    network, chunk = begun(2), batches(1, 2)
    start, algorithm = network.clone(), Algorithm(0.5, Norm(0.4), penalties=(L2(0.2), L1(0.1, ("W_in",))))
    trace = engine.sgd(network, chunk, sigma=Tanh(), loss=Softmax(), algorithm=algorithm)
    for m in range(2):
        g, _, _ = slope(start.theta[m], chunk.inputs[0, m], chunk.targets[0, m])
        g[:16] += 0.2 * start.W_rec[m].flatten()
        g[16:24] += 0.1 * start.W_in[m].flatten().sign()
        torch.testing.assert_close(trace.norm[0, m], g.norm(), rtol=1e-12, atol=0)
        assert g.norm() > 0.4
        want = start.theta[m] - 0.5 * 0.4 * g / g.norm()
        torch.testing.assert_close(network.theta[m], want, rtol=1e-12, atol=1e-14)


def held(W_rec, most, cell=None):
    """W_rec as it is held."""
    network = Parameters.zeros(Sizes(1, W_rec.shape[-1], 1, cell), len(W_rec), dtype=W_rec.dtype)
    network.W_rec.copy_(W_rec)
    rest = network.theta[:, W_rec[0].numel() :].fill_(9.0)
    LargestSingularValue(most).hold_(network)
    assert bool((rest == 9.0).all())
    return network.W_rec


@pytest.mark.parametrize("cell", [None, LSTM()])
def test_singular_values_are_cut_and_their_directions_are_kept(cell):
    N, rows = 5, 5 if cell is None else 20
    W = torch.randn(3, rows, N, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    W[2] *= 0.01
    found = held(W, 1.5, cell)
    for m in range(3):
        U, S, V = np.linalg.svd(W[m].numpy(), full_matrices=False)
        assert (S[0] > 1.5) == (m < 2)
        np.testing.assert_allclose(found[m].numpy(), U * np.minimum(S, 1.5) @ V, rtol=0, atol=1e-13)
    assert torch.equal(found[2], W[2])


def test_what_takes_the_place_of_a_matrix_is_the_nearest_of_those_that_are_held():
    """P is the nearest to W of a convex set if <W - P, Q - P> is at most 0 for all Q of it.

    The largest <W - P, Q> of all Q with singular values up to s is s times the sum of W - P's singular values.
    """
    W = torch.randn(4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    P = held(W, 0.8)
    rest = W - P
    most = 0.8 * torch.linalg.svdvals(rest).sum(dim=1)
    torch.testing.assert_close((rest * P).sum(dim=(1, 2)), most, rtol=1e-12, atol=0)
    generator = torch.Generator().manual_seed(3)
    for _ in range(100):
        Q = P + 10 ** (-4 * float(torch.rand((), generator=generator))) * torch.randn(4, 6, 6, generator=generator)
        Q = Q * (0.8 / torch.linalg.matrix_norm(Q, 2)).clamp(max=1)[:, None, None]
        assert bool(((W - Q).flatten(1).norm(dim=1) > rest.flatten(1).norm(dim=1)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_left_alone_and_the_neighbours_held(bad, dtype):
    W = torch.eye(3, dtype=dtype).repeat(3, 1, 1) * 4
    W[1, 0, 2] = bad
    found = held(W, 0.5)
    assert torch.equal(found[1].nan_to_num(7, 8, 9), W[1].nan_to_num(7, 8, 9))
    torch.testing.assert_close(found[[0, 2]], torch.eye(3, dtype=dtype).repeat(2, 1, 1) * 0.5)


@pytest.mark.parametrize(("scale", "most"), [(1e25, 2.0), (1e25, 1e24), (1e-25, 1e-26), (1e-25, 1.0)])
def test_weights_whose_squares_the_dtype_does_not_hold_are_held_too(scale, most):
    generator = torch.Generator().manual_seed(4)
    W = (scale * torch.randn(2, 5, 5, dtype=torch.float64, generator=generator)).float()
    U, S, V = torch.linalg.svd(W.double())
    want = U * S.clamp(max=most)[:, None] @ V
    assert (S.max() > most) == (most < scale)
    torch.testing.assert_close(held(W, most).double() / want.abs().max(), want / want.abs().max(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_largest_singular_value_is_held_at_every_update(engine):
    network, chunk = begun(2), batches(8, 2)
    free, beyond = network.clone(), []
    for k in range(8):
        one = type(chunk)(**{name: x[k : k + 1] for name, x in chunk.parts.items()})
        for each, penalties in ((network, (LargestSingularValue(0.9),)), (free, ())):
            given = {"sigma": Tanh(), "loss": Softmax(), "algorithm": Algorithm(0.5, penalties=penalties)}
            engine.sgd(each, one, **given)
        largest = np.array([np.linalg.svd(W.numpy())[1][0] for W in network.W_rec])
        assert (largest <= 0.9 * (1 + 1e-12)).all()
        beyond.append([np.linalg.svd(W.numpy())[1][0] > 0.9 for W in free.W_rec])
    assert np.all(beyond)


def test_penalties_are_values_of_their_kind():
    for one in (L1(0.1), L2(0.1), LargestSingularValue(1.0)):
        assert isinstance(one, Penalty)
        assert {one, type(one)(*vars(one).values())} == {one}
    assert L1(1).of == ("W_rec",)
    assert LargestSingularValue(1.0).gradient(begun(1)) is None
    for kind in (L1, L2, LargestSingularValue):
        for wrong in (0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match=r"^(strength|most) must be a positive, finite number"):
                kind(wrong)

"""Networks unrolled by a loop of their own, for tests of updates to compare with; and batches without a task."""

import torch
from torch.nn import functional

from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Chunk

T, B, I, N, O = 5, 3, 2, 4, 3
SHAPES = [(N, N), (N, I), (N,), (O, N), (O,)]  # of the simple network's parameters, in theta's order
NAMES = ["W_rec", "W_in", "b", "W_out", "b_out"]


def begun(M, *, cell=None, dtype=torch.float64):
    """Networks with weights drawn from a fixed seed."""
    sizes = Sizes(I, N, O, cell)
    theta = 0.6 * torch.randn(M, sizes.P, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return Parameters(theta.to(dtype), sizes)


def batches(K, M, *, begins=False, dtype=torch.float64, of=0):
    """K batches of real inputs and classes, and which sequences begin."""
    generator = torch.Generator().manual_seed(of)
    inputs = torch.randn(K, M, T, B, I, dtype=torch.float64, generator=generator).to(dtype)
    targets = torch.randint(0, O, (K, M, 1, B), generator=generator)
    beginning = torch.rand(K, M, B, generator=generator) < 0.3
    return Chunk(inputs, targets, torch.full((K, M), T), beginning if begins else None)


def split(theta):
    """One member's parameters, each in its shape."""
    pieces = theta.split([torch.Size(shape).numel() for shape in SHAPES])
    return [piece.reshape(shape) for piece, shape in zip(pieces, SHAPES, strict=True)]


def run(theta, inputs, targets, *, h=None, noise=None):
    """One member's loss, from theta and what it reads, and the states that it ends in; differentiable."""
    W_rec, W_in, b, W_out, b_out = split(theta)
    h = inputs.new_zeros(B, N) if h is None else h
    for t, u in enumerate(inputs):
        a = h @ W_rec.T + u @ W_in.T + b
        h = (a if noise is None else a + noise[t]).tanh()
    return functional.cross_entropy(h @ W_out.T + b_out, targets[0]), h


def slope(theta, *read, **how):
    """The gradient of `run`, its loss and last states."""
    theta = theta.clone().requires_grad_()
    E, h = run(theta, *read, **how)
    (g,) = torch.autograd.grad(E, theta)
    return g, E.detach(), h.detach()

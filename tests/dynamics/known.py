"""Maps of which everything asked is known in closed form."""

import torch

from rnnlab.dynamics.maps import Function, Network
from rnnlab.network.cells import Sigmoid


def real(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def logistic(r):
    """x' = r x (1 - x)."""
    return Function(lambda x: r * x * (1 - x), lambda x: (r * (1 - 2 * x))[..., None])


def henon(a, b=0.3):
    """x' = 1 - a x^2 + y, y' = b x."""
    return Function(
        lambda z: torch.stack((1 - a * z[..., 0] ** 2 + z[..., 1], b * z[..., 0]), dim=-1),
        lambda z: rows([-2 * a * z[..., 0], 1], [b, 0]),
        N=2,
    )


def delayed(r):
    """x' = r x (1 - y), y' = x: the logistic map with a delay."""
    return Function(
        lambda z: torch.stack((r * z[..., 0] * (1 - z[..., 1]), z[..., 0]), dim=-1),
        lambda z: rows([r * (1 - z[..., 1]), -r * z[..., 0]], [1, 0]),
        N=2,
    )


def doya(b, form="x"):
    """The unit of Pascanu et al. 2013, Fig. 3: weight 5, bias b."""
    return Network(W_rec=real([5.0]), push=real(b), sigma=Sigmoid(), form=form)


def latch(w):
    """x' = w tanh(x)."""
    return Function(lambda x: w * x.tanh(), lambda x: w * (1 - x.tanh() ** 2)[..., None])


def rotation(modulus, cosine=0.6):
    """A linear map that turns the plane by an angle of this cosine, and stretches it."""
    sine = (1 - cosine**2) ** 0.5
    return linear(modulus * real([cosine, -sine], [sine, cosine]))


def linear(W):
    """x' = W x."""
    return Function(lambda x: x @ W.mT, lambda x: W.expand(*x.shape, -1), N=len(W))


def rows(*entries):
    """A matrix for each state, from its entries, numbers or of every state."""
    flat = [torch.as_tensor(entry, dtype=torch.float64) for row in entries for entry in row]
    return torch.stack(torch.broadcast_tensors(*flat), dim=-1).unflatten(-1, (len(entries), len(entries)))

"""The error surface of one sigmoid unit over its weight and its bias: exact derivatives, its wall, descents over it."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab.descent.clipping import clip_norm
from rnnlab.values import Count, Finite, Kept, Positive, checked, value


class Surface(NamedTuple):
    """The error at points (w, b), dimensionless, its gradient and its Hessian for (w, b)."""

    error: Float[Tensor, "*S"]
    gradient: Float[Tensor, "*S 2"]
    hessian: Float[Tensor, "*S 2 2"]

    def leading(self) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S 2"]]:
        """The curvature that is largest, up or down, and the direction in which it is found, of length 1."""
        values, vectors = torch.linalg.eigh(self.hessian)
        first = (values.abs().argmax(-1) == 0)[..., None]
        return torch.where(first, values, values.flip(-1))[..., 0], torch.where(first, vectors[..., 0], vectors[..., 1])


@value
class Unit:
    """One sigmoid unit under a constant input: x_{t+1} = w sigma(x_t) + b, E = (sigma(x_T) - target)^2.

    Args:
        x_0: state to start from.
        steps: T.
        target: of the last output.

    Source:
        Pascanu et al. 2013, eq. (8) and Fig. 6.
    """

    x_0: Finite = 0.5
    steps: Count = 50
    target: Finite = 0.7

    @checked
    def wall(self, w: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        """The bias that makes x_0 a fixed point: where it repels, x_0 is on the separatrix, and E has its wall."""
        return self.x_0 - w * torch.full_like(w, self.x_0).sigmoid()

    @checked
    def slope(self, theta: Float[Tensor, "*S 2"]) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S 2"]]:
        """E at points (w, b), and its gradient."""
        (w, b), first = theta.unbind(-1), theta.new_zeros(2, *theta.shape[:-1])
        x = torch.full_like(w, self.x_0)
        for _ in range(self.steps):
            y = x.sigmoid()
            x, first = w * y + b, w * y * (1 - y) * first + torch.stack((y, torch.ones_like(y)))
        y = x.sigmoid()
        return (y - self.target) ** 2, (2 * (y - self.target) * y * (1 - y) * first).movedim(0, -1)

    @checked
    def surface(self, theta: Float[Tensor, "*S 2"]) -> Surface:
        """E at points (w, b), its gradient and its Hessian, whose parts go forward with the state."""
        (w, b), first = theta.unbind(-1), theta.new_zeros(2, *theta.shape[:-1])
        x, second = torch.full_like(w, self.x_0), theta.new_zeros(2, 2, *theta.shape[:-1])
        for _ in range(self.steps):
            y = x.sigmoid()
            rise, square = y * (1 - y), first[:, None] * first
            second = w * rise * ((1 - 2 * y) * square + second)
            second[0] += rise * first
            second[:, 0] += rise * first
            x, first = w * y + b, w * rise * first + torch.stack((y, torch.ones_like(y)))
        y, square = x.sigmoid(), first[:, None] * first
        rise, off = y * (1 - y), y - self.target
        hessian = 2 * rise * (rise * square + off * ((1 - 2 * y) * square + second))
        return Surface(off**2, (2 * off * rise * first).movedim(0, -1), hessian.movedim((0, 1), (-2, -1)))

    @checked
    def descend(
        self, theta: Float[Tensor, "M 2"], *, rate: Float[Tensor, "#M"], updates: Count, threshold: Positive | None
    ) -> Float[Tensor, "K M 2"]:
        """Points (w, b) along gradient descents, the start included.

        Args:
            theta: where each begins.
            rate: learning rate of each, or of all.
            updates: steps of each; K is one more.
            threshold: for the norm of the gradient, above which it is rescaled; None leaves it as it is.
        """
        path = [theta]
        for _ in range(updates):
            _, g = self.slope(path[-1])
            path.append(path[-1] - rate[:, None] * (g if threshold is None else clip_norm(g, threshold)))
        return torch.stack(path)

    @checked
    def newton(
        self, theta: Float[Tensor, "M 2"], *, beta: Kept, damping: Positive, updates: Count
    ) -> Float[Tensor, "K M 2"]:
        """Points (w, b) along damped Newton descents, the start included: steps -(A + damping I)^-1 g.

        Args:
            theta: where each begins.
            beta: share of A that an update keeps; the rest comes from the Hessian there, with the signs of its
                eigenvalues taken off. At 0 it is taken anew at each step, else averaged.
            damping: what is added to each eigenvalue of A.
            updates: steps of each; K is one more.
        """
        path, A = [theta], None
        for _ in range(updates):
            _, g, hessian = self.surface(path[-1])
            values, vectors = torch.linalg.eigh(hessian)
            here = (vectors * values.abs()[:, None]) @ vectors.mT
            A = here if A is None else beta * A + (1 - beta) * here
            path.append(path[-1] - torch.linalg.solve(A + damping * torch.eye(2, dtype=g.dtype, device=g.device), g))
        return torch.stack(path)

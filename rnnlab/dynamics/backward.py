"""The error on its way back in time: its norms, and the gradients of the error and of omega taken apart."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnlab.descent.clipping import norms
from rnnlab.descent.omega import Code, Omega
from rnnlab.engine import batched
from rnnlab.engine.contract import cell_of
from rnnlab.network.cells import Sigma, Simple
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch
from rnnlab.values import checked


@dataclass(frozen=True)
class Signal:
    """One backward sweep, taken apart; on the CPU, in float64.

    Args:
        of_error: dE/dW_rec.
        of_omega: immediate derivative of omega for W_rec, unweighted.
        omega: its value, dimensionless.
        ratio: |n_t|/|d_t| for t = 1 .. T, the factor by which step t changes the norm of the error on its way back,
            dimensionless; NaN where d_t is 0.
        live: which pairs of a step and a sequence enter omega.
        delta: |dE/dh_t| for t = 0 .. T, in the loss's unit.
    """

    of_error: Float[Tensor, "M N N"]
    of_omega: Float[Tensor, "M N N"]
    omega: Float[Tensor, "M"]
    ratio: Float[Tensor, "M T B"]
    live: Bool[Tensor, "M T B"]
    delta: Float[Tensor, "M T+1 B"]

    @property
    def cosine(self) -> Float[Tensor, "M"]:
        """Cosine of the angle between the two gradients: below 0 if going down omega raises the error."""
        return torch.nn.functional.cosine_similarity(self.of_error.flatten(1), self.of_omega.flatten(1))

    @property
    def kept(self) -> Float[Tensor, "M _ B"]:
        """|dE/dh_t| relative to that of the last step, dimensionless."""
        return self.delta / self.delta[:, -1:]


@checked
def signal(
    parameters: Parameters,
    batch: Batch,
    *,
    loss: Loss,
    sigma: Sigma | None = None,
    omega: Omega | None = None,
    h_0: Tensor | None = None,
) -> Signal:
    """Sweep back once through every network and take the result apart.

    Args:
        parameters: of M networks, on any device, of any floating dtype.
        batch: of one length for all members.
        loss: what is descended.
        sigma: non-linearity; None where the sizes name a simple cell.
        omega: form of the regularizer; the authors' code unless told.
        h_0: states `M B N` to start from, but for the sequences that `batch.begins` names; None begins all.

    Raises:
        ValueError: the networks' cell is another than the simple one, or a shape does not fit.
    """
    omega, cell = omega or Code(), cell_of(parameters.sizes, sigma)
    if not isinstance(cell, Simple):
        raise ValueError(f"parameters must be of the simple cell, as omega is of it alone, got {cell}")
    network = parameters.to("cpu", torch.float64)
    batch = Batch(**{name: x.cpu() for name, x in batch.parts.items()})
    how = {"sigma": sigma, "loss": loss, "omega": omega, "h_0": h_0 if h_0 is None else h_0.cpu()}
    bare, whole = (batched.gradients(network, batch, **how, alpha=alpha) for alpha in (0.0, 1.0))
    of_error, together = (Parameters(g.theta, network.sizes).W_rec for g in (bare, whole))
    d = bare.delta[:, 1:]
    n = (d * cell.sigma.derivative(bare.states[:, 1:])) @ network.W_rec[:, None]  # M T B N
    live = d.square().sum(dim=-1) >= omega.bound
    return Signal(of_error, together - of_error, bare.omega, norms(n) / norms(d), live, norms(bare.delta))

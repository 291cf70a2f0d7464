"""The fastest engine that knows what is asked, and can be used here."""

import functools
import warnings
from types import ModuleType

import torch
from torch import Tensor

from rnnlab import machine
from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.omega import Omega
from rnnlab.engine import batched, known
from rnnlab.engine.contract import Gradients, Rules, cell_of
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cuda import fused as cuda
from rnnlab.network.cells import Sigma
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch
from rnnlab.values import Weight, checked


def choose(*, sigma: Sigma | None, loss: Loss, algorithm: Algorithm, sizes: Sizes, device: torch.device) -> ModuleType:
    """The fastest engine that knows all of these: `cpu` or `cuda`, fused, where it fits; `batched` everywhere else."""
    fused = {"cpu": cpu, "cuda": cuda}.get(device.type)
    rules = Rules(cell_of(sizes, sigma), loss, algorithm)
    if fused is None:
        return batched
    asked = known.sweep(rules) if fused is cpu else rules  # a gradient that comes from the CPU can be descended anyhow
    if reason := known.unknown(asked) or ([] if fused is cpu or cuda.holds(rules, sizes) else [repr(sizes)]):
        _say(", ".join(reason))
        return batched
    return fused if _works(fused, sizes.units) else batched


@functools.cache
def _say(parts: str) -> None:
    machine.say(f"by the batched engine, since the faster one does not know {parts}")


@checked
def gradients(
    network: Parameters,
    batch: Batch,
    *,
    loss: Loss,
    sigma: Sigma | None = None,
    omega: Omega | None = None,
    alpha: Weight = 0.0,
    h_0: Tensor | None = None,
) -> Gradients:
    """Gradients of every member by the fastest engine that can be used, as `engine.batched.gradients` returns them.

    Args:
        network: parameters of M networks.
        batch: symbols `M T B` or real inputs `M T B I`, targets, lengths.
        loss: what is descended.
        sigma: non-linearity of a simple cell; None where the sizes name another.
        omega: form of the regularizer, or None.
        alpha: weight of omega.
        h_0: states `M B width` to start from, or None for where the cell begins.

    Raises:
        ValueError: a shape, dtype or device does not fit, or a number is too large, or omega's bound too small for it.
    """
    engine, device = batched, network.theta.device
    if network.theta.dtype == torch.float32 and network.theta.is_contiguous():
        engine = choose(sigma=sigma, loss=loss, algorithm=Algorithm(omega=omega), sizes=network.sizes, device=device)
    return engine.gradients(network, batch, loss=loss, sigma=sigma, omega=omega, alpha=alpha, h_0=h_0)


@functools.cache
def _works(fused: ModuleType, units: int) -> bool:
    """Whether this engine can be used here for so many units; says once why it cannot."""
    reason = (machine.triton_lacks() if fused is cuda else None) or fused.missing(units)
    return reason is None or _without(reason)


@functools.cache
def _without(reason: str) -> bool:
    warnings.warn(f"training by the batched engine instead of the fused one, slower: {reason}", stacklevel=3)
    return False

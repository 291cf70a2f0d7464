"""Engines: `gradients(...)` and `sgd(...)` under one contract, by independent back ends."""

import functools
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from rnnlab.cells import Sigma
    from rnnlab.engine.contract import Algorithm
    from rnnlab.losses import Loss


def choose(*, sigma: "Sigma", loss: "Loss", algorithm: "Algorithm", units: int, device: "torch.device") -> "ModuleType":
    """The fastest engine that knows all of these: `cpu`, fused, where it fits; `batched` everywhere else."""
    from rnnlab.engine import batched, cpu

    fits = cpu.fits(sigma=sigma, loss=loss, omega=algorithm.omega, clip=algorithm.clip)
    return cpu if device.type == "cpu" and fits and _compiled(units) else batched


@functools.cache
def _compiled(units: int) -> bool:
    """Whether there is a kernel for so many units; says once why there is none."""
    from rnnlab.engine import kernel

    try:
        kernel.library(units)
    except (kernel.NoCompilerError, OSError) as reason:
        warnings.warn(f"training by the batched engine instead of the fused one, slower: {reason}", stacklevel=2)
        return False
    return True

"""Engines: `gradients(...)` and `sgd(...)` under one contract, by independent back ends."""

import functools
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from rnnlab.descent.algorithm import Algorithm
    from rnnlab.network.cells import Sigma
    from rnnlab.network.losses import Loss
    from rnnlab.network.parameters import Sizes


def choose(
    *, sigma: "Sigma", loss: "Loss", algorithm: "Algorithm", sizes: "Sizes", device: "torch.device"
) -> "ModuleType":
    """The fastest engine that knows all of these: `cpu` or `cuda`, fused, where it fits; `batched` everywhere else."""
    from rnnlab.engine import batched, known
    from rnnlab.engine.contract import Rules
    from rnnlab.engine.cpu import fused as cpu
    from rnnlab.engine.cuda import fused as cuda

    if not known.fits(Rules(sigma, loss, algorithm)):
        return batched
    if device.type == "cuda":
        return cuda if cuda.holds(sizes) and _reachable() else batched
    return cpu if device.type == "cpu" and _compiled(sizes.units) else batched


@functools.cache
def _compiled(units: int) -> bool:
    """Whether there is a kernel for so many units; says once why there is none."""
    from rnnlab.engine.cpu import kernel

    try:
        kernel.library(units)
    except (kernel.NoCompilerError, OSError) as reason:
        return _without(str(reason))
    return True


@functools.cache
def _reachable() -> bool:
    """Whether a GPU can be reached by Triton; says once what is missing."""
    from rnnlab.engine.cuda import fused as cuda

    reason = cuda.missing()
    return reason is None or _without(reason)


@functools.cache
def _without(reason: str) -> bool:
    warnings.warn(f"training by the batched engine instead of the fused one, slower: {reason}", stacklevel=3)
    return False

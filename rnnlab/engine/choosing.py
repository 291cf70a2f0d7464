"""The fastest engine that knows what is asked, and can be used here."""

import functools
import warnings
from types import ModuleType

import torch

from rnnlab.descent.algorithm import Algorithm
from rnnlab.engine import batched, known
from rnnlab.engine.contract import Rules, cell_of
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cuda import fused as cuda
from rnnlab.network.cells import Sigma
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Sizes


def choose(*, sigma: Sigma | None, loss: Loss, algorithm: Algorithm, sizes: Sizes, device: torch.device) -> ModuleType:
    """The fastest engine that knows all of these: `cpu` or `cuda`, fused, where it fits; `batched` everywhere else."""
    fused = {"cpu": cpu, "cuda": cuda}.get(device.type)
    rules = Rules(cell_of(sizes, sigma), loss, algorithm)
    if fused is None or not known.fits(rules) or (fused is cuda and not cuda.holds(rules, sizes)):
        return batched
    return fused if _works(fused, sizes.units) else batched


@functools.cache
def _works(fused: ModuleType, units: int) -> bool:
    """Whether this engine can be used here for so many units; says once why it cannot."""
    reason = fused.missing(units)
    return reason is None or _without(reason)


@functools.cache
def _without(reason: str) -> bool:
    warnings.warn(f"training by the batched engine instead of the fused one, slower: {reason}", stacklevel=3)
    return False

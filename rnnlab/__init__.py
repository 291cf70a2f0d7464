"""Recurrent networks trained by gradient descent, and why that is hard.

Axes, one vocabulary and one order: `M` members (independent networks), `T` steps, `B` sequences, `N` units, `I`
inputs, `O` outputs, `P` parameters; `K` updates of a chunk and `S` steps that have outputs. The member axis leads:
parameters `M N N`, inputs `M T B I`, trajectories `M T B N`. Networks follow h_t = sigma(W_rec h_{t-1} + W_in u_t + b)
with outputs W_out h_t + b_out, and W_rec[i, j] is the weight from unit j to unit i.

Source:
    Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks"; its eq. (2) is the same
    network seen before sigma.
"""

import importlib

__version__ = "0.1.0"

_MODULES = {
    "rnnlab.network.cells": ("Linear", "Sigmoid", "Tanh"),
    "rnnlab.network.parameters": ("Parameters", "Sizes", "spectral_radius"),
    "rnnlab.descent.clipping": ("Elementwise", "ElementwiseSignal", "Event", "NoClip", "Norm", "Shrink", "Skip"),
    "rnnlab.network.inits": ("INITS", "BasicTanh", "SigmoidInit", "SmartTanh"),
    "rnnlab.network.losses": ("EverySoftmax", "LastSoftmax", "LastSquaredError"),
    "rnnlab.descent.omega": ("Code", "Eq9", "Eq10AsPrinted"),
    "rnnlab.descent.schedules": ("Constant", "InverseTime"),
    "rnnlab.descent.algorithm": ("ALGORITHMS", "Algorithm"),
    "rnnlab.engine.contract": ("Gradients", "Trace"),
    "rnnlab.tasks.task": ("Batch", "Chunk"),
    "rnnlab.tasks.conformance": ("check_task",),
    "rnnlab.tasks.pathological": (
        "TASKS",
        "Addition",
        "Multiplication",
        "NoiselessMemorization",
        "RandomPermutation",
        "TemporalOrder",
        "ThreeBitTemporalOrder",
    ),
    "rnnlab.training.progress": ("Progress",),
    "rnnlab.training.checks": ("Halving", "HoldsAt"),
    "rnnlab.training.specs": ("Spec", "Start"),
    "rnnlab.training.ensembles": ("Ensemble",),
    "rnnlab.training.store": ("Store",),
    "rnnlab.training.loop": ("train",),
    "rnnlab.statistics": ("success", "wilson"),
}
_PUBLIC = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    """Find a public name when it is first used, so that importing the package alone pulls in no torch."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, for completion."""
    return [*__all__, "__version__"]

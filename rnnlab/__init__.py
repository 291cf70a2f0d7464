"""Recurrent networks trained by gradient descent, and why that is hard.

Axes, one vocabulary and one order: `M` members (independent networks), `T` steps, `B` sequences, `N` units, `I`
inputs, `O` outputs, `P` parameters; `K` updates of a chunk and `S` steps that have outputs. The member axis leads:
parameters `M N N`, inputs `M T B I`, trajectories `M T B N`. Networks follow h_t = sigma(W_rec h_{t-1} + W_in u_t + b)
with outputs W_out h_t + b_out, and W_rec[i, j] is the weight from unit j to unit i.

Source:
    Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks"; its eq. (2) is the same
    network seen before sigma.
"""

import importlib.util

__version__ = "0.1.0"

_PLACES = """
network.cells LSTM Leaky Linear Sigmoid Simple Tanh
network.parameters Parameters Sizes spectral_radius
network.inits INITS BasicTanh SigmoidInit SmartTanh
network.losses Bernoulli Softmax SquaredError
descent.clipping Elementwise ElementwiseSignal Event NoClip Norm Shrink Skip
descent.adaptive Normalized PerMatrix Percentile UnitWise ZScore
descent.penalties L1 L2 LargestSingularValue
descent.omega Code Eq9 Eq10AsPrinted
descent.schedules Constant InverseTime
descent.algorithm ALGORITHMS AdamW Algorithm
engine.contract Gradients Trace
engine.choosing gradients
tasks.task Batch Chunk
tasks.conformance check_task
tasks.corpora Characters Rolls
tasks.pathological TASKS Addition Multiplication NoiselessMemorization RandomPermutation
tasks.pathological TemporalOrder ThreeBitTemporalOrder
training.progress Progress
methods.method Method Networks
methods.hessian_free HessianFree
methods.readout Readout
methods.stages Stages
methods.boxes BoxTraining
methods.consistency ConsistencyTraining
training.criteria Halving HoldsAt LargestError Lowest SplitLoss
training.specs Spec Start
training.ensembles Ensemble
training.store Store
training.records networks
training.loop train
statistics success wilson
"""
_ROWS = map(str.split, _PLACES.strip().splitlines())
_PUBLIC = {name: f"{__name__}.{module}" for module, *names in _ROWS for name in names}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    """Find a public name when it is first used, so that importing the package alone pulls in no torch."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, for completion."""
    return [*__all__, "__version__"]

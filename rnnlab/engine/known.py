"""What the fused engines know; anything else is for `batched`."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from rnnlab.descent.algorithm import AdamW, Algorithm
from rnnlab.descent.clipping import Elementwise, ElementwiseSignal, NoClip, Norm, Shrink, Skip
from rnnlab.descent.omega import Code, Eq9, Eq10AsPrinted
from rnnlab.engine.contract import Rules
from rnnlab.network.cells import Linear, Sigmoid, Simple, Tanh
from rnnlab.network.losses import Bernoulli, Softmax, SquaredError
from rnnlab.network.parameters import Parameters

# By kind. A part's place is its number in kernel.cpp's enumeration; its class's name is what the GPU's kernels read.
KNOWN: dict[str, tuple[type, ...]] = {
    "cell": (Simple,),
    "sigma": (Tanh, Sigmoid, Linear),
    "loss": (Softmax, SquaredError, Bernoulli),
    "method": (Algorithm, AdamW),
    "omega": (type(None), Code, Eq9, Eq10AsPrinted),
    "clip": (NoClip, Norm, Elementwise, ElementwiseSignal),
    "guard": (type(None), Shrink, Skip),
}
_LEAST = 2.0**-149  # of float32: what is positive stays so


def unknown(rules: Rules) -> list[str]:
    """Which of these are not known, as they are written."""
    told = {kind: part for kind, part in rules.parts.items() if part is not None}
    parts: list[object] = [part for kind, part in told.items() if type(part) not in KNOWN[kind]]
    parts += [rules.cell] if rules.cell not in parts and rules.cell.learned_start else []
    return [repr(part) for part in (*parts, *rules.algorithm.penalties)]


def sweep(rules: Rules) -> Rules:
    """The rules of the gradient alone, whatever is then done with it: clipping, guard, penalties, method."""
    asked = rules.algorithm
    return replace(rules, algorithm=Algorithm(omega=asked.omega, noise=asked.noise))


def numbers(rules: Rules) -> dict[str, int]:
    """The number of each part, by kind; the cell is always the simple one."""
    return {kind: KNOWN[kind].index(type(part)) for kind, part in rules.parts.items() if kind != "cell"}


def settings(rules: Rules) -> dict[str, float]:
    """The numbers that parts hold, by the names and in the order that the kernels have for them; 0 where none does."""
    algorithm, clip, guard = rules.algorithm, rules.algorithm.clip, rules.algorithm.clip.guard
    return {
        "rate": algorithm.learning_rate,
        "threshold": max(getattr(clip, "threshold", 0.0), _LEAST),
        "guard_limit": getattr(guard, "limit", 0.0),
        "guard_factor": getattr(guard, "factor", 0.0),
        "bound": getattr(algorithm.omega, "bound", 0.0),
        **{name: getattr(algorithm, name, 0.0) for name in ("beta1", "beta2", "eps", "decay")},
        "noise": algorithm.noise,
        "signal": math.inf if rules.signal_threshold is None else max(rules.signal_threshold, _LEAST),
    }


def start(rules: Rules) -> Tensor | None:
    """The states to start from as the kernels read them, contiguous, in float32; None for zeros."""
    return None if rules.h_0 is None else rules.h_0.to(torch.float32).contiguous()


def require(parameters: Parameters, rules: Rules, *, place: str, there: bool) -> None:
    """Refuse what is not known, and parameters that a kernel cannot read where it runs.

    Raises:
        ValueError: names what came and what is allowed.
    """
    theta = parameters.theta
    if theta.dtype != torch.float32 or not there or not theta.is_contiguous():
        raise ValueError(f"theta must be contiguous, in float32, on {place}, got {theta.dtype} on {theta.device}")
    if unknown(rules):
        raise ValueError(f"sigma, loss and algorithm must be of the package's own parts, got {rules.parts}")

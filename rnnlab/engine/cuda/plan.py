"""What the GPU's kernels are compiled for, and the memory that a launch writes."""

from dataclasses import dataclass

import torch
from torch import Tensor


def _padded(size: int) -> int:
    return max(16, 1 << (size - 1).bit_length())


@dataclass(frozen=True)
class Plan:
    """What a kernel is compiled for: sizes, where parameters begin among a member's P, and the names of its parts.

    Blocks are powers of two, and a sum in a product takes at least 16 terms: sizes are padded to `NP`, `IP` and `OP`.
    """

    N: int
    I: int
    O: int
    P: int
    W_rec: int
    W_in: int
    b: int
    W_out: int
    b_out: int
    B: int
    symbols: bool
    sigma: str
    loss: str
    every: bool
    method: str = "Algorithm"
    noise: bool = False
    signal: bool = False
    omega: str = "NoneType"
    clip: str = "NoClip"
    guard: str = "NoneType"
    keep: bool = False
    precision: str = "ieee"

    FLAT = 1024  # parameters at a time, where a member's are one row

    NP = property(lambda plan: _padded(plan.N), doc="Units, padded.")
    IP = property(lambda plan: _padded(plan.I), doc="Inputs, padded.")
    OP = property(lambda plan: _padded(plan.O), doc="Outputs, padded.")
    ROWS = property(lambda plan: min(32, _padded(plan.B)), doc="Sequences, or pairs of step and sequence, at a time.")
    input_size = property(lambda plan: plan.B * (1 if plan.symbols else plan.I), doc="Numbers in one step's inputs.")

    @property
    def apart(self) -> bool:
        """Whether n has memory of its own: with one loss at the end, and nothing cut off, n_t is delta_{t-1}."""
        return self.every or self.signal

    @property
    def target_size(self) -> int:
        """Numbers in one step's targets."""
        return self.B * (1 if self.loss == "Softmax" else self.O)

    @property
    def warps(self) -> int:
        """Warps of a block: as few as hold the sums in registers, since few share their operands better."""
        blocks = self.NP, self.IP, self.OP
        return 4 if max(blocks) <= 64 else 8 if sum(blocks) <= 256 else 16


def memory(plan: Plan, theta: Tensor, *, K: int, T: int) -> dict[str, Tensor]:
    """What a launch for these networks writes, by the names and in the order that the kernel has for it.

    Uninitialized, but for outputs: those beyond a sequence's own length are 0.
    """
    M, S, take = theta.shape[0], T if plan.every else 1, theta.new_empty
    delta = take(M, T + 1, plan.B, plan.NP)
    return {
        "weights": take(M, plan.NP + plan.I, plan.NP),
        "states": torch.empty_like(delta),
        "delta": delta,
        "n": take(M, T, plan.B, plan.NP) if plan.apart else delta,
        "c": take(M, T, plan.B),
        "errors": take(M, S, plan.B, plan.OP),
        "gradient": take(M, plan.P),
        "outputs": take(M, S, plan.B, plan.O).zero_() if plan.keep else take(0),
        **{name: take(K, M) for name in ("losses", "norms", "omegas")},
        "events": take(K, M, dtype=torch.uint8),
    }

"""Fused training on a GPU: whole updates of one member per thread block, by kernels compiled on first use."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnlab.descent.algorithm import AdamW
from rnnlab.descent.clipping import State
from rnnlab.engine import contract, known
from rnnlab.engine.contract import CARRIED, Answer, Gradients, Rules, Trace
from rnnlab.engine.cuda.plan import Plan, memory
from rnnlab.naming import digest
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch, Chunk

LARGEST = 128  # units, inputs or outputs: W_rec and what is multiplied by it fill a multiprocessor's shared memory
PRECISION = "ieee"  # of products: plain float32; "tf32x3" is three passes of the tensor cores
ADAM = "beta1", "beta2", "eps", "decay"  # which the kernels read in float64
REGISTERS: int | None = None  # a thread's at most; fewer let more members share a multiprocessor


def holds(rules: Rules, sizes: Sizes) -> bool:
    """Whether the kernels take such rules, and networks of these sizes."""
    return max(sizes.inputs, sizes.units, sizes.outputs) <= LARGEST


def missing(units: int) -> str | None:
    """What this machine lacks to run the kernels, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return None if _interpreted() or torch.cuda.is_available() else "PyTorch reaches no GPU"


def _interpreted() -> bool:
    """Whether Triton runs kernels in Python, on the CPU: slow, and how they are tested without a GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def describe(units: int) -> str:
    """Name for records: GPU, precision, Triton and kernel."""
    import triton

    target = "interpreted" if _interpreted() else "sm_{}{}".format(*torch.cuda.get_device_capability())
    return f"cuda {target} {PRECISION} triton {triton.__version__} {kernel_hash()}"


def kernel_hash() -> str:
    """Name of the kernels' source."""
    return digest("\0".join(path.read_text(encoding="utf8") for path in sorted(Path(__file__).parent.glob("*.py"))))


@contract.gradients
def gradients(parameters: Parameters, batch: Batch, rules: Rules) -> Gradients:
    """Gradients of every member in float32, as `batched.gradients`.

    Raises:
        ValueError: a shape, dtype or device does not fit, or the kernel does not know what is asked; see
            `engine.known`.
    """
    begins = None if rules.begins is None else rules.begins[None]
    chunk = Chunk(batch.inputs[None], batch.targets[None], batch.lengths[None], begins)
    work, N = _train(parameters, chunk, rules), parameters.sizes.units
    states, delta = work["states"][..., :N], work["delta"][..., :N]
    for m, L in enumerate(batch.lengths.reshape(len(states), -1).amax(dim=1).tolist()):
        states[m, L + 1 :] = states[m, L]
        delta[m, L + 1 :] = 0
    return Gradients(work["gradient"], states, delta, work["losses"][0], work["omegas"][0], work["outputs"])


@contract.sgd
def sgd(parameters: Parameters, chunk: Chunk, rules: Rules, state: State) -> Trace:
    """K whole updates of every member, in place, as `batched.sgd`; a member's numbers depend on no other member.

    Raises:
        ValueError: a shape, dtype or device does not fit, or the kernel does not know what is asked; see
            `engine.known`.
    """
    work = _train(parameters, chunk, rules, state)
    return Trace(work["losses"], work["norms"], work["omegas"], work["events"])


@contract.outputs
def outputs(parameters: Parameters, batch: Batch, rules: Rules) -> Answer:
    """What the networks answer, `M S B O`, and the states they end in, `M B N`, as `batched.outputs`.

    With a loss at every step, what lies beyond a sequence's own length is 0.

    Raises:
        ValueError: a shape, dtype or device does not fit, or the kernel does not know what is asked; targets are not
            looked at.
    """
    from rnnlab.engine.cuda import kernels

    plan = _plan(parameters, batch.inputs, rules, keep=True)
    theta, (M, T, B) = parameters.theta, batch.inputs.shape[:3]
    weights = theta.new_empty(M, plan.NP + plan.I, plan.NP)
    states = theta.new_empty(M, T + 1, B, plan.NP)
    y = theta.new_zeros(M, T if plan.every else 1, B, plan.O)
    inputs, (longest, *each) = _plain(batch.inputs), _sequences(batch.lengths[None], rules.begins, theta.device)
    _launch(kernels.prepare, (M,), theta, inputs, longest, weights, states, T, plan=plan)
    given = inputs, longest, *each, known.start(rules), weights, states, y, T
    _launch(kernels.respond, (M, -(-B // plan.ROWS)), theta, *given, plan=plan)
    return y, states[torch.arange(M, dtype=torch.int64, device=theta.device), longest[0].long(), :, : plan.N]


def _plan(parameters: Parameters, inputs: Tensor, rules: Rules, *, keep: bool = False) -> Plan:
    """What the kernels are compiled for; or a refusal of what they do not know."""
    sizes, symbols = parameters.sizes, not inputs.is_floating_point()
    T, B = inputs.shape[-2:] if symbols else inputs.shape[-3:-1]
    place = "the CPU, where Triton interprets" if _interpreted() else "a GPU"
    known.require(parameters, rules, place=place, there=parameters.theta.is_cuda != _interpreted())
    if not holds(rules, sizes):
        raise ValueError(f"sizes must be at most {LARGEST} here, got {sizes}; the batched engine takes larger ones")
    parts = {kind: part for kind, part in rules.parts.items() if kind != "cell"}
    told: dict[str, Any] = {kind: type(part).__name__ for kind, part in parts.items()} | sizes.starts
    told |= {"N": sizes.units, "I": sizes.inputs, "O": sizes.outputs, "P": sizes.P, "B": B, "symbols": symbols}
    told |= {"every": rules.loss.every_step, "noise": rules.algorithm.noise > 0}
    told["signal"] = rules.signal_threshold is not None
    plan = Plan(**told, keep=keep, precision=PRECISION)
    largest = 2**31 // (B * max(plan.NP, plan.IP, plan.OP)) - 2  # addresses within a member have 32 bits
    if largest < T:
        raise ValueError(f"inputs must have at most {largest} steps here, got {T}; the batched engine takes more")
    return plan


def _plain(x: Tensor) -> Tensor:
    """Numbers as the kernel reads them: contiguous, symbols and classes as bytes, others in float32."""
    return x.to(torch.float32 if x.is_floating_point() else torch.uint8).contiguous()


def _sequences(
    lengths: Tensor, begins: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Of `K M`: a member's longest; each sequence's length, where it has its own; which begin, where that is told."""
    each = lengths.to(device, torch.int32).contiguous()
    longest = each.reshape(*each.shape[:2], -1).amax(dim=2)
    return longest, each if each.ndim == 3 else None, None if begins is None else _plain(begins.to(device))


def _launch(kernel: Any, grid: tuple[int, ...], theta: Tensor, *arguments: object, plan: Plan) -> None:
    with torch.cuda.device_of(theta):
        kernel[grid](theta, *arguments, plan, num_warps=plan.warps, num_stages=1, maxnreg=REGISTERS)


def _train(parameters: Parameters, chunk: Chunk, rules: Rules, state: State | None = None) -> dict[str, Tensor]:
    """Launch the kernel for a chunk that has been checked; what it leaves behind. Without a state gradients alone."""
    from rnnlab.engine.cuda import kernels

    theta, (K, M, T, B), start = parameters.theta, chunk.inputs.shape[:4], known.start(rules)
    plan = _plan(parameters, chunk.inputs, rules, keep=state is None)
    if state is not None:
        _check(state, parameters, chunk, rules)
        start = state.get(CARRIED) if chunk.begins is not None else None
    work = memory(plan, theta, K=K, T=T)
    pairs = torch.full((K, M), B, dtype=torch.int64, device="cpu")
    if plan.every and getattr(rules.loss, "over_steps", "mean") == "mean":
        pairs = chunk.lengths.reshape(K, M, -1).expand(K, M, B).sum(dim=2)
    alphas = torch.tensor(rules.alphas, dtype=torch.float32, device=theta.device)
    sequences = _plain(chunk.inputs), _plain(chunk.targets), *_sequences(chunk.lengths, chunk.begins, theta.device)
    given = *sequences, start, pairs.to(theta.device, torch.int32), alphas, *_method(parameters, rules, state or {})
    numbers = [x for name, x in known.settings(rules).items() if name not in ADAM]
    _launch(kernels.train, (M,), theta, *given, *work.values(), K, M, T, *numbers, plan=plan)
    return work


def _method(parameters: Parameters, rules: Rules, state: State) -> tuple[Tensor | None, ...]:
    """What stays as it is; Adam's moments, steps and numbers; what noise is drawn by. None where not asked for."""
    algorithm, device = rules.algorithm, parameters.theta.device
    still = adam = seeds = updates = None
    if algorithm.frozen:
        frozen = Parameters.zeros(parameters.sizes, 1, device=device)
        for name in algorithm.frozen:
            frozen.views[name].fill_(1)
        still = frozen.theta
    if isinstance(algorithm, AdamW):
        adam = torch.tensor([getattr(algorithm, name) for name in ADAM], dtype=torch.float64, device=device)
    if algorithm.noise and rules.seeds is not None:
        first, count = rules.first_update, len(rules.alphas)
        updates = torch.arange(first, first + count, dtype=torch.int64, device=device)
        seeds = rules.seeds.to(device).contiguous()
    return still, *map(state.get, ("first_moment", "second_moment", "steps")), adam, seeds, updates


def _check(state: State, parameters: Parameters, chunk: Chunk, rules: Rules) -> None:
    """Refuse a state that the kernel could not go on from.

    Raises:
        ValueError: names what came and what is allowed.
    """
    wanted = rules.algorithm.state(parameters)
    if chunk.begins is not None:
        wanted[CARRIED] = parameters.theta.new_empty(*chunk.begins.shape[1:], parameters.sizes.units)
    for name, like in wanted.items():
        x, kind = state[name], (like.shape, like.dtype, like.device)
        if (x.shape, x.dtype, x.device) != kind or not x.is_contiguous():
            raise ValueError(f"state[{name!r}] must be contiguous, {kind}, got {(x.shape, x.dtype, x.device)}")

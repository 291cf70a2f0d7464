"""Fused training on a GPU: whole updates of one member per thread block, by kernels compiled on first use."""

import contextlib
import hashlib
import importlib.util
import os
from pathlib import Path

import torch
from torch import Tensor

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import Clip, Elementwise, NoClip, Norm, Shrink, Skip
from rnnlab.descent.omega import Code, Eq9, Eq10AsPrinted, Omega
from rnnlab.engine.contract import Gradients, Trace, check, check_algorithm
from rnnlab.engine.cuda.plan import Plan, Work
from rnnlab.network.cells import Linear, Sigma, Sigmoid, Tanh
from rnnlab.network.losses import EverySoftmax, LastSoftmax, LastSquaredError, Loss
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch, Chunk

LARGEST = 128  # units, inputs or outputs: W_rec and what is multiplied by it fill a multiprocessor's shared memory
PRECISION = "ieee"  # of products: plain float32; "tf32x3" is three passes of the tensor cores
REGISTERS: int | None = None  # a thread's at most; fewer let more members share a multiprocessor

_SIGMAS = (Tanh, Sigmoid, Linear)
_LOSSES = (LastSoftmax, EverySoftmax, LastSquaredError)
_OMEGAS = (type(None), Code, Eq9, Eq10AsPrinted)
_CLIPS = (NoClip, Norm, Elementwise)
_GUARDS = (type(None), Shrink, Skip)


def fits(
    *,
    sigma: Sigma,
    loss: Loss,
    omega: Omega | None,
    clip: Clip,
    dtype: torch.dtype = torch.float32,
    sizes: Sizes | None = None,
) -> bool:
    """Whether the kernels know all of these; what they do not know, `batched` does."""
    known = type(sigma) in _SIGMAS and type(loss) in _LOSSES and type(omega) in _OMEGAS and type(clip) in _CLIPS
    small = sizes is None or max(sizes.inputs, sizes.units, sizes.outputs) <= LARGEST
    return known and type(clip.guard) in _GUARDS and dtype == torch.float32 and small


def missing() -> str | None:
    """What this machine lacks to run the kernels, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if _interpreted() or torch.cuda.is_available():
        return None
    return "PyTorch reaches no GPU"


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
    sources = (Path(__file__).with_name(name).read_text() for name in ("fused.py", "kernels.py", "plan.py"))
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()[:16]


def gradients(
    parameters: Parameters,
    batch: Batch,
    *,
    sigma: Sigma,
    loss: Loss,
    omega: Omega | None = None,
    alpha: float = 0.0,
    signal_threshold: float | None = None,
    h_0: Tensor | None = None,
) -> Gradients:
    """Gradients of every member in float32, as `batched.gradients`.

    Raises:
        ValueError: a shape, dtype or device does not fit, or the kernel does not know what is asked; see `fits`.
    """
    check(parameters, batch, loss=loss, h_0=h_0)
    algorithm = Algorithm(omega=omega)
    _refuse(parameters, sigma=sigma, loss=loss, algorithm=algorithm, signal_threshold=signal_threshold)
    check_algorithm(algorithm, [alpha], dtype=torch.float32)
    chunk = Chunk(batch.inputs[None], batch.targets[None], batch.lengths[None])
    work = _train(parameters, chunk, sigma=sigma, loss=loss, algorithm=algorithm, alphas=[alpha], keep=True, h_0=h_0)
    N = parameters.sizes.units
    for m, L in enumerate(batch.lengths.tolist()):
        work.states[m, L + 1 :] = work.states[m, L]
        work.delta[m, L + 1 :] = 0
    states, delta = work.states[..., :N], work.delta[..., :N]
    return Gradients(work.gradient, states, delta, work.losses[0], work.omegas[0], work.outputs)


def sgd(
    parameters: Parameters,
    chunk: Chunk,
    *,
    sigma: Sigma,
    loss: Loss,
    algorithm: Algorithm,
    first_update: int = 0,
) -> Trace:
    """K whole updates of every member, in place, as `batched.sgd`; a member's numbers depend on no other member.

    Raises:
        ValueError: a shape, dtype or device does not fit, or the kernel does not know what is asked; see `fits`.
    """
    check(parameters, chunk, loss=loss)
    _refuse(parameters, sigma=sigma, loss=loss, algorithm=algorithm, signal_threshold=algorithm.clip.signal_threshold)
    alphas = [algorithm.alpha(first_update + k) for k in range(len(chunk))]
    check_algorithm(algorithm, alphas, dtype=torch.float32)
    work = _train(parameters, chunk, sigma=sigma, loss=loss, algorithm=algorithm, alphas=alphas)
    return Trace(loss=work.losses, norm=work.norms, omega=work.omegas, events=work.events)


def outputs(
    parameters: Parameters, batch: Batch, *, sigma: Sigma, loss: Loss, h_0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What the networks answer, `M S B O`, and the states they end in, `M B N`, as `batched.outputs`.

    With a loss at every step, what lies beyond a member's own length is 0.

    Raises:
        ValueError: a shape, dtype or device does not fit, or the kernel does not know what is asked; targets are not
            looked at.
    """
    from rnnlab.engine.cuda import kernels

    check(parameters, batch, loss=None, h_0=h_0)
    _refuse(parameters, sigma=sigma, loss=loss, algorithm=Algorithm())
    theta, (M, T, B) = parameters.theta, batch.inputs.shape[:3]
    plan = _plan(parameters.sizes, B, batch.inputs, sigma=sigma, loss=loss, algorithm=Algorithm())
    _refuse_size(plan, T)
    weights = theta.new_empty(M, plan.NP + plan.I, plan.NP)
    states = theta.new_empty(M, T + 1, B, plan.NP)
    y = theta.new_zeros(M, T if plan.every else 1, B, plan.O)
    start = None if h_0 is None else h_0.to(torch.float32).contiguous()
    given = theta, _plain(batch.inputs), batch.lengths.to(theta.device, torch.int32)
    _launch(kernels.prepare, (M,), *given, weights, states, T, plan=plan)
    _launch(kernels.respond, (M, -(-B // plan.ROWS)), *given, start, weights, states, y, T, plan=plan)
    return y, states[torch.arange(M, dtype=torch.int64, device=theta.device), given[2].long(), :, : plan.N]


def _plan(
    sizes: Sizes, B: int, inputs: Tensor, *, sigma: Sigma, loss: Loss, algorithm: Algorithm, keep: bool = False
) -> Plan:
    clip = algorithm.clip
    parts = {"sigma": sigma, "loss": loss, "omega": algorithm.omega, "clip": clip, "guard": clip.guard}
    return Plan(
        N=sizes.units,
        I=sizes.inputs,
        O=sizes.outputs,
        B=B,
        symbols=not inputs.is_floating_point(),
        keep=keep,
        precision=PRECISION,
        **{name: type(part).__name__ for name, part in parts.items()},
    )


def _refuse_size(plan: Plan, T: int) -> None:
    largest = 2**31 // (plan.B * max(plan.NP, plan.IP, plan.OP)) - 2  # addresses within a member have 32 bits
    if largest < T:
        raise ValueError(f"inputs must have at most {largest} steps here, got {T}; the batched engine takes more")


def _plain(x: Tensor) -> Tensor:
    """Numbers as the kernel reads them: contiguous, symbols and classes as bytes, others in float32."""
    return x.to(torch.float32 if x.is_floating_point() else torch.uint8).contiguous()


def _launch(kernel: object, grid: tuple[int, ...], *arguments: object, plan: Plan) -> None:
    theta = arguments[0]
    assert isinstance(theta, Tensor)
    with torch.cuda.device(theta.device) if theta.is_cuda else contextlib.nullcontext():
        kernel[grid](*arguments, plan, num_warps=plan.warps, num_stages=1, maxnreg=REGISTERS)  # type: ignore[index]


def _train(
    parameters: Parameters,
    chunk: Chunk,
    *,
    sigma: Sigma,
    loss: Loss,
    algorithm: Algorithm,
    alphas: list[float],
    keep: bool = False,
    h_0: Tensor | None = None,
) -> Work:
    """Launch the kernel for a chunk that has been checked; what it leaves behind."""
    from rnnlab.engine.cuda import kernels

    theta = parameters.theta
    (K, M), T, B = chunk.lengths.shape, chunk.inputs.shape[2], chunk.inputs.shape[3]
    plan = _plan(parameters.sizes, B, chunk.inputs, sigma=sigma, loss=loss, algorithm=algorithm, keep=keep)
    _refuse_size(plan, T)
    work = Work.of(plan, K=K, M=M, T=T, device=theta.device)
    clip, guard = algorithm.clip, algorithm.clip.guard
    numbers = (
        algorithm.learning_rate,
        max(getattr(clip, "threshold", 0), 2.0**-149),  # of float32 the least positive number
        getattr(guard, "limit", 0),
        getattr(guard, "factor", 0),
        getattr(algorithm.omega, "bound", 0),
    )
    _launch(
        kernels.train,
        (M,),
        theta,
        _plain(chunk.inputs),
        _plain(chunk.targets),
        chunk.lengths.to(theta.device, torch.int32),
        torch.tensor(alphas, dtype=torch.float32, device=theta.device),
        None if h_0 is None else h_0.to(torch.float32).contiguous(),
        *vars(work).values(),
        *(K, M, T),
        *(float(x) for x in numbers),
        plan=plan,
    )
    return work


def _refuse(
    parameters: Parameters,
    *,
    sigma: Sigma,
    loss: Loss,
    algorithm: Algorithm,
    signal_threshold: float | None = None,
) -> None:
    theta, sizes = parameters.theta, parameters.sizes
    place = "the CPU, where Triton interprets" if _interpreted() else "a GPU"
    if theta.dtype != torch.float32 or theta.is_cuda == _interpreted() or not theta.is_contiguous():
        raise ValueError(f"theta must be contiguous, in float32, on {place}, got {theta.dtype} on {theta.device}")
    if signal_threshold is not None:
        raise ValueError("signal_threshold must be None here: the batched engine clips signals")
    if max(sizes.inputs, sizes.units, sizes.outputs) > LARGEST:
        raise ValueError(f"sizes must be at most {LARGEST} here, got {sizes}; the batched engine takes larger ones")
    if not fits(sigma=sigma, loss=loss, omega=algorithm.omega, clip=algorithm.clip):
        raise ValueError(
            f"sigma, loss and algorithm must be of the package's own parts, got {sigma!r}, {loss!r}, {algorithm!r}"
        )

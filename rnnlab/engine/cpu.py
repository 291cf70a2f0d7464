"""Fused training on the CPU: whole updates of one member per core, by a kernel compiled on first use."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from rnnlab.cells import Linear, Parameters, Sigma, Sigmoid, Sizes, Tanh
from rnnlab.clipping import Clip, Elementwise, NoClip, Norm, Shrink, Skip
from rnnlab.engine.contract import Algorithm, Gradients, Trace, check
from rnnlab.engine.kernel import Job, instruction_set, kernel_hash, library
from rnnlab.losses import EverySoftmax, LastSoftmax, LastSquaredError, Loss
from rnnlab.omega import Code, Eq9, Eq10AsPrinted, Omega
from rnnlab.sequences import Batch, Chunk

# Numbers of the kernel's enumerations.
_SIGMAS = {Tanh: 0, Sigmoid: 1, Linear: 2}
_LOSSES = {LastSoftmax: 0, EverySoftmax: 1, LastSquaredError: 2}
_OMEGAS = {type(None): 0, Code: 1, Eq9: 2, Eq10AsPrinted: 3}
_CLIPS = {NoClip: 0, Norm: 1, Elementwise: 2}
_GUARDS = {type(None): 0, Shrink: 1, Skip: 2}


def fits(*, sigma: Sigma, loss: Loss, omega: Omega | None, clip: Clip, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the kernel knows all of these; what it does not know, `batched` does."""
    known = type(sigma) in _SIGMAS and type(loss) in _LOSSES and type(omega) in _OMEGAS and type(clip) in _CLIPS
    return known and type(clip.guard) in _GUARDS and dtype == torch.float32


def _job(parameters: Parameters, batch: Batch, m: int, *, sigma: Sigma, loss: Loss, omega: Omega | None = None) -> Job:
    """What every call says of member m; its tensors must live until the call returns."""
    sizes, inputs = parameters.sizes, batch.inputs
    return Job(
        N=sizes.units,
        I=sizes.inputs,
        O=sizes.outputs,
        B=inputs.shape[2],
        T=inputs.shape[1],
        K=1,
        symbols=not inputs.is_floating_point(),
        sigma=_SIGMAS[type(sigma)],
        loss=_LOSSES[type(loss)],
        omega=_OMEGAS[type(omega)],
        bound=omega.bound if omega is not None else 0.0,
        theta=parameters.theta[m].data_ptr(),
        inputs=inputs[m].data_ptr(),
        lengths=batch.lengths[m].data_ptr(),
    )


def _plain(chunk: Chunk) -> Chunk:
    """The chunk as the kernel reads it: contiguous, symbols and classes as bytes, numbers in float32."""
    kinds = (torch.float32 if x.is_floating_point() else torch.uint8 for x in (chunk.inputs, chunk.targets))
    inputs, targets = (x.to(kind).contiguous() for x, kind in zip((chunk.inputs, chunk.targets), kinds, strict=True))
    return Chunk(inputs, targets, chunk.lengths.contiguous())


def _alone(batch: Batch) -> Batch:
    """`_plain` for one batch."""
    plain = _plain(Chunk(batch.inputs[None], batch.targets[None], batch.lengths[None]))
    return Batch(plain.inputs[0], plain.targets[0], plain.lengths[0])


def _for_each(members: int, kind: str, job_of: Callable[[int], Job], *, units: int) -> None:
    """Call the kernel once for every member, as many at a time as torch may use threads."""
    kernel = library(units)
    run, space_of = getattr(kernel, f"rnnlab_{kind}"), getattr(kernel, f"rnnlab_{kind}_space")

    def call(m: int) -> None:
        job = job_of(m)
        space = torch.empty(space_of(ctypes.byref(job)) + 16)
        job.space = -(-space.data_ptr() // 64) * 64
        run(ctypes.byref(job))

    if min(members, torch.get_num_threads()) == 1:
        for m in range(members):
            call(m)
        return
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(call, range(members)))


def workspace(sizes: Sizes, *, batch: int, length: int, loss: Loss) -> int:
    """Bytes of states, signals and padded weights that training takes for a member, beside its share of a chunk."""
    job = Job(N=sizes.units, I=sizes.inputs, O=sizes.outputs, B=batch, T=length, loss=_LOSSES[type(loss)])
    return 4 * int(library(sizes.units).rnnlab_train_space(ctypes.byref(job)))


def describe(units: int) -> str:
    """Name for records: instruction set, and the kernel for so many units."""
    return f"cpu {instruction_set()} {kernel_hash(units)}"


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
        ValueError: a shape or dtype does not fit, or the kernel does not know what is asked; see `fits`.
        NoCompilerError: the kernel cannot be compiled here.
    """
    check(parameters, batch, loss=loss, h_0=h_0)
    _refuse(parameters, sigma=sigma, loss=loss, omega=omega, signal_threshold=signal_threshold)
    batch = _alone(batch)
    M, T, B = batch.inputs.shape[:3]
    N, S = parameters.sizes.units, T if loss.every_step else 1
    theta = torch.empty_like(parameters.theta)
    states, delta = torch.zeros(M, T + 1, B, N), torch.zeros(M, T + 1, B, N)
    outputs_, traces = torch.zeros(M, S, B, parameters.sizes.outputs), torch.zeros(3, M)
    weight = torch.tensor([alpha])
    start = None if h_0 is None else h_0.to(torch.float32).contiguous()

    def job_of(m: int) -> Job:
        job = _job(parameters, batch, m, sigma=sigma, loss=loss, omega=omega)
        job.targets, job.alpha = batch.targets[m].data_ptr(), weight.data_ptr()
        job.gradient, job.states, job.delta = (x[m].data_ptr() for x in (theta, states, delta))
        job.outputs, job.h_0 = outputs_[m].data_ptr(), None if start is None else start[m].data_ptr()
        job.loss_out, job.norm_out, job.omega_out = (x[m].data_ptr() for x in traces)
        return job

    _for_each(M, "train", job_of, units=N)
    for m, L in enumerate(batch.lengths.tolist()):
        states[m, L + 1 :] = states[m, L]
    return Gradients(theta, states, delta, traces[0], traces[2], outputs_)


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
        ValueError: a shape or dtype does not fit, or the kernel does not know what is asked; see `fits`.
        NoCompilerError: the kernel cannot be compiled here.
    """
    check(parameters, chunk[0], loss=loss, h_0=None)
    clip, omega, guard = algorithm.clip, algorithm.omega, algorithm.clip.guard
    _refuse(parameters, sigma=sigma, loss=loss, omega=omega, signal_threshold=clip.signal_threshold)
    K, M = chunk.lengths.shape
    whole = _plain(chunk)
    first = Batch(whole.inputs[0], whole.targets[0], whole.lengths[0])
    alpha = torch.tensor([algorithm.alpha(first_update + k) for k in range(K)])
    events = torch.empty(K, M, dtype=torch.uint8)
    trace = Trace(loss=torch.empty(K, M), norm=torch.empty(K, M), omega=torch.empty(K, M), events=events)

    def job_of(m: int) -> Job:
        job = _job(parameters, first, m, sigma=sigma, loss=loss, omega=omega)
        job.K, job.clip, job.guard = K, _CLIPS[type(clip)], _GUARDS[type(guard)]
        job.rate, job.threshold = algorithm.learning_rate, getattr(clip, "threshold", 0.0)
        job.guard_limit, job.guard_factor = getattr(guard, "limit", 0.0), getattr(guard, "factor", 0.0)
        job.input_stride, job.target_stride = first.inputs.numel(), first.targets.numel()
        job.trace_stride = M
        job.targets, job.alpha = first.targets[m].data_ptr(), alpha.data_ptr()
        job.loss_out, job.norm_out = trace.loss[0, m].data_ptr(), trace.norm[0, m].data_ptr()
        job.omega_out, job.events = trace.omega[0, m].data_ptr(), trace.events[0, m].data_ptr()
        return job

    _for_each(M, "train", job_of, units=parameters.sizes.units)
    return trace


def outputs(
    parameters: Parameters, batch: Batch, *, sigma: Sigma, loss: Loss, h_0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What the networks answer, `M S B O`, and the states they end in, `M B N`, as `batched.outputs`.

    With a loss at every step, what lies beyond a member's own length is 0.
    """
    _refuse(parameters, sigma=sigma, loss=loss)
    batch = _alone(batch)
    M, T, B = batch.inputs.shape[:3]
    y = torch.zeros(M, T if loss.every_step else 1, B, parameters.sizes.outputs)
    h = torch.empty(M, B, parameters.sizes.units)
    start = None if h_0 is None else h_0.contiguous()

    def job_of(m: int) -> Job:
        job = _job(parameters, batch, m, sigma=sigma, loss=loss)
        job.outputs, job.states = y[m].data_ptr(), h[m].data_ptr()
        job.h_0 = None if start is None else start[m].data_ptr()
        return job

    _for_each(M, "respond", job_of, units=parameters.sizes.units)
    return y, h


def _refuse(
    parameters: Parameters,
    *,
    sigma: Sigma,
    loss: Loss,
    omega: Omega | None = None,
    signal_threshold: float | None = None,
) -> None:
    if parameters.theta.dtype != torch.float32 or parameters.theta.is_cuda or not parameters.theta.is_contiguous():
        raise ValueError(f"theta must be contiguous, in float32, on the CPU, got {parameters.theta.dtype}")
    if signal_threshold is not None:
        raise ValueError("signal_threshold must be None here: the batched engine clips signals")
    if not fits(sigma=sigma, loss=loss, omega=omega, clip=NoClip()):
        raise ValueError(f"sigma, loss and omega must be the package's own, got {sigma!r}, {loss!r}, {omega!r}")

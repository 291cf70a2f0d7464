"""Fused training on the CPU: whole updates of one member per core, by a kernel compiled on first use."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import Clip, Elementwise, NoClip, Norm, Shrink, Skip
from rnnlab.descent.omega import Code, Eq9, Eq10AsPrinted, Omega
from rnnlab.engine.contract import Gradients, Trace, check, check_algorithm
from rnnlab.engine.cpu.kernel import Job, instruction_set, kernel_hash, library
from rnnlab.network.cells import Linear, Sigma, Sigmoid, Tanh
from rnnlab.network.losses import EverySoftmax, LastSoftmax, LastSquaredError, Loss
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch, Chunk

# Numbers of the kernel's enumerations.
_SIGMAS = {Tanh: 0, Sigmoid: 1, Linear: 2}
_LOSSES = {LastSoftmax: 0, EverySoftmax: 1, LastSquaredError: 2}
_OMEGAS = {type(None): 0, Code: 1, Eq9: 2, Eq10AsPrinted: 3}
_CLIPS = {NoClip: 0, Norm: 1, Elementwise: 2}
_GUARDS = {type(None): 0, Shrink: 1, Skip: 2}
_LEAST = 2.0**-149  # of float32: what is positive stays so


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
        symbols=0 if inputs.is_floating_point() else inputs.element_size(),
        classes=0 if loss.real_targets else batch.targets.element_size(),
        sigma=_SIGMAS[type(sigma)],
        loss=_LOSSES[type(loss)],
        omega=_OMEGAS[type(omega)],
        bound=omega.bound if omega is not None else 0.0,
        theta=parameters.theta[m].data_ptr(),
        inputs=inputs[m].data_ptr(),
        lengths=batch.lengths[m].data_ptr(),
    )


def _plain(x: Tensor, kinds: int) -> Tensor:
    """Numbers as the kernel reads them: contiguous, in float32; symbols or classes in one byte, or two for many."""
    kind = torch.float32 if x.is_floating_point() else torch.uint8 if kinds <= 256 else torch.int16
    return x.to(kind).contiguous()


def _alone(parameters: Parameters, batch: Batch) -> Batch:
    """The batch as the kernel reads it."""
    inputs, targets = _plain(batch.inputs, parameters.sizes.inputs), _plain(batch.targets, parameters.sizes.outputs)
    return Batch(inputs, targets, batch.lengths.contiguous())


def _filled(*shape: int, value: float | None = 0.0) -> Tensor:
    """Memory for the kernel, whatever dtype and device are torch's default."""
    new = torch.empty(shape, dtype=torch.float32, device="cpu")
    return new if value is None else new.fill_(value)


def _for_each(members: int, kind: str, job_of: Callable[[int], Job], *, units: int) -> None:
    """Call the kernel once for every member, as many at a time as torch may use threads."""
    kernel = library(units)
    run, space_of = getattr(kernel, f"rnnlab_{kind}"), getattr(kernel, f"rnnlab_{kind}_space")

    def call(m: int) -> None:
        job = job_of(m)
        space = _filled(space_of(ctypes.byref(job)) + 16, value=None)
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
    check_algorithm(Algorithm(omega=omega), [alpha], dtype=torch.float32)
    batch = _alone(parameters, batch)
    M, T, B = batch.inputs.shape[:3]
    N, S = parameters.sizes.units, T if loss.every_step else 1
    theta = torch.empty_like(parameters.theta)
    states, delta = _filled(M, T + 1, B, N), _filled(M, T + 1, B, N)
    outputs_, traces, weight = _filled(M, S, B, parameters.sizes.outputs), _filled(3, M), _filled(1, value=alpha)
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
    check(parameters, chunk, loss=loss)
    clip, omega, guard = algorithm.clip, algorithm.omega, algorithm.clip.guard
    _refuse(parameters, sigma=sigma, loss=loss, omega=omega, signal_threshold=clip.signal_threshold)
    K, M = chunk.lengths.shape
    alphas = [algorithm.alpha(first_update + k) for k in range(K)]
    check_algorithm(algorithm, alphas, dtype=torch.float32)
    alpha = torch.tensor(alphas, dtype=torch.float32, device="cpu")
    inputs, targets = _plain(chunk.inputs, parameters.sizes.inputs), _plain(chunk.targets, parameters.sizes.outputs)
    lengths = chunk.lengths.contiguous()
    first = Batch(inputs[0], targets[0], lengths[0])
    loss_, norm, omega_ = _filled(3, K, M)
    trace = Trace(loss_, norm, omega_, events=torch.empty(K, M, dtype=torch.uint8, device="cpu"))

    def job_of(m: int) -> Job:
        job = _job(parameters, first, m, sigma=sigma, loss=loss, omega=omega)
        job.K, job.clip, job.guard = K, _CLIPS[type(clip)], _GUARDS[type(guard)]
        job.rate, job.threshold = algorithm.learning_rate, max(getattr(clip, "threshold", 0.0), _LEAST)
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

    Raises:
        ValueError: a shape or dtype does not fit, or the kernel does not know what is asked; targets are not looked at.
        NoCompilerError: the kernel cannot be compiled here.
    """
    check(parameters, batch, loss=None, h_0=h_0)
    _refuse(parameters, sigma=sigma, loss=loss)
    inputs = _plain(batch.inputs, parameters.sizes.inputs)
    batch = Batch(inputs, batch.targets, batch.lengths.contiguous())
    M, T, B = batch.inputs.shape[:3]
    y, h = _filled(M, T if loss.every_step else 1, B, parameters.sizes.outputs), _filled(M, B, parameters.sizes.units)
    start = None if h_0 is None else h_0.to(torch.float32).contiguous()

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
    theta = parameters.theta
    if theta.dtype != torch.float32 or theta.device.type != "cpu" or not theta.is_contiguous():
        raise ValueError(f"theta must be contiguous, in float32, on the CPU, got {theta.dtype} on {theta.device}")
    if signal_threshold is not None:
        raise ValueError("signal_threshold must be None here: the batched engine clips signals")
    if not fits(sigma=sigma, loss=loss, omega=omega, clip=NoClip()):
        raise ValueError(f"sigma, loss and omega must be the package's own, got {sigma!r}, {loss!r}, {omega!r}")

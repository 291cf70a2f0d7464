"""Fused training on the CPU: whole updates of one member per core, by a kernel compiled on first use."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rnnlab.engine import contract, known
from rnnlab.engine.contract import Gradients, Rules, Trace
from rnnlab.engine.cpu.kernel import Job, instruction_set, kernel_hash, library
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch, Chunk


def _job(parameters: Parameters, batch: Batch, m: int, rules: Rules, told: dict[str, Any]) -> Job:
    """What every call says of member m; its tensors must live until the call returns."""
    sizes, inputs, job = parameters.sizes, batch.inputs, Job(K=1, **told)
    job.N, job.I, job.O = sizes.units, sizes.inputs, sizes.outputs
    job.T, job.B = inputs.shape[1:3]
    job.symbols = 0 if inputs.is_floating_point() else inputs.element_size()
    job.classes = 0 if rules.loss.real_targets else batch.targets.element_size()
    job.theta, job.inputs, job.lengths = (x[m].data_ptr() for x in (parameters.theta, inputs, batch.lengths))
    job.h_0 = None if rules.h_0 is None else rules.h_0[m].data_ptr()
    return job


def _numbers(x: Tensor, kinds: int) -> Tensor:
    """Numbers as the kernel reads them: contiguous, in float32; symbols or classes in one byte, or two for many."""
    kind = torch.float32 if x.is_floating_point() else torch.uint8 if kinds <= 256 else torch.int16
    return x.to(kind).contiguous()


def _plain(parameters: Parameters, held: Batch | Chunk) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and lengths as the kernel reads them."""
    sizes = parameters.sizes
    return _numbers(held.inputs, sizes.inputs), _numbers(held.targets, sizes.outputs), held.lengths.contiguous()


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
    job = Job(
        N=sizes.units, I=sizes.inputs, O=sizes.outputs, B=batch, T=length, loss=known.KNOWN["loss"].index(type(loss))
    )
    return 4 * int(library(sizes.units).rnnlab_train_space(ctypes.byref(job)))


def describe(units: int) -> str:
    """Name for records: instruction set, and the kernel for so many units."""
    return f"cpu {instruction_set()} {kernel_hash(units)}"


@contract.gradients
def gradients(parameters: Parameters, batch: Batch, rules: Rules) -> Gradients:
    """Gradients of every member in float32, as `batched.gradients`.

    Raises:
        ValueError: a shape or dtype does not fit, or the kernel does not know what is asked; see `engine.known`.
        NoCompilerError: the kernel cannot be compiled here.
    """
    rules, told = _read(parameters, rules)
    batch = Batch(*_plain(parameters, batch))
    M, T, B = batch.inputs.shape[:3]
    N, S = parameters.sizes.units, T if rules.loss.every_step else 1
    theta = torch.empty_like(parameters.theta)
    states, delta = _filled(M, T + 1, B, N), _filled(M, T + 1, B, N)
    outputs_, traces = _filled(M, S, B, parameters.sizes.outputs), _filled(3, M)
    weight = _filled(1, value=rules.alphas[0])

    def job_of(m: int) -> Job:
        job = _job(parameters, batch, m, rules, told)
        job.targets, job.alpha = batch.targets[m].data_ptr(), weight.data_ptr()
        job.gradient, job.states, job.delta = (x[m].data_ptr() for x in (theta, states, delta))
        job.loss_out, job.norm_out, job.omega_out = (x[m].data_ptr() for x in traces)
        job.outputs = outputs_[m].data_ptr()
        return job

    _for_each(M, "train", job_of, units=N)
    for m, L in enumerate(batch.lengths.tolist()):
        states[m, L + 1 :] = states[m, L]
    return Gradients(theta, states, delta, traces[0], traces[2], outputs_)


@contract.sgd
def sgd(parameters: Parameters, chunk: Chunk, rules: Rules) -> Trace:
    """K whole updates of every member, in place, as `batched.sgd`; a member's numbers depend on no other member.

    Raises:
        ValueError: a shape or dtype does not fit, or the kernel does not know what is asked; see `engine.known`.
        NoCompilerError: the kernel cannot be compiled here.
    """
    rules, told = _read(parameters, rules)
    K, M = chunk.lengths.shape
    alpha = torch.tensor(rules.alphas, dtype=torch.float32, device="cpu")
    chunk = Chunk(*_plain(parameters, chunk))
    first = Batch(chunk.inputs[0], chunk.targets[0], chunk.lengths[0])
    loss, norm, omega = _filled(3, K, M)
    trace = Trace(loss, norm, omega, events=torch.empty(K, M, dtype=torch.uint8, device="cpu"))

    def job_of(m: int) -> Job:
        job = _job(parameters, first, m, rules, told)
        job.K, job.trace_stride = K, M
        job.input_stride, job.target_stride = first.inputs.numel(), first.targets.numel()
        job.targets, job.alpha = first.targets[m].data_ptr(), alpha.data_ptr()
        job.loss_out, job.norm_out = trace.loss[0, m].data_ptr(), trace.norm[0, m].data_ptr()
        job.omega_out, job.events = trace.omega[0, m].data_ptr(), trace.events[0, m].data_ptr()
        return job

    _for_each(M, "train", job_of, units=parameters.sizes.units)
    return trace


@contract.outputs
def outputs(parameters: Parameters, batch: Batch, rules: Rules) -> tuple[Tensor, Tensor]:
    """What the networks answer, `M S B O`, and the states they end in, `M B N`, as `batched.outputs`.

    With a loss at every step, what lies beyond a member's own length is 0.

    Raises:
        ValueError: a shape or dtype does not fit, or the kernel does not know what is asked; targets are not looked at.
        NoCompilerError: the kernel cannot be compiled here.
    """
    rules, told = _read(parameters, rules)
    batch = Batch(_numbers(batch.inputs, parameters.sizes.inputs), batch.targets, batch.lengths.contiguous())
    M, T, B = batch.inputs.shape[:3]
    S, sizes = T if rules.loss.every_step else 1, parameters.sizes
    y, h = _filled(M, S, B, sizes.outputs), _filled(M, B, sizes.units)

    def job_of(m: int) -> Job:
        job = _job(parameters, batch, m, rules, told)
        job.outputs, job.states = y[m].data_ptr(), h[m].data_ptr()
        return job

    _for_each(M, "respond", job_of, units=sizes.units)
    return y, h


def _read(parameters: Parameters, rules: Rules) -> tuple[Rules, dict[str, Any]]:
    """The rules, and what of them the kernel is told, as it reads them; or a refusal of what it does not know."""
    known.require(parameters, rules, place="the CPU", there=parameters.theta.device.type == "cpu")
    start = None if rules.h_0 is None else rules.h_0.to(torch.float32).contiguous()
    return replace(rules, h_0=start), known.numbers(rules) | known.settings(rules)

"""Fused training on the CPU: whole updates of one member per core, by a kernel compiled on first use."""

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from rnnlab.descent.algorithm import AdamW
from rnnlab.descent.clipping import State
from rnnlab.engine import contract, known
from rnnlab.engine.contract import CARRIED, Answer, Gradients, Rules, Trace, alive
from rnnlab.engine.cpu.kernel import Job, NoCompilerError, instruction_set, kernel_hash, library
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk


def _numbers(x: Tensor, kinds: int) -> Tensor:
    """Numbers as the kernel reads them: contiguous, in float32; symbols or classes in one byte, or two for many."""
    kind = torch.float32 if x.is_floating_point() else torch.uint8 if kinds <= 256 else torch.int16
    return x.to(kind).contiguous()


def _zeros(*shape: int) -> Tensor:
    """Memory for the kernel, whatever dtype and device are torch's default."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def _bytes(begins: Tensor | None) -> Tensor | None:
    return None if begins is None else begins.to(torch.uint8).contiguous()


def _run(
    kind: str, parameters: Parameters, batch: Batch, rules: Rules, strides: dict[str, int], **members: Tensor | None
) -> None:
    """Call the kernel once for every member, as many at a time as torch may use threads.

    Args:
        kind: "train" or "respond".
        parameters: of M networks.
        batch: of the first update, as the kernel reads it.
        rules: what to compute by.
        strides: number of updates, and of items from one to the next, by the names that `Job` has for them.
        members: what else the kernel reads or writes, by these names; a member's begins at its place in the first axis.
    """
    known.require(parameters, rules, place="the CPU", there=parameters.theta.device.type == "cpu")
    sizes, inputs, (T, B) = parameters.sizes, batch.inputs, batch.inputs.shape[1:3]
    kernel, told = library(sizes.units), known.numbers(rules) | known.settings(rules) | strides
    told["frozen"] = sum(1 << p for p, name in enumerate(parameters.views) if name in rules.algorithm.frozen)
    told["first_update"] = rules.first_update
    told |= {"N": sizes.units, "I": sizes.inputs, "O": sizes.outputs, "T": T, "B": B}
    told["symbols"] = 0 if inputs.is_floating_point() else inputs.element_size()
    told["classes"] = 0 if rules.loss.real_targets else batch.targets.element_size()
    told |= {"every_step": rules.loss.every_step, "over_steps": getattr(rules.loss, "over_steps", "") == "sum"}
    told["each_length"] = batch.lengths.ndim == 2
    members |= {"theta": parameters.theta, "inputs": inputs, "lengths": batch.lengths, "h_0": known.start(rules)}
    run, space_of = getattr(kernel, f"rnnlab_{kind}"), getattr(kernel, f"rnnlab_{kind}_space")
    held = threading.local()  # a thread's members take turns in one workspace: fresh pages cost a twentieth of the time

    def call(m: int) -> None:
        job = Job(**told, **{name: x[m].data_ptr() for name, x in members.items() if x is not None})
        if not hasattr(held, "space"):
            held.space = torch.empty(space_of(ctypes.byref(job)) + 16, dtype=torch.float32, device="cpu")
        job.space = -(-held.space.data_ptr() // 64) * 64
        run(ctypes.byref(job))

    if min(parameters.members, torch.get_num_threads()) == 1:
        for m in range(parameters.members):
            call(m)
        return
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(call, range(parameters.members)))


def missing(units: int) -> str | None:
    """What this machine lacks for a kernel for so many units, or None; compiles it."""
    try:
        library(units)
    except (NoCompilerError, OSError) as reason:
        return str(reason)
    return None


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
    chunk = Chunk(**{name: x[None] for name, x in batch.parts.items()})
    chunk = replace(chunk, begins=None if rules.begins is None else rules.begins[None])
    (M, T, B), sizes = batch.inputs.shape[:3], parameters.sizes
    theta, states, delta = torch.empty_like(parameters.theta), *_zeros(2, M, T + 1, B, sizes.units)
    y = _zeros(M, T if rules.loss.every_step else 1, B, sizes.outputs)
    trace = _train(parameters, chunk, rules, gradient=theta, states=states, delta=delta, outputs=y)
    for m, L in enumerate(batch.lengths.reshape(M, -1).amax(dim=1).tolist()):
        states[m, L + 1 :] = states[m, L]
    if rules.loss.every_step:
        y.masked_fill_(~alive(batch.lengths, T)[..., None], 0.0)
    return Gradients(theta, states, delta, trace.loss[0], trace.omega[0], y)


@contract.sgd
def sgd(parameters: Parameters, chunk: Chunk, rules: Rules, state: State) -> Trace:
    """K whole updates of every member, in place, as `batched.sgd`; a member's numbers depend on no other member.

    Where the kernel does not know what to do with a gradient, only the gradients are its own.

    Raises:
        ValueError: a shape or dtype does not fit, or the kernel does not know what is asked; see `engine.known`.
        NoCompilerError: the kernel cannot be compiled here.
    """
    if known.unknown(rules):
        return _swept(parameters, chunk, rules, state)
    M, sizes = parameters.members, parameters.sizes
    kept = {} if chunk.begins is None else {CARRIED: (*chunk.begins.shape[1:], sizes.units)}
    if isinstance(rules.algorithm, AdamW):
        kept |= {"first_moment": (M, sizes.P), "second_moment": (M, sizes.P), "steps": (M,)}
    kinds = {name: torch.int64 if name == "steps" else torch.float32 for name in kept}
    held = {name: state[name].to(kinds[name]).expand(shape).contiguous() for name, shape in kept.items()}
    h = held.get(CARRIED)
    moments = {name: x for name, x in held.items() if name != CARRIED}
    if rules.seeds is not None:
        moments["seed"] = rules.seeds.contiguous()
    trace = _train(parameters, chunk, replace(rules, h_0=h), ends=h, **moments)
    for name, x in held.items():
        state[name].copy_(x)
    return trace


@torch.no_grad()
def _swept(parameters: Parameters, chunk: Chunk, rules: Rules, state: State) -> Trace:
    """Updates whose gradients the kernel makes, and whose steps the algorithm."""
    (M, T, B), theta = chunk.inputs.shape[1:4], parameters.theta
    room = {"gradient": torch.empty_like(theta)}
    room |= dict(zip(("states", "delta"), _zeros(2, M, T + 1, B, parameters.sizes.units), strict=True))
    asked, traces, h = known.sweep(rules), [], None
    if chunk.begins is not None:
        h = room["ends"] = state[CARRIED].to(torch.float32).contiguous()
    if rules.seeds is not None:
        room["seed"] = rules.seeds.contiguous()
    for k in range(len(chunk)):
        one = Chunk(**{name: x[k : k + 1] for name, x in chunk.parts.items()})
        at = replace(asked, alphas=[rules.alphas[k]], h_0=h, first_update=rules.first_update + k)
        swept = _train(parameters, one, at, **room)
        norm, events = rules.algorithm.descend(parameters, room["gradient"], state)
        traces.append((swept.loss[0], norm, swept.omega[0], events))
    if h is not None:
        state[CARRIED].copy_(h)
    loss, norm, omega, happened = (torch.stack(parts) for parts in zip(*traces, strict=True))
    return Trace(loss, norm, omega, happened)


def _train(parameters: Parameters, chunk: Chunk, rules: Rules, **kept: Tensor | None) -> Trace:
    """Train by a chunk that has been checked; with memory for the gradient and what is on the way to it, only that."""
    (K, M, T), sizes, lengths = chunk.inputs.shape[:3], parameters.sizes, chunk.lengths.contiguous()
    inputs, targets = _numbers(chunk.inputs, sizes.inputs), _numbers(chunk.targets, sizes.outputs)
    if lengths.ndim == 3 and inputs.is_floating_point():  # padding is multiplied by 0, which it may be too large for
        within = alive(lengths.flatten(0, 1), T).unflatten(0, (K, M))
        inputs = inputs.where(within[..., None], 0.0)
    first, begins = Batch(inputs[0], targets[0], lengths[0]), _bytes(chunk.begins)
    alpha = torch.tensor(rules.alphas, dtype=torch.float32, device="cpu")
    loss, norm, omega = _zeros(3, K, M)
    events = torch.empty(K, M, dtype=torch.uint8, device="cpu")
    strides = {"K": K, "input_stride": first.inputs.numel(), "target_stride": first.targets.numel(), "trace_stride": M}
    strides |= {"length_stride": first.lengths.numel(), "begin_stride": 0 if begins is None else begins[0].numel()}
    kept |= {"begins": None if begins is None else begins[0]}
    kept |= {"loss_out": loss[0], "norm_out": norm[0], "omega_out": omega[0], "events": events[0]}
    _run("train", parameters, first, rules, strides, targets=targets[0], alpha=alpha.expand(M, K), **kept)
    return Trace(loss, norm, omega, events)


@contract.outputs
def outputs(parameters: Parameters, batch: Batch, rules: Rules) -> Answer:
    """What the networks answer, `M S B O`, and the states they end in, `M B N`, as `batched.outputs`.

    With a loss at every step, what lies beyond a sequence's own length is 0.

    Raises:
        ValueError: a shape or dtype does not fit, or the kernel does not know what is asked; targets are not looked at.
        NoCompilerError: the kernel cannot be compiled here.
    """
    (M, T, B), sizes = batch.inputs.shape[:3], parameters.sizes
    batch = Batch(_numbers(batch.inputs, sizes.inputs), batch.targets, batch.lengths.contiguous())
    y, h = _zeros(M, T if rules.loss.every_step else 1, B, sizes.outputs), _zeros(M, B, sizes.units)
    _run("respond", parameters, batch, rules, {"K": 1}, begins=_bytes(rules.begins), outputs=y, states=h)
    if rules.loss.every_step:
        y.masked_fill_(~alive(batch.lengths, T)[..., None], 0.0)
    return y, h

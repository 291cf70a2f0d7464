"""Time training on a GPU, by us and by honest peers: `make bench-gpu`, in under nine minutes.

Each measurement is written as soon as it stands, and one that stands is not made again: run it again to go on. Peers
train the same networks on the same batches and are first held to the same parameters. Batches are drawn beforehand.
`--dry` runs everything in Triton's interpreter at toy sizes, and measures nothing; `--offline FILE` writes what the
kernels compile to, which needs no GPU.
"""

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

import rnnlab
from rnnlab.engine import batched
from rnnlab.engine.cuda import fused as cuda
from tests.benchmarks.peers import Case, Problem, jax_update, pulled

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
TOLERANCE = 1e-4  # of parameters after eight updates, which are of size 1
TANH = rnnlab.Tanh()


def sgd(engine, problem: Problem, network: rnnlab.Parameters, chunk: rnnlab.Chunk) -> None:
    engine.sgd(network, chunk, sigma=TANH, loss=problem.task.loss, algorithm=problem.algorithm)


def nn_rnn(problem: Problem, network: rnnlab.Parameters, chunk: rnnlab.Chunk) -> None:
    """`nn.RNN`, cuDNN's on a GPU, one member after another; omega afterwards, from the gradient for its inputs.

    Its inputs are W_in u + b, its input weights the identity: so that gradient is v.
    """
    algorithm, N = problem.algorithm, problem.case.N
    rnn = nn.RNN(N, N, bias=False, device=network.theta.device)
    rnn.weight_ih_l0.data.copy_(torch.eye(N))
    rnn.weight_ih_l0.requires_grad_(False)
    for m in range(network.members):
        W_rec, W_in, b, W_out, b_out = (
            p[m] for p in (network.W_rec, network.W_in, network.b, network.W_out, network.b_out)
        )
        for k in range(len(chunk)):
            one_hot = nn.functional.one_hot(chunk.inputs[k, m].long(), W_in.shape[1]).float()  # T B I
            rnn.weight_hh_l0.data.copy_(W_rec)
            with torch.enable_grad():
                drive = (one_hot @ W_in.T + b).requires_grad_()
                h, last = rnn(drive)
                y = (last[0].detach() @ W_out.T + b_out).requires_grad_()
                (dy,) = torch.autograd.grad(nn.functional.cross_entropy(y, chunk.targets[k, m, 0].long()), y)
                v, gW = torch.autograd.grad(last[0], (drive, rnn.weight_hh_l0), dy @ W_out)
            if algorithm.omega is not None:
                delta = torch.cat(((v @ W_rec)[1:], (dy @ W_out)[None]))  # with one loss at the end
                gW = gW + pulled(delta, h.detach(), W_rec, algorithm.alpha(k))
            grads = gW, torch.einsum("tbn,tbi->ni", v, one_hot), v.sum((0, 1)), dy.T @ last[0].detach(), dy.sum(0)
            norm = torch.cat([g.flatten() for g in grads]).norm()
            scale = (algorithm.clip.threshold / norm).clamp(max=1) * algorithm.learning_rate
            for p, g in zip((W_rec, W_in, b, W_out, b_out), grads, strict=True):
                p.sub_(scale * g)


def jax(problem: Problem, network: rnnlab.Parameters, chunk: rnnlab.Chunk) -> Callable[[], None]:
    """`jit(vmap(scan))` in float32: all members and updates in one call. Arrays are handed over beforehand."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")  # otherwise tf32 on a GPU
    algorithm = problem.algorithm
    step = jax_update(
        algorithm.alpha(0), algorithm.learning_rate, algorithm.clip.threshold, problem.task.loss, mixed=False
    )
    pieces = network.W_rec, network.W_in, network.b, network.W_out, network.b_out
    weights = tuple(jnp.asarray(p.cpu().numpy()) for p in pieces)
    batches = tuple(jnp.asarray(x.cpu().numpy()) for x in (chunk.inputs, chunk.targets, chunk.lengths))

    def call() -> None:
        ended = jax.block_until_ready(step(weights, batches))
        for p, w in zip(pieces, ended, strict=True):
            p.copy_(torch.tensor(w.__array__()))

    return call


def fused(problem: Problem, network: rnnlab.Parameters, chunk: rnnlab.Chunk) -> None:
    """Our fused engine."""
    sgd(cuda, problem, network, chunk)


def graph(problem: Problem, network: rnnlab.Parameters, chunk: rnnlab.Chunk) -> None:
    """The batched engine, which on a GPU replays an update as a CUDA graph."""
    sgd(batched, problem, network, chunk)


@dataclass(frozen=True)
class Trial:
    """One number to measure: who, on what, compiled how."""

    case: Case
    who: str = "fused"
    precision: str = "ieee"
    registers: int | None = None

    @property
    def name(self) -> str:
        """What it is kept under."""
        return json.dumps(asdict(self), sort_keys=True)


def trials(multiprocessors: int, *, dry: bool) -> Iterator[Trial]:
    """All measurements, the most wanted first."""
    sizes, lengths = ((5,), (10,)) if dry else ((50, 100), (200, 50))
    members = (1,) if dry else (1, multiprocessors, 2 * multiprocessors, 4 * multiprocessors, 2048)
    main = Case(N=sizes[0], T=lengths[0], B=2 if dry else 20)
    for T, M in itertools.product(lengths, members):
        yield Trial(replace(main, T=T, members=M))
    for who, counts in (("graph", {1, *members[-2:]}), ("nn_rnn", {1}), ("jax", {1, *members[-2:]})):
        for M in sorted(counts):
            yield Trial(replace(main, members=M), who)
    ways = ("ieee", 168), ("ieee", 128), ("tf32x3", None), ("tf32x3", 168)
    for precision, registers in ways[-1:] if dry else ways:
        for M in members[-2:]:
            yield Trial(replace(main, members=M), precision=precision, registers=registers)
    for N, algorithm, T, M in itertools.product(sizes, ("MSGD-C", "MSGD-CR"), lengths, members):
        yield Trial(replace(main, N=N, algorithm=algorithm, T=T, members=M))


class Bench:
    """Trials on one device."""

    def __init__(self, device: torch.device, *, dry: bool) -> None:
        self.device, self.dry = device, dry

    def set_up(self, trial: Trial, updates: int) -> tuple[rnnlab.Parameters, rnnlab.Chunk, Problem]:
        problem = Problem(trial.case)
        numbers = torch.arange(updates, device=self.device)
        chunk = problem.task.chunk(problem.seeds.to(self.device), numbers, batch=trial.case.B)
        return problem.start.to(self.device).clone(), chunk, problem

    def call(self, trial: Trial, updates: int) -> tuple[Callable[[], object], rnnlab.Parameters]:
        """What is timed, and the networks that it trains."""
        network, chunk, problem = self.set_up(trial, updates)
        if trial.who == "jax":
            return jax(problem, network, chunk), network
        run = {"fused": fused, "graph": graph, "nn_rnn": nn_rnn}[trial.who]
        return lambda: run(problem, network, chunk), network

    def clock(self, call: Callable[[], object]) -> float:
        """Seconds of a call."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def error(self, trial: Trial) -> float:
        """The largest error of a parameter after some updates, beside those of float64."""
        updates = 2 if self.dry else 8  # from 8 on the batched engine captures a graph
        trial = replace(trial, case=replace(trial.case, members=2))
        call, network = self.call(trial, updates)
        call()
        problem = Problem(trial.case)
        exact = problem.start.to(torch.float64)
        sgd(batched, problem, exact, problem.chunk(0, updates, problem.seeds))
        return (network.theta.cpu().double() - exact.theta).abs().max().item()

    def measure(self, trial: Trial) -> dict[str, object]:
        """Seconds of an update of all members, and what follows from them."""
        cuda.PRECISION, cuda.REGISTERS = trial.precision, trial.registers
        what = {**asdict(trial.case), **{name: getattr(trial, name) for name in ("who", "precision", "registers")}}
        what["error"] = self.error(trial)
        if not what["error"] < TOLERANCE:
            return what
        steps = trial.case.members * trial.case.T
        budget = {"fused": 1_600_000, "graph": 400_000, "jax": 400_000, "nn_rnn": 4_000}[trial.who]
        updates = 1 if self.dry else max(8 if trial.who == "graph" else 2, min(256, budget // steps))
        call, _ = self.call(trial, updates)
        call()  # compiles, fills caches
        times = [self.clock(call) / updates for _ in range(1 if self.dry else ROUNDS)]
        seconds = statistics.median(times)
        return {
            **what,
            "updates": updates,
            "seconds_per_update": [seconds, min(times), max(times)],
            "microseconds_per_step": 1e6 * seconds / trial.case.T,
            "network_steps_per_second": steps / seconds,
        }


def provenance(device: torch.device) -> dict[str, str]:
    """Where and by what the numbers were measured; others are not gone on with."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"
    return {"device": name, "torch": torch.__version__, "engine": cuda.describe(50)}


def line(result: dict) -> str:
    """A measurement as a row of the table."""
    who = f"{result['who']:7}{result['precision']:>8}{result['registers'] or '-':>5}{result['algorithm']:>9}"
    case = f" N {result['N']:3} T {result['T']:3} M {result['members']:4}   error {result['error']:.0e}"
    if "network_steps_per_second" not in result:
        return f"{who}{case}: not timed, it trains to other parameters than float64 does"
    rate = result["network_steps_per_second"] / 1e6
    return f"{who}{case}{result['microseconds_per_step']:11.3f} us/step{rate:10.3f} M network-steps/s"


def bench(target: Path, *, minutes: float, dry: bool) -> int:
    """Measure what is missing in `target`; how many measurements that were."""
    device = torch.device("cpu" if dry else "cuda")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    result = {**provenance(device), "measured": {}}
    if target.exists():
        before = json.loads(target.read_text())
        if all(before.get(name) == value for name, value in provenance(device).items()):
            result = before
    multiprocessors = 2 if dry else torch.cuda.get_device_properties(device).multi_processor_count
    wanted = {trial.name: trial for trial in trials(multiprocessors, dry=dry)}
    if importlib.util.find_spec("jax") is None:
        wanted = {name: trial for name, trial in wanted.items() if trial.who != "jax"}
    missing = [name for name in wanted if name not in result["measured"]]
    started, done, bench_ = time.monotonic(), 0, Bench(device, dry=dry)
    for name in tqdm(missing, disable=None):
        if time.monotonic() - started > 60 * minutes:
            print(f"{len(missing) - done} measurements are left: run it again to go on", file=sys.stderr)
            break
        with torch.no_grad():
            result["measured"][name] = bench_.measure(wanted[name])
        tqdm.write(line(result["measured"][name]))
        result["date"] = datetime.now(UTC).date().isoformat()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(result, indent=1) + "\n")
        done += 1
    return done


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = Path(os.environ.get("OUT") or ROOT / "_build")
    parser.add_argument("--to", type=Path, default=folder / "bench-gpu.json", help="where the numbers go")
    parser.add_argument("--minutes", type=float, default=8, help="begin no measurement after this time (default 8)")
    parser.add_argument("--dry", action="store_true", help="in Triton's interpreter, at toy sizes; needs no GPU")
    parser.add_argument("--offline", type=Path, metavar="FILE", help="write what the kernels compile to; needs no GPU")
    arguments = parser.parse_args()
    if arguments.offline:
        from tests.benchmarks import offline

        arguments.offline.write_text(json.dumps(offline.everything(), separators=(",", ":")) + "\n")
        return
    if arguments.dry:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    elif not torch.cuda.is_available():
        raise SystemExit("bench-gpu needs a GPU, and PyTorch reaches none here; --dry tries it in Triton's interpreter")
    done = bench(arguments.to, minutes=arguments.minutes, dry=arguments.dry)
    print(f"{done} measurements made; written to {arguments.to}")


if __name__ == "__main__":
    main()

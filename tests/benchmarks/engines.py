"""Time one whole update of one member, by us and by honest peers, side by side in one run: `make bench`.

Peers are first checked to reach the same parameters. Rounds are interleaved, so that a busy machine slows everybody
alike. Sampling is included, validation is not.
"""

import argparse
import ctypes
import functools
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm import tqdm

import rnnlab
from rnnlab import machine
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cpu import kernel
from rnnlab.engine.known import KNOWN
from tests.benchmarks import costs, roofline, workloads
from tests.benchmarks.peers import PEERS, Case, Peer, Problem, Run, check, run_engine
from tests.benchmarks.timing import Range, Target, Trial, one_thread, product, rounds_of, sample

ROOT = Path(__file__).resolve().parents[2]
GRID = [Case(members=M, T=T, N=N) for M, T, N in itertools.product((1, 4, 16, 64), (50, 100, 200), (50, 100))]
COMPARED = {"fused": 50, "jax": 20}  # in GRID: updates of 16 members in one call, at T 100 and N 50


TARGETS = {
    "eager": Target("eager loop over fused, all cores", 40, 80),
    "eager_per_core": Target("eager loop over fused, one core", 30),
    "jax": Target("JAX over fused", 8, 15),
    "matmul": Target("useful operations over PyTorch's product's, one core", 0.9, 1.4),
    "eager_avx2": Target("eager loop over fused compiled for AVX2", 20),
    "eager_over_batched": Target("eager loop over batched", 5, 10),
    "memory_per_member": Target("memory of a network at T 200, at most (MB)", 3, 2, unit=1e6, cost=True),
    "first_compile_s": Target("first use of the kernel, at most (s)", 10, 3, cost=True),
    **workloads.TARGETS,
}


def trials(case: Case, peers: Mapping[str, Peer]) -> list[Trial]:
    """Peers at a case, each with as many members as it wants."""
    return [
        Trial(name, peer.run, replace(case, members=peer.members or case.members), peer.updates)
        for name, peer in peers.items()
    ]


def compared(case: Case, names: Iterable[str]) -> list[Trial]:
    """Peers at a case of the grid: the more work an update is, the fewer there are."""
    share = 16 * 100 * 50**2 / (case.members * case.T * case.N**2)
    return [
        Trial(name, PEERS[name].run, case, max(2, min(round(COMPARED[name] * share), 8 * COMPARED[name])))
        for name in names
    ]


def variants() -> dict[str, dict[str, object]]:
    """The kernel compiled in other ways: names of `rnnlab.engine.cpu.kernel` with other values."""
    own, flags = kernel.instruction_set(), kernel._TARGETS
    found: dict[str, dict[str, object]] = {"strides at run time": {"_SPECIALIZED": sys.maxsize}}
    if own in ("avx512", "avx512vl"):
        other = "avx512" if own == "avx512vl" else "avx512vl"
        own_tuning = [flag for flag in flags[own] if flag != "-mtune=generic"]
        found[f"{kernel._TILES[other][0]} lanes"] = {"instruction_set": lambda: other}
        found["the compiler's own tuning"] = {"_TARGETS": {**flags, own: own_tuning}}
    if own in ("avx512", "avx512vl", "avx2"):
        found["avx2"] = {"instruction_set": lambda: "avx2"}
    return found


@functools.cache
def build(name: str, units: int) -> ctypes.CDLL:
    """A variant of the kernel."""

    def forget() -> None:
        kernel._library.cache_clear()

    with mock.patch.multiple(kernel, **variants()[name]):
        forget()
        try:
            return kernel.library(units)
        finally:
            forget()


def run_variant(name: str) -> Run:
    """The fused engine with another kernel."""

    def run(problem: Problem, updates: int) -> Tensor:
        with mock.patch.object(cpu, "library", functools.partial(build, name)):
            return run_engine(cpu)(problem, updates)

    return run


def on_one_core(case: Case, others: Mapping[str, Peer]) -> list[Trial]:
    """Everybody who can be told to use one core, and what an update's time is made of."""
    fused = PEERS["fused"]
    parts = {
        "sampling": Peer(sample, fused.updates),
        "linear units": Peer(run_engine(cpu, rnnlab.Linear()), fused.updates),
        "product": Peer(product, 3, members=1),
    }
    return [
        *trials(case, {name: peer for name, peer in PEERS.items() if name != "jax"} | parts | dict(others)),
        *trials(replace(case, algorithm="MSGD-C"), {"without omega": fused}),
    ]


class Traffic(TorchDispatchMode):
    """Counts the bytes of what every operation of torch reads and writes; a view moves nothing."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operation and count."""
        result = func(*args, **(kwargs or {}))
        read, written = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in ((args, kwargs), result)
        )
        known = {t.untyped_storage().data_ptr() for t in read}
        if func._schema.is_mutable or any(t.untyped_storage().data_ptr() not in known for t in written):
            once = {id(t): t for t in read + written}.values()
            self.bytes += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in once)
        return result


def traffic(peer: Peer, case: Case) -> float:
    """Bytes that the operations of one update of one member read and write, sampling aside."""
    problem, counted = Problem(replace(case, members=peer.members or case.members)), []
    for run in (peer.run, sample):
        with Traffic() as mode:
            run(problem, 1)
        counted.append(mode.bytes)
    return (counted[0] - counted[1]) / problem.case.members


def first_compile() -> float:
    """Seconds until the kernel stands, from nothing, in another process."""
    with tempfile.TemporaryDirectory() as cache:
        run = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.engines", "--first-compile"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "RNNLAB_CACHE": cache},
        )
    return float(run.stdout.split()[-1])


def workspace(case: Case) -> int:
    """Bytes that the fused engine takes for a member, beside its share of a chunk: its workspace and its parameters."""
    problem = Problem(replace(case, members=1))
    sizes, loss = problem.sizes, KNOWN["loss"].index(type(problem.task.loss))
    job = kernel.Job(N=sizes.units, I=sizes.inputs, O=sizes.outputs, B=case.B, T=case.T, loss=loss)
    return 4 * (kernel.library(sizes.units).rnnlab_train_space(ctypes.byref(job)) + sizes.P)


def provenance() -> dict[str, object]:
    """When, with what and on what."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {**roofline.processor(), "cores": machine.cores(), "caches": roofline.caches()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "jax": next((found.version for found in distributions(name="jax")), "absent"),
            "compiler": roofline.compiler(),
        },
    }


def ratios(case: Case, ms: dict[str, Range], one: dict[str, Range], *, product: float) -> dict[str, float]:
    """What the targets are about, from times on all cores and on one; `product` is torch's, in operations a second."""
    found = {name: ms[name][0] / ms["fused"][0] for name in PEERS if name != "fused"}
    if "avx2" in ms:
        found["eager_avx2"] = ms["eager"][0] / ms["avx2"][0]
    return found | {
        "eager_over_batched": ms["eager"][0] / ms["batched"][0],
        "eager_per_core": one["eager"][0] / one["fused"][0],
        "matmul": 6 * case.B * case.N**2 * case.T / one["fused"][0] * 1e3 / product,
        "memory_per_member": workspace(replace(case, T=200)),
        "first_compile_s": first_compile(),
    }


def measure(case: Case, rounds: int, grid: Sequence[Case], loads: Mapping[str, Case], bar: tqdm) -> dict[str, object]:
    """Everything that `_build/bench.json` holds."""
    others = {name: replace(PEERS["fused"], run=run_variant(name)) for name in variants()}
    check(case, PEERS | others)
    names = [name for name in COMPARED if name in PEERS]
    for largest in grid[-1:]:
        check(largest, {name: PEERS[name] for name in names})
    workloads.check_all(loads)
    avx2 = {name: peer for name, peer in others.items() if name == "avx2"}
    alone, together = on_one_core(case, others), trials(case, PEERS | avx2)
    sizes = [case for case in grid if case.members == 16]
    calls = len(together) + len(alone) + len(sizes) + len(names) * len(grid) + sum(map(workloads.calls, loads.values()))
    bar.reset((rounds + 1) * calls)
    ms = rounds_of(together, rounds, bar)
    with one_thread():
        one = rounds_of(alone, rounds, bar)
        rates = [{"N": c.N, "T": c.T, **rounds_of(compared(c, ["fused"]), rounds, bar)} for c in sizes]
    works = {name: workloads.measured(load, rounds, bar) for name, load in loads.items()}
    cases = [{**asdict(c), "ms": rounds_of(compared(c, names), rounds, bar)} for c in grid]
    ceilings = roofline.measure() | {"product": 2 * 1024**3 / one["product"][0] * 1e3}
    ratio = ratios(case, ms, one, product=ceilings["product"]) | workloads.ratios(works)
    aimed = {name: target for name, target in TARGETS.items() if name in ratio}
    return {
        **provenance(),
        "case": {**asdict(case), "rounds": rounds, "threads": torch.get_num_threads(), "engine": cpu.describe(case.N)},
        "ms": ms,
        "ratio": ratio,
        "targets": {name: {**asdict(t), "verdict": t.verdict(ratio[name])} for name, t in aimed.items()},
        "one_core": {"ms": one, "sizes": rates},
        "bytes": {name: traffic(peer, case) for name, peer in PEERS.items() if name not in ("fused", "jax")},
        "kernel": {
            **dict(zip(("lanes", "panel", "rows"), kernel._TILES[kernel.instruction_set()], strict=True)),
            "width": {N: kernel.width(N) for N in (50, 100)},
            "workspace": {T: workspace(replace(case, T=T)) for T in (50, 100, 200)},
        },
        "roofline": ceilings,
        "cases": cases,
        "workloads": works,
    }


def table(result: dict) -> Iterator[str]:
    """The lines to print."""
    fused = result["ms"]["fused"][0]
    yield f"{'ms per update and member':28}{'median':>9}{'lowest':>9}{'highest':>9}{'x fused':>9}"
    for where, rows in (("", result["ms"]), (", one core", result["one_core"]["ms"])):
        for name, (median, low, high) in rows.items():
            yield f"{name + where:28}{median:9.3f}{low:9.3f}{high:9.3f}{median / fused:9.1f}"
    for name, value in result["ratio"].items():
        yield f"{name:28}{value:9.4g}  {result['targets'].get(name, {}).get('verdict', '')}".rstrip()
    for case in result["cases"]:
        each = ", ".join(f"{name} {ms:.3f} ms" for name, (ms, _, _) in case["ms"].items())
        yield f"M {case['members']:3} T {case['T']:3} N {case['N']:3}: {each}"
    yield from workloads.table(result["workloads"])


def write(result: dict, target: Path) -> None:
    """As JSON, and say so."""
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {target.relative_to(ROOT)}")


def main() -> None:
    """Print the table and write `_build/bench.json`."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--keep", action="store_true", help="write book/results/engine.json, too, for the book")
    parser.add_argument("--first-compile", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first_compile:
        start = time.perf_counter()
        kernel.library(Case().N)
        print(time.perf_counter() - start)
        return
    with tqdm(unit="call", dynamic_ncols=True) as bar:
        result = measure(Case(), arguments.rounds, GRID, workloads.CASES, bar)
    print(*table(result), sep="\n")
    write(result, ROOT / "_build" / "bench.json")
    if arguments.keep:
        raw = json.loads(json.dumps(result))  # as it is read again: names are text
        write(raw | {"derived": costs.derived(raw)}, ROOT / "book" / "results" / "engine.json")
    print(f"case {result['case']}")


if __name__ == "__main__":
    main()

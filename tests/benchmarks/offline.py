"""What the fused GPU engine compiles to for a GPU that is not here: registers, memory, instructions, a bound on time.

Everything runs as on a GPU up to the launch: the package prepares its launch, Triton compiles it for the GPU named, and
the tools in its wheel read the machine code. `python -m tests.benchmarks.offline` prints the report as JSON.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

import rnnlab
from rnnlab.engine.contract import CARRIED, Rules
from rnnlab.engine.cuda import fused as cuda
from rnnlab.engine.cuda import kernels, passes
from tests.benchmarks import costs

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
PHASES = {"forward": "forward", "backward": "backward", "_collect": "collect"}
CLASSES = ("FFMA", "HMMA", "LDS", "STS", "BAR", "SHFL", "MUFU", "LDG", "STG", "LDL", "STL")
SCHEDULERS = 4  # of a multiprocessor; each issues one instruction of one warp a cycle
UNITS = 128  # float32 multiply-adds that a multiprocessor makes in a cycle
GPUS = {90: ("H200", 132, 1.98e9), 80: ("A100", 108, 1.41e9)}  # multiprocessors, highest clock in 1/s


@dataclass(frozen=True)
class Case:
    """A kernel: for which architecture, task and sizes, in which precision, with how many registers at most.

    With `more`, by all that may be asked for besides: Adam's steps, noise, a parameter that stays, a length of each
    sequence's own, states that are carried.
    """

    arch: int = 90
    task: str = "temporal order"
    algorithm: str = "MSGD-CR"
    N: int = 50
    B: int = 20
    precision: str = "ieee"
    limit: int | None = None
    more: bool = False


class Absent:
    """What Triton asks a driver before a launch, answered for a GPU that is not here."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        """The GPU to compile for."""
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        """A number that differs between architectures: Triton keeps compiled kernels by device."""
        return self.arch

    def get_current_stream(self, device: int) -> int:
        """The default stream."""
        return 0


def compiled(case: Case):
    """The kernel that `sgd` would launch."""
    kept = cuda.PRECISION, cuda.REGISTERS, cuda._launch, cuda._interpreted
    kernels = []

    def warm_up(kernel, grid, *arguments, plan):
        options = {"num_warps": plan.warps, "num_stages": 1, "maxnreg": cuda.REGISTERS}
        kernels.append((plan, kernel.warmup(*arguments, plan, grid=grid, **options)))

    task = rnnlab.TASKS[case.task](50) if case.task != "noiseless memorization" else rnnlab.TASKS[case.task](50, 5, 2)
    algorithm = rnnlab.Algorithm.named(case.algorithm)
    network = rnnlab.Parameters.zeros(rnnlab.Sizes(task.inputs, case.N, task.outputs), 2)
    chunk = task.chunk(torch.arange(2), torch.arange(2), batch=case.B)
    rules = Rules(rnnlab.Simple(rnnlab.Tanh()), task.loss, algorithm, [algorithm.alpha(0)] * 2)
    state = algorithm.state(network)
    if case.more:
        with_noise = rnnlab.AdamW(clip=algorithm.clip, omega=algorithm.omega, noise=0.1, frozen=("b",))
        rules, state = replace(rules, algorithm=with_noise, seeds=torch.arange(2)), with_noise.state(network)
        begins = torch.ones(2, 2, case.B, dtype=torch.bool)
        chunk = replace(chunk, lengths=chunk.lengths[..., None].expand_as(begins), begins=begins)
        state |= {CARRIED: network.theta.new_zeros(2, case.B, case.N)}
    driver.set_active(Absent(case.arch))
    try:
        cuda.PRECISION, cuda.REGISTERS, cuda._launch = case.precision, case.limit, warm_up
        cuda._interpreted = lambda: True  # so that parameters may lie here
        cuda._train(network, chunk, rules, state)
    finally:
        cuda.PRECISION, cuda.REGISTERS, cuda._launch, cuda._interpreted = kept
    return kernels[0]


def tool(name: str, *arguments: str) -> str:
    return subprocess.run([str(TOOLS / name), *arguments], capture_output=True, text=True, check=True).stdout


def functions() -> dict[tuple[str, int], str]:
    """Which of the phases each line of the kernels' sources belongs to."""
    found = {}
    for path in map(Path, (kernels.__file__, passes.__file__)):
        spans = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name in PHASES]
        found |= {(path.name, line): PHASES[n.name] for n in spans for line in range(n.lineno, n.end_lineno + 1)}
    return found


def loops(disassembly: str) -> dict[str, Counter]:
    """Instructions of one turn of each phase's loop, by kind."""
    lines, phase_of = [], functions()
    labels, line = {}, ("", 0)
    for text in disassembly.splitlines():
        if found := re.search(r'//## File ".*(kernels\.py|passes\.py)", line (\d+)', text):
            line = found[1], int(found[2])
        elif found := re.match(r"\s*(\.L_x_\d+):", text):
            labels[found[1]] = len(lines)
        elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", text):
            lines.append((found[1].split(".")[0], found[2], line))
    spans = []
    for end, (kind, rest, _) in enumerate(lines):
        target = re.search(r"`\((\.L_x_\d+)\)", rest) if kind == "BRA" else None
        if target and labels.get(target[1], end + 1) <= end:
            spans.append((labels[target[1]], end + 1))
    innermost = [s for s in spans if not any(s != o and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    found = {}
    for start, end in innermost:
        votes = Counter(phase_of[at] for _, _, at in lines[start:end] if at in phase_of)
        count = Counter(kind for kind, _, _ in lines[start:end])
        if votes and count.total() > found.get(votes.most_common(1)[0][0], Counter()).total():
            found[votes.most_common(1)[0][0]] = count
    return found


def floor(plan: cuda.Plan) -> dict[str, float]:
    """What a step needs by its formulas: cycles of a multiprocessor for its three products, bytes of history moved.

    Padded, two products work on blocks of ROWS by NP and the third on rows of NP; h, delta (and n, where it is not
    delta) are written once, h is read by the backward sweep, and all of them, and h of the step before, at the end.
    """
    tiles, omega = -(-plan.B // plan.ROWS), plan.omega != "NoneType"
    written = 2 + (plan.every and omega)
    read = 1 + 3 + omega
    return {
        "cycles_useful": 3 * plan.B * plan.N**2 / UNITS,
        "cycles_padded": (2 * plan.ROWS * tiles + plan.B) * plan.NP**2 / UNITS,
        "bytes_written": 4 * plan.B * plan.NP * written,
        "bytes_read": 4 * plan.B * plan.NP * read,
    }


def report(case: Case) -> dict[str, object]:
    """What a case compiles to.

    Per step: each phase's loop makes a turn, and `collect`'s, which takes pairs (step, sequence) in a row, makes B /
    ROWS. A scheduler issues an instruction a cycle, so that a step takes at least `cycles` of a multiprocessor.
    """
    plan, kernel = compiled(case)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        used = tool("cuobjdump", "--dump-resource-usage", file.name)
        found = loops(tool("nvdisasm", "-g", "-c", file.name))
    turns = {"forward": 1, "backward": 1, "collect": case.B / plan.ROWS}
    step = Counter()
    for phase, count in found.items():
        tiles = -(-case.B // plan.ROWS) if phase != "collect" else 1
        for kind, number in count.items():
            step[kind] += number * turns[phase] * tiles
    cycles = step.total() * plan.warps / SCHEDULERS
    gpu, multiprocessors, clock = GPUS[case.arch]
    return {
        **asdict(case),
        "warps": plan.warps,
        "registers": int(re.search(r"REG:(\d+)", used)[1]),
        "stack": int(re.search(r"STACK:(\d+)", used)[1]),
        "shared": kernel.metadata.shared,
        "loops": {p: {"all": c.total()} | {k: c[k] for k in CLASSES} for p, c in found.items()},
        "step": {"all": round(step.total() * plan.warps)} | {k: round(step[k] * plan.warps) for k in CLASSES},
        "barriers": round(step["BAR"], 2),
        "phases": 1 + kernel.asm["ttgir"].count("barrier"),  # between which all threads have written what they write
        "floor": floor(plan),
        "cycles": round(cycles),
        "gpu": gpu,
        "microseconds": round(1e6 * cycles / clock, 3),
        "network_steps_per_second": round(multiprocessors * clock / cycles),
    }


CASES = [
    *(Case(arch, algorithm=name, N=N) for arch in (90, 80) for N in (50, 100) for name in ("MSGD-CR", "MSGD-C")),
    *(Case(arch, task) for arch in (90, 80) for task in ("addition", "noiseless memorization")),
    *(Case(limit=limit) for limit in (168, 128)),
    Case(precision="tf32x3"),
]


def everything(cases: list[Case] = CASES) -> dict[str, object]:
    """The report of all cases, with versions and date, and what the book shows of it."""
    ptxas = re.search(r"V([\d.]+)", tool("ptxas", "--version"))[1]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "ptxas": ptxas,
        "kernel": cuda.kernel_hash(),
        "gpus": {gpu: {"multiprocessors": count, "clock": clock} for gpu, count, clock in GPUS.values()},
        "cases": [report(case) for case in cases],
    }
    return result | {"derived": costs.bounded(result)}


if __name__ == "__main__":
    chosen = [Case(**fields) for fields in json.loads(sys.argv[1])] if len(sys.argv) > 1 else CASES
    print(json.dumps(everything(chosen), indent=1))

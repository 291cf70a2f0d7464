"""Time this checkout against one of its commits, in turns: `python -m tests.benchmarks.against COMMIT`.

Each has a process of its own, and one computes while the other waits. What counts is the processor's time of a whole
call, so that a busy machine disturbs little. Every round has new processes: two of the same code can differ by a tenth
as long as they live, by where their memory lies, so a round is the independent unit. The interval is Student's for the
mean of the logarithms of the rounds' ratios.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS, TURNS = 10, 6  # calls of each in a round, which lasts a second or two
STUDENT = 2.262157  # 97.5 % quantile at ROUNDS - 1 degrees of freedom

# Public names alone, so that commits of long ago understand it.
WORKER = """
import sys, time
import rnnlab
task, addition = rnnlab.TemporalOrder(100), rnnlab.Addition(100)
spec = rnnlab.Spec(task=task, updates=10**8)
calls = {
    "MSGD-CR, symbols": rnnlab.Ensemble(spec, 16, device="cpu"),
    "MSGD, symbols": rnnlab.Ensemble(spec.with_(algorithm=rnnlab.Algorithm.named("MSGD")), 16, device="cpu"),
    "MSGD-CR, real inputs": rnnlab.Ensemble(spec.with_(task=addition), 16, device="cpu"),
}
steps = {name: (lambda e=e: e.advance(16)) for name, e in calls.items()}
steps["tests of 1,000"] = lambda: calls["MSGD-CR, symbols"].errors(1_000)
tests = {"check_sequences": 100, "confirm_sequences": 100}  # a test after the end is no cost of training
short = rnnlab.Spec(task=rnnlab.TemporalOrder(30), updates=400, check_every=100, stop="never", **tests)
steps["a whole training"] = lambda: rnnlab.train(short, seeds=4, device="cpu")
print(rnnlab.__file__, flush=True)
for line in sys.stdin:
    began = time.process_time()
    steps[line.strip()]()
    print(time.process_time() - began, flush=True)
"""
CASES = ("MSGD-CR, symbols", "MSGD, symbols", "MSGD-CR, real inputs", "tests of 1,000", "a whole training")


class Worker:
    """A process that computes with the package of one checkout."""

    def __init__(self, checkout: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=environment,
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        used = self._answer()
        if not Path(used).is_relative_to(checkout):
            raise RuntimeError(f"the package of {checkout} was wanted, and that of {used} came")

    def seconds(self, case: str) -> float:
        """Processor time of one call."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return line.strip()
        raise RuntimeError("a worker ended early; its error stands above")

    def end(self) -> None:
        """Have the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def checkout_of(commit: str) -> Iterator[Path]:
    """A folder with the files of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        files = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)
        yield Path(folder)


def ratio_of(old: Path, round_: int) -> dict[str, float]:
    """What new processes of both take, this checkout's over the old one's, by case."""
    workers, ratios = {"new": Worker(ROOT), "old": Worker(old)}, {}
    for case in CASES:
        for worker in workers.values():
            worker.seconds(case)  # the first call sets things up
        took = dict.fromkeys(workers, 0.0)
        for name in (["new", "old", "old", "new"] * TURNS)[2 * (round_ % 2) :][: 2 * TURNS]:
            took[name] += workers[name].seconds(case)
        ratios[case] = took["new"] / took["old"]
    for worker in workers.values():
        worker.end()
    return ratios


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Geometric mean of some ratios, and both ends of its 95 % interval."""
    logs = [math.log(ratio) for ratio in ratios]
    middle, half = statistics.mean(logs), STUDENT * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare with, such as HEAD~20")
    given = parser.parse_args()
    with checkout_of(given.commit) as old:
        print(f"processor time, this checkout over {given.commit}; {ROUNDS} rounds in turns, 95 % interval")
        ratios = [ratio_of(old, round_) for round_ in range(ROUNDS)]
        for case in CASES:
            print("{:<22} {:.3f} [{:.3f}, {:.3f}]".format(case, *interval([ratio[case] for ratio in ratios])))


if __name__ == "__main__":
    main()

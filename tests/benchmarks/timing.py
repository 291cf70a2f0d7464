"""What benchmarks are made of: a peer at a case, rounds in which all take their turns, and what a number was to be."""

import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tests.benchmarks.peers import Case, Problem, Run

Range = tuple[float, float, float]
Clock = Callable[[], float]  # seconds
problem_of = functools.cache(Problem)


@dataclass(frozen=True)
class Target:
    """What a ratio was to reach: a floor in any case, an aim if possible; for costs, to stay below."""

    what: str
    floor: float
    aim: float | None = None
    unit: float = 1.0
    cost: bool = False

    def verdict(self, value: float) -> str:
        """Which of the two is met."""
        sign = -1 if self.cost else 1
        met = [bound is not None and sign * value >= sign * bound * self.unit for bound in (self.aim, self.floor)]
        return "aim met" if met[0] else "floor met" if met[1] else "floor missed"


@dataclass(frozen=True)
class Trial:
    """What is timed in one call: `updates` of every member of a case."""

    name: str
    run: Run
    case: Case
    updates: int

    def ms(self, clock: Clock = time.perf_counter) -> float:
        """Milliseconds of one update of one member."""
        problem = problem_of(self.case)
        start = clock()
        self.run(problem, self.updates)
        return (clock() - start) / (self.case.members * self.updates) * 1e3


def rounds_of(timed: Sequence[Trial], rounds: int, bar: tqdm, clock: Clock = time.perf_counter) -> dict[str, Range]:
    """Median, lowest and highest of each trial, interleaved; the first round warms up and does not count."""
    times: dict[str, list[float]] = {trial.name: [] for trial in timed}
    for round_ in range(rounds + 1):
        for trial in timed:
            ms = trial.ms(clock)
            bar.update()
            if round_:
                times[trial.name].append(ms)
    return {name: (statistics.median(values), min(values), max(values)) for name, values in times.items()}


def sample(problem: Problem, updates: int) -> Tensor:
    """An update's batch and nothing else."""
    return problem.chunk(0, updates, problem.seeds).inputs


def product(problem: Problem, updates: int) -> Tensor:
    """Torch's product of two large matrices, `updates` times."""
    a = torch.ones(1024, 1024)
    for _ in range(updates):
        a @ a
    return a


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch, and with it our engines, on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_core() -> Iterator[None]:
    """Everybody on one core: torch, and all threads of this process, where the system lets them be bound to it."""
    with one_thread():
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
        _bind({*list(cores)[:1]})
        try:
            yield
        finally:
            _bind(cores)


def _bind(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir() if cores else ():
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread.name), cores)

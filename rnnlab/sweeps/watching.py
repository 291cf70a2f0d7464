"""Where a sweep stands, how fast it is, and how long the rest may take."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import xarray

from rnnlab.sweeps.executors import Job


@dataclass(frozen=True)
class Done:
    """Some seeds of a cell that have just been trained, and where the sweep stands.

    Args:
        init: label of its initialization.
        algorithm: label of its algorithm.
        length: of its sequences, in steps.
        number: which ensemble it was, counted from 1.
        ensembles: of how many.
        runs: networks whose training has ended, in all ensembles so far.
        solved: how many of those were below 1 %.
        speed: updates of one network per second, by all workers together, as far as they were not read from a store.
        left: seconds until the end, if the rest trains at the pace so far and to the end of its budget; NaN at first.
    """

    init: str
    algorithm: str
    length: int
    number: int
    ensembles: int
    runs: int
    solved: int
    speed: float = field(compare=False)
    left: float = field(compare=False)

    @property
    def status(self) -> str:
        """In a few words, for a progress bar."""
        return f"{self.runs} runs, {self.solved} solved, {self.speed:,.0f} updates/s, {_clock(self.left)} left"


def _clock(seconds: float) -> str:
    return "?" if math.isnan(seconds) else str(timedelta(seconds=round(seconds)))


class Watch:
    """Counts what a sweep has done, and how fast.

    Args:
        jobs: all its ensembles.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.began = time.monotonic()
        self.ensembles, self.todo = len(jobs), sum(job.work for job in jobs)
        self.number = self.runs = self.solved = self.updates = self.worked = 0

    def after(self, job: Job, result: xarray.Dataset, *, computed: bool) -> Done:
        """Where the sweep stands with this job done.

        Args:
            job: the ensemble.
            result: what its training returned.
            computed: whether it was trained just now.
        """
        self.number += 1
        self.runs += len(job.seeds)
        self.solved += int(result["first_below_1_percent"].notnull().sum())
        self.todo -= job.work
        if computed:
            self.worked += job.work
            self.updates += int(result["update"].where(result["error"].notnull()).max("check").sum())
        passed = time.monotonic() - self.began
        return Done(
            *job.labels,
            number=self.number,
            ensembles=self.ensembles,
            runs=self.runs,
            solved=self.solved,
            speed=self.updates / passed,
            left=passed * self.todo / self.worked if self.worked else math.nan,
        )

"""Trainings given to whoever computes: this process, a pool of processes, a cluster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from typing import Any

import xarray

from rnnlab.specs import Spec
from rnnlab.training import finished, train

LOSSES = 3  # of workers, with nothing finished in between, that are borne


@dataclass(frozen=True, eq=False)
class Job:
    """Some seeds of a cell, trained as one ensemble."""

    labels: tuple[str, str, int]
    spec: Spec
    seeds: list[int]

    @property
    def work(self) -> int:
        """Steps that it takes if no member ends early."""
        return self.spec.updates * self.spec.task.longest * len(self.seeds)


class LostWorkersError(RuntimeError):
    """Workers were lost again and again, and nothing was finished in between."""


def results_by(
    jobs: Sequence[Job], executor: Executor | Callable[[], Executor] | None, how: Mapping[str, Any]
) -> Iterator[tuple[Job, xarray.Dataset, bool]]:
    """Each job, what came of it, and whether that had to be computed; as they are ready."""
    waiting = []
    for job in jobs:
        kept = finished(job.spec, job.seeds, how["store"]) if how["store"] is not None else None
        if kept is None:
            waiting.append(job)
        else:
            yield job, kept, False
    if executor is None:
        yield from ((job, train(job.spec, seeds=job.seeds, **how), True) for job in waiting)
    else:
        waiting.sort(key=lambda job: -job.work)
        yield from ((job, result, True) for job, result in _by_workers(waiting, executor, how))


def _by_workers(
    jobs: Sequence[Job], executor: Executor | Callable[[], Executor], how: Mapping[str, Any]
) -> Iterator[tuple[Job, xarray.Dataset]]:
    """The jobs' results as they are ready; jobs of lost workers are submitted again."""
    make: Any = (lambda: executor) if hasattr(executor, "submit") else executor
    pool, losses = make(), 0
    pending = {_submitted(pool, job, how): job for job in jobs}
    try:
        while pending:
            ready, _ = wait(pending, return_when=FIRST_COMPLETED)
            if any(isinstance(_failure(future), BrokenExecutor) for future in ready):
                ready, _ = wait(pending)  # a pool that breaks takes all of them along
            lost = [future for future in ready if _is_loss(_failure(future))]
            for future in ready.difference(lost):
                losses = 0
                yield pending.pop(future), future.result()
            if not lost:
                continue
            losses, reason = losses + 1, _failure(lost[0])
            if losses > LOSSES:
                raise LostWorkersError(
                    f"workers were lost {losses} times, and nothing was finished in between; what is in the store "
                    f"is kept. A process pool that broke cannot be used again: give a function that makes one."
                ) from reason
            if isinstance(reason, BrokenExecutor):
                pool = make()
            for job in [pending.pop(future) for future in lost]:
                pending[_submitted(pool, job, how)] = job
    finally:
        for future in pending:
            future.cancel()
        if pool is not executor:
            pool.shutdown(cancel_futures=True)


def _submitted(pool: Executor, job: Job, how: Mapping[str, Any]) -> Future:
    """What the pool promises; a pool that is already broken promises to fail."""
    try:
        return pool.submit(train, job.spec, seeds=job.seeds, **how)
    except BrokenExecutor as broken:
        failed: Future = Future()
        failed.set_exception(broken)
        return failed


def _failure(future: Future) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()


def _is_loss(failure: BaseException | None) -> bool:
    """Whether it says that a worker was lost; Dask's own error is known by name, since Dask may not be there."""
    return isinstance(failure, BrokenExecutor | CancelledError) or type(failure).__name__ == "KilledWorker"

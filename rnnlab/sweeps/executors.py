"""Trainings given to whoever computes: this process, a pool of processes, a cluster."""

import ctypes
import multiprocessing
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import xarray

from rnnlab.training.loop import finished, train
from rnnlab.training.specs import Spec
from rnnlab.training.store import PART

LOSSES = 3  # of workers, with nothing finished in between, that are borne
LOOK = 0.1  # seconds between a worker's looks at whether it is to stop
PATIENCE = 2.0  # seconds in which trainings that are stopped may write their checkpoints

Pool = Executor | Callable[[], Executor]  # what computes, or what makes it


class Job(NamedTuple):
    """Some seeds of a cell, trained as one ensemble; the labels say which cell, by axis."""

    labels: Mapping[str, Any]
    spec: Spec
    seeds: list[int]

    @property
    def work(self) -> int:
        """Steps that it takes if no member ends early."""
        return self.spec.updates * self.spec.task.longest * len(self.seeds)

    def __str__(self) -> str:
        """Which cell."""
        return ", ".join(f"{name} {label}" for name, label in self.labels.items()) or "all"


Results = Generator[tuple[Job, xarray.Dataset], None, None]


class LostWorkersError(RuntimeError):
    """Workers were lost again and again, and nothing was finished in between."""


def results_by(
    jobs: Sequence[Job], executor: Pool | None, how: Mapping[str, Any], work: Callable[..., Any] | None = None
) -> Results:
    """Each job and what came of it, as they are ready; what the store has finished comes first.

    Args:
        jobs: in the order in which they are begun.
        executor: who computes; None for this process.
        how: what `work` is told beside the specification, the seeds and that nobody looks.
        work: what is done for each job; `train` unless told.
    """
    waiting, work = [], work or train
    for job in jobs:
        if how["store"] is None or (kept := finished(job.spec, job.seeds, how["store"])) is None:
            waiting.append(job)
        else:
            yield job, kept
    if executor is None:
        yield from ((job, work(job.spec, seeds=job.seeds, progress=False, **how)) for job in waiting)
    else:
        yield from _by_workers(waiting, executor, how, work)


def _by_workers(jobs: Sequence[Job], executor: Pool, how: Mapping[str, Any], work: Callable[..., Any]) -> Results:
    """The jobs' results as they are ready; jobs of lost workers are submitted again."""
    pool, losses = _pool(executor), 0
    # A file that is there once the sweep is to stop; where workers see it, and the store's tidying in the end.
    sign = Path(how["store"].folder if how["store"] else tempfile.gettempdir()) / f".{uuid4().hex}.{PART}"
    obedient, pending = partial(_obedient, work, sign=sign, **how), dict[Future, Job]()
    try:
        while jobs or pending:
            _submit(jobs, pool, pending, obedient)
            ready, _ = wait(pending, return_when=futures.FIRST_COMPLETED)
            if any(isinstance(_loss(future), BrokenExecutor) for future in ready):
                ready, _ = wait(pending)  # a pool that breaks takes all of them along
            lost = {future: reason for future in ready if (reason := _loss(future))}
            for future in ready.difference(lost):
                losses = 0
                yield pending.pop(future), future.result()
            jobs = [pending.pop(future) for future in lost]
            if not lost:
                continue
            losses, reason = losses + 1, next(iter(lost.values()))
            if losses > LOSSES:
                raise LostWorkersError(
                    f"workers were lost {losses} times, and nothing was finished in between; what is in the store "
                    f"is kept. A process pool that broke cannot be used again: give a function that makes one."
                ) from reason
            if isinstance(reason, BrokenExecutor):
                pool = _pool(executor)
    finally:
        ended = _stop(pending, sign)
        if pool is not executor:
            pool.shutdown(wait=ended, cancel_futures=True)


def _pool(executor: Pool) -> Executor:
    """What computes: the one that was given, or what the function makes."""
    given = hasattr(executor, "submit") and not isinstance(executor, type)
    pool: Any = executor if given else executor()  # type: ignore[operator]
    if not hasattr(pool, "submit"):
        raise ValueError(f"executor must make an Executor, such as ProcessPoolExecutor(), got {pool!r:.100} from it")
    return pool


def _submit(jobs: Sequence[Job], pool: Executor, pending: dict[Future, Job], work: Callable) -> None:
    """Note what the pool promises for each job; a pool that is already broken promises to fail.

    Processes that are started here do not hear Ctrl-C, which a terminal sends to all; they obey the sign.
    """
    blocked = {signal.SIGINT} if isinstance(pool, futures.ProcessPoolExecutor) else set()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        for job in jobs:
            try:
                future = pool.submit(work, job.spec, seeds=job.seeds)
            except BrokenExecutor as broken:
                future = Future()
                future.set_exception(broken)
            pending[future] = job
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(pending: Iterable[Future], sign: Path) -> bool:
    """Have trainings that are not done write their checkpoints and end; whether all did."""
    if not pending:
        return True
    with suppress(OSError):
        sign.parent.mkdir(parents=True, exist_ok=True)
        sign.touch()
    if left := wait(pending, PATIENCE).not_done:
        for future in left:
            future.cancel()
    else:
        sign.unlink(missing_ok=True)
    return not left


def _obedient(train: Callable[..., xarray.Dataset], spec: Spec, *, sign: Path, **how: Any) -> xarray.Dataset | None:
    """What `train` returns, in a worker; None if the sign to stop comes first.

    It runs in a thread of its own, which can be interrupted wherever the worker is, and whose OpenMP knows nothing of
    a process that this one was forked from.
    """
    if multiprocessing.parent_process() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C comes to all; here the sign counts
    if sign.exists():
        return None
    result: Future = Future()

    def run() -> None:
        try:
            result.set_result(train(spec, progress=False, **how))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not wait([result], LOOK).done:
        if sign.exists():
            ident, interrupt = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, interrupt)
            wait([result], PATIENCE)  # until it is sent again, since a finalizer may have swallowed it
    return None if isinstance(result.exception(), KeyboardInterrupt) else result.result()


def _loss(future: Future) -> BaseException | None:
    """What says that a worker was lost, if one was; Dask's own error is known by name, since Dask may not be there."""
    failure = CancelledError() if future.cancelled() else future.exception()
    lost = isinstance(failure, BrokenExecutor | CancelledError) or type(failure).__name__ == "KilledWorker"
    return failure if lost else None

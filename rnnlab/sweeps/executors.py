"""Trainings given to whoever computes: this process, a pool of processes, a cluster."""

import ctypes
import multiprocessing
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import xarray

from rnnlab.training.loop import finished, train
from rnnlab.training.specs import Spec
from rnnlab.training.store import PART, Store

LOSSES = 3  # of workers, with nothing finished in between, that are borne
LOOK = 0.1  # seconds between a worker's looks at whether it is to stop
PATIENCE = 2.0  # seconds in which trainings that are stopped may write their checkpoints


@dataclass(frozen=True, eq=False)
class Job:
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


class LostWorkersError(RuntimeError):
    """Workers were lost again and again, and nothing was finished in between."""


def results_by(
    jobs: Sequence[Job], executor: Executor | Callable[[], Executor] | None, how: Mapping[str, Any]
) -> Generator[tuple[Job, xarray.Dataset], None, None]:
    """Each job and what came of it, as they are ready; what the store has finished comes first."""
    if not (executor is None or callable(executor) or hasattr(executor, "submit")):
        raise ValueError(f"executor must be an Executor, a function that makes one, or None, got {executor!r:.100}")
    waiting = []
    for job in jobs:
        kept = finished(job.spec, job.seeds, how["store"]) if how["store"] is not None else None
        if kept is None:
            waiting.append(job)
        else:
            yield job, kept
    if executor is None:
        yield from ((job, train(job.spec, seeds=job.seeds, **how)) for job in waiting)
    else:
        yield from _by_workers(sorted(waiting, key=lambda job: -job.work), executor, how)


def _by_workers(
    jobs: Sequence[Job], executor: Executor | Callable[[], Executor], how: Mapping[str, Any]
) -> Iterator[tuple[Job, xarray.Dataset]]:
    """The jobs' results as they are ready; jobs of lost workers are submitted again."""
    pool, losses, sign = _pool(executor), 0, _sign(how["store"])
    pending: dict[Future, Job] = {}
    try:
        _submit(jobs, pool, pending, sign, how)
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
                pool = _pool(executor)
            _submit([pending.pop(future) for future in lost], pool, pending, sign, how)
    finally:
        ended = _stop(pending, sign)
        if pool is not executor:
            pool.shutdown(wait=ended, cancel_futures=True)


def _pool(executor: Executor | Callable[[], Executor]) -> Executor:
    """What computes: the one that was given, or what the function makes."""
    given = hasattr(executor, "submit") and not isinstance(executor, type)
    pool: Any = executor if given else executor()  # type: ignore[operator]
    if not hasattr(pool, "submit"):
        raise ValueError(f"executor must make an Executor, such as ProcessPoolExecutor(), got {pool!r:.100} from it")
    return pool


def _submit(
    jobs: Sequence[Job], pool: Executor, pending: dict[Future, Job], sign: Path, how: Mapping[str, Any]
) -> None:
    """Note what the pool promises for each job; a pool that is already broken promises to fail."""
    with _unheard(pool):
        for job in jobs:
            try:
                future = pool.submit(_obedient, train, job.spec, sign, seeds=job.seeds, **how)
            except BrokenExecutor as broken:
                future = Future()
                future.set_exception(broken)
            pending[future] = job


@contextmanager
def _unheard(pool: Executor) -> Iterator[None]:
    """Processes that are started here do not hear Ctrl-C, which a terminal sends to all; they obey the sign."""
    blocked = {signal.SIGINT} if isinstance(pool, ProcessPoolExecutor) else set()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _sign(store: Store | None) -> Path:
    """A file that is there once the sweep is to stop; where workers see it, and the store's tidying in the end."""
    folder = Path(tempfile.gettempdir()) if store is None else store.folder
    return folder / f".{uuid4().hex}.{PART}"


def _stop(pending: Iterable[Future], sign: Path) -> bool:
    """Have trainings that are not done write their checkpoints and end; whether all did."""
    if not pending:
        return True
    with suppress(OSError):
        sign.parent.mkdir(parents=True, exist_ok=True)
        sign.touch()
    left = wait(pending, PATIENCE).not_done
    for future in left:
        future.cancel()
    if not left:
        sign.unlink(missing_ok=True)
    return not left


def _obedient(train: Callable[..., xarray.Dataset], spec: Spec, sign: Path, **how: Any) -> xarray.Dataset | None:
    """What `train` returns, in a worker; None if the sign to stop comes first.

    It runs in a thread of its own, which can be interrupted wherever the worker is, and whose OpenMP knows nothing of
    a process that this one was forked from.
    """
    alone = threading.current_thread() is threading.main_thread()
    if alone and multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C comes to all; here the sign counts
    if sign.exists():
        return None
    result: Future = Future()

    def run() -> None:
        try:
            result.set_result(train(spec, **how))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not wait([result], LOOK).done:
        if sign.exists():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
            )
            wait([result], PATIENCE)  # until it is sent again, since a finalizer may have swallowed it
    return None if isinstance(result.exception(), KeyboardInterrupt) else result.result()


def _failure(future: Future) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()


def _is_loss(failure: BaseException | None) -> bool:
    """Whether it says that a worker was lost; Dask's own error is known by name, since Dask may not be there."""
    return isinstance(failure, BrokenExecutor | CancelledError) or type(failure).__name__ == "KilledWorker"

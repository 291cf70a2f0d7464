"""Sweeps by processes and by a real Dask cluster, while workers are killed: the same bits, nothing computed twice."""

import functools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rnnlab import INITS, Algorithm, Spec, Store, TemporalOrder, sweeps, train
from rnnlab.sweeps import executors
from rnnlab.sweeps.executors import LostWorkersError
from rnnlab.training.store import CHECKPOINT, RUN
from tests.interrupted import FINISHED, SPEC, endless
from tests.training.test_resume import assert_same

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf8")
BASE = Spec(units=10, batch=5, updates=3_000, check_every=1_000, check_sequences=20, confirm_sequences=20, stop="never")
AXES = {
    "init": {"smart tanh": INITS["smart tanh"]()},
    "algorithm": {"MSGD-CR": Algorithm.named("MSGD-CR")},
    "length": [10, 14],
    "seeds": 4,
}
SHARED = {**AXES, "chunk": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def whole():
    return sweeps.run(BASE, **AXES, device="cpu")


def identities(store):
    return {path.name: path.stat().st_ino for path in store.files(RUN)}


@pytest.fixture(scope="module", autouse=True)
def _workers_start_quickly():
    """From a process that has everything imported."""
    multiprocessing.set_forkserver_preload(["rnnlab.sweeps.executors", "distributed"])
    forkserver.ensure_running()


def a_pool():
    """Two processes with one thread each."""
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(2, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))


class Killer(threading.Thread):
    """Kills a worker once something is finished while others still train, and takes down what was finished by then."""

    def __init__(self, store, workers):
        super().__init__()
        self.store, self.workers, self.kept = store, workers, {}
        self.start()

    def run(self):
        """Wait, and kill."""
        until = time.monotonic() + 60
        while not self.kept and time.monotonic() < until:
            time.sleep(0.005)
            self.kept = identities(self.store)
        os.kill(self.workers()[0], signal.SIGKILL)


def assert_survived(runs, whole, killer, store):
    killer.join()
    assert 0 < len(killer.kept) < 8
    assert identities(store).items() >= killer.kept.items()
    assert len(store.files(RUN)) == 8
    assert set(store.files()) - set(store.files(RUN)) <= set(store.litter())  # checkpoints of what another finished
    assert_same(runs, whole)


def test_a_pool_of_processes_of_which_one_is_killed_loses_nothing_that_is_finished(whole, tmp_path):
    store, pools = Store(tmp_path), []

    def make():
        pools.append(a_pool())
        return pools[-1]

    killer = Killer(store, lambda: list(pools[0]._processes))
    runs = sweeps.run(BASE, **SHARED, store=store, checkpoint_every=0, executor=make)
    assert_survived(runs, whole, killer, store)
    assert len(pools) == 2


@pytest.fixture(scope="module")
def cluster():
    import dask
    from dask.distributed import LocalCluster

    method = dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    with method, LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


def test_a_dask_cluster_of_which_a_worker_is_killed_loses_nothing_that_is_finished(whole, tmp_path, cluster):
    from dask.distributed import Client

    with Client(cluster) as client:
        store, seen = Store(tmp_path), []
        killer = Killer(store, lambda: list(client.run(os.getpid).values()))
        executor = client.get_executor()
        runs = sweeps.run(BASE, **SHARED, store=store, checkpoint_every=0, executor=executor, progress=seen.append)
        assert_survived(runs, whole, killer, store)
        assert [progress.over for progress in seen] == [False] * 7 + [True]
        assert "length 14" in seen[0].note  # the longest come first
        kept = identities(store)
        assert_same(sweeps.run(BASE, **SHARED, store=store, executor=executor), whole)
        assert identities(store) == kept


def test_the_lines_of_the_readme_run_a_sweep_on_a_cluster(cluster, monkeypatch, tmp_path):
    """With a cluster of this machine in place of the queue's; shorter, and in a folder that is there."""
    (lines,) = re.findall(r"```python\n([^`]*dask_jobqueue[^`]*)```", README)
    asked = {}

    def queue(**how):
        asked.update(how)
        return cluster

    monkeypatch.setattr(cluster, "scale", lambda **jobs: asked.update(jobs))
    monkeypatch.setitem(sys.modules, "dask_jobqueue", ModuleType("dask_jobqueue"))
    monkeypatch.setattr(sys.modules["dask_jobqueue"], "SLURMCluster", queue, raising=False)
    assert len([line for line in lines.splitlines() if line.strip()]) == 10
    shorter = lines.replace("/shared/rnnlab", str(tmp_path)).replace("updates=1_000_000", "updates=2, check_every=1")
    assert shorter.count(str(tmp_path)) == 1
    assert "updates=2" in shorter
    names: dict = {}
    exec(re.sub(r"seeds=\d+", "seeds=2", shorter), names)
    assert names["runs"].sizes["seed"] == 2
    assert len(Store(tmp_path).files(RUN)) == names["runs"]["final_error"].size / 2
    assert set(asked) == {"cores", "memory", "walltime", "jobs"}


@pytest.mark.parametrize("kept", [True, False])
def test_threads_can_share_a_store_and_without_one_workers_return_what_they_computed(kept, whole, tmp_path):
    store = Store(tmp_path) if kept else None
    with ThreadPoolExecutor(2) as pool:
        runs = sweeps.run(BASE, **{**SHARED, "length": [10], "seeds": 2}, store=store, executor=pool)
    assert_same(runs, whole.sel(length=[10], seed=[0, 1]))
    assert len(list(tmp_path.iterdir())) == 2 * kept


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_pool_that_breaks_again_and_again_is_given_up_with_what_to_do(monkeypatch):
    monkeypatch.setattr(executors, "train", die)
    pools = []

    def make():
        pools.append(ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")))
        return pools[-1]

    with pytest.raises(LostWorkersError, match="workers were lost 4 times, and nothing was finished in between"):
        sweeps.run(BASE, **SHARED, executor=make)
    assert len(pools) == 4
    with make() as pool, pytest.raises(LostWorkersError, match="give a function that makes one"):
        sweeps.run(BASE, **SHARED, executor=pool)


def test_a_function_that_makes_no_executor_is_refused_with_what_to_make():
    with pytest.raises(ValueError, match=r"^executor must make an Executor, such as ProcessPoolExecutor\(\), got {}"):
        sweeps.run(BASE, **SHARED, executor=dict)


def fail(spec, **_):
    raise ValueError(f"no such thing at {spec.task.length}")


def test_an_error_of_a_training_ends_the_sweep_and_is_told_as_it_was(monkeypatch):
    monkeypatch.setattr(executors, "train", fail)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="no such thing at 14"):
        sweeps.run(BASE, **SHARED, executor=pool)


def test_losses_are_counted_anew_once_something_is_finished(monkeypatch, whole):
    """A worker that is lost before each of eight ensembles, three times for the first, is no reason to give up."""

    class KilledWorker(Exception):
        """As Dask names it."""

    losses = iter([True, True, True, *[False, True] * 20])

    class Losing(Executor):
        def submit(self, function, *args, **given):
            promise: Future = Future()
            if next(losses):
                promise.set_exception(KilledWorker())
            else:
                promise.set_result(function(*args, **given))
            return promise

    one_by_one = functools.partial(sweeps.run, BASE, **{**SHARED, "length": [10], "seeds": 2}, executor=Losing())
    assert_same(one_by_one(), whole.sel(length=[10], seed=[0, 1]))


def assert_kept(store, kept, begun):
    """What was finished is kept, once; what was not goes on to the bits of a training that nothing stopped."""
    assert identities(store) == kept
    assert len(kept) == FINISHED
    assert store.verify() == {}
    files = [store.read(path.name) for path in store.files(CHECKPOINT)]
    assert len(files) == begun
    for file in files:
        updates = (file.header["update"] // SPEC.check_every + 1) * SPEC.check_every
        assert file.header["update"] > 0
        how = {"spec": SPEC.with_(updates=updates, task=TemporalOrder(10)), "seeds": file.arrays["seeds"].tolist()}
        assert_same(train(**how, device="cpu", store=store), train(**how, device="cpu"))


def lines(process, count, *, within):
    """What a process says next; it and its workers are killed if that does not come in time."""
    timer = threading.Timer(within, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    said = [process.stdout.readline().strip() for _ in range(count)]
    timer.cancel()
    assert all(said), f"nothing came within {within} s"
    return said


@pytest.mark.parametrize("method", ["default", "spawn"])  # by default they are forked, before Python 3.14
def test_processes_start_after_torch_has_run_and_ctrl_c_at_a_terminal_ends_them_in_five_seconds(method, tmp_path):
    command, root = [sys.executable, "-m", "tests.interrupted", method, str(tmp_path)], Path(__file__).parents[2]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, start_new_session=True, **pipes) as process:
        try:
            here, by_workers = lines(process, 2, within=60)
            assert by_workers.split() == [here, here]
            lines(process, FINISHED, within=60)
            kept = identities(Store(tmp_path))
            time.sleep(1)  # the others train
            began = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=30)
            assert time.monotonic() - began < 5
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == errors.count("\nKeyboardInterrupt") == 1
    assert_kept(Store(tmp_path), kept, begun=2 if method == "default" else 1)


@pytest.mark.parametrize("way", ["here", "threads", "a function that makes processes", "dask"])
def test_an_interrupt_of_this_process_alone_ends_a_sweep_in_five_seconds(way, tmp_path, request):
    store, sent, finished = Store(tmp_path), [], []

    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def progress(now):
        finished.append(now)
        if len(finished) == FINISHED:
            threading.Timer(1, interrupt).start()

    with ExitStack() as stack:
        executor = None if way == "here" else a_pool
        if way == "threads":
            executor = stack.enter_context(ThreadPoolExecutor(2))
        if way == "dask":
            from dask.distributed import Client

            executor = stack.enter_context(Client(request.getfixturevalue("cluster"))).get_executor()
        with pytest.raises(KeyboardInterrupt):
            endless(store, executor, progress)
        assert time.monotonic() - sent[0] < 5
    assert time.monotonic() - sent[0] < 5
    assert_kept(store, identities(store), begun=1 if way == "here" else 2)

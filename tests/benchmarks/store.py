"""What checkpoints cost, and how much memory a sweep of 2,000 members takes.

    python -m tests.benchmarks.store

trains the same networks with and without checkpoints in turn, and prints updates of one network per second and their
ratio; then a sweep of four ensembles of 500 networks on two processes, and the largest memory of all together.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch

from rnnlab import BasicTanh, Spec, Store, TemporalOrder, sweeps, train
from rnnlab.descent.algorithm import Algorithm

SPEC = Spec(
    task=TemporalOrder(50), algorithm=Algorithm.named("MSGD-CR"), updates=4_000, check_every=1_000, stop="never"
)
ROUNDS = 6


def seconds(store: Store | None, every: float) -> tuple[float, float]:
    """Wall and processor time of one training."""
    wall, used = time.perf_counter(), time.process_time()
    train(SPEC, seeds=10, device="cpu", store=store, checkpoint_every=every)
    return time.perf_counter() - wall, time.process_time() - used


def checkpoints(every: float) -> None:
    """Print throughput with a checkpoint every so many seconds beside that without."""
    rows = []
    for _ in range(ROUNDS):
        without = seconds(None, every)
        with tempfile.TemporaryDirectory() as folder:
            held = seconds(Store(folder), every)
        rows.append((without, held))
    made = 10 * SPEC.updates
    for name, i in (("wall", 0), ("processor", 1)):
        without, held = (statistics.median(row[k][i] for row in rows) for k in (0, 1))
        ratios = sorted(row[1][i] / row[0][i] for row in rows)
        print(
            f"{name:9} time: {made / without:7.0f} updates/s without, {made / held:7.0f} "
            f"with a checkpoint every {every} s, "
            f"ratio of times {statistics.median(ratios):.4f} ({ratios[0]:.4f} to {ratios[-1]:.4f})"
        )


def memory() -> None:
    """Print the largest resident memory of a sweep of 2,000 members on two processes."""
    peak, done, me = [0], threading.Event(), psutil.Process()

    def watch() -> None:
        while not done.wait(0.05):
            everyone = [me, *me.children(recursive=True)]
            sizes = []
            for process in everyone:
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], sum(sizes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    short = SPEC.with_(updates=200, check_every=100)
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(
            2, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool,
    ):
        began = time.perf_counter()
        runs = sweeps.run(
            short,
            init={"basic tanh": BasicTanh()},
            algorithm={"MSGD-CR": SPEC.algorithm},
            length=[50],
            seeds=2_000,
            chunk=500,
            device="cpu",
            store=Store(folder),
            executor=pool,
            checkpoint_every=1,
        )
        took = time.perf_counter() - began
        stored = sum(path.stat().st_size for path in Path(folder).iterdir())
    done.set()
    watcher.join()
    print(
        f"{runs.sizes['seed']} members of T = 50, {short.updates} updates each, on two processes of {os.cpu_count()} "
        f"cores: {took:.0f} s, largest memory of three processes together {peak[0] / 2**30:.2f} GiB, "
        f"{stored / 2**20:.0f} MiB stored"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for interval in map(float, sys.argv[1:] or ["1"]):
        checkpoints(interval)
    memory()

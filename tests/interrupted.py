"""A sweep that waits for its Ctrl-C: python -m tests.interrupted METHOD FOLDER.

It says how a sweep here and one by processes come out, and then whenever an ensemble of an endless one is finished.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from rnnlab import Algorithm, SmartTanh, Spec, Store, sweeps
from tests.soak import digest

SPEC = Spec(init=SmartTanh(), units=10, batch=5, check_every=1_000, check_sequences=20, confirm_sequences=20)
SPEC = SPEC.with_(updates=1_000_000, stop="never")
AXES = {"init": {"smart tanh": SPEC.init}, "length": [10], "device": "cpu", "chunk": 1}
FINISHED = 3


def short(executor):
    """A sweep that is soon over."""
    once = SPEC.with_(updates=10, check_every=10)
    return sweeps.run(once, **AXES, algorithm={"MSGD-CR": SPEC.algorithm}, seeds=2, executor=executor)


def endless(store, executor, progress):
    """A sweep of which half diverges at once and half would take a minute."""
    algorithms = {"wild": Algorithm.named("MSGD", learning_rate=1e38), "MSGD-CR": SPEC.algorithm}
    sweeps.run(SPEC, **AXES, algorithm=algorithms, seeds=FINISHED, store=store, executor=executor, progress=progress)


def main(method, folder):
    """Sweep here, by processes, and without end."""
    torch.set_num_threads(2)
    torch.rand(500, 500) @ torch.rand(500, 500)  # now OpenMP has its threads
    print(digest(short(None)), flush=True)
    processes, context = (2, None) if method == "default" else (1, method)  # which start slowly
    with ProcessPoolExecutor(processes, mp_context=get_context(context)) as pool:
        print(digest(short(pool)), digest(pool.submit(short, None).result()), flush=True)
        endless(Store(folder), pool, lambda now: print(now.done, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Sweeps that are killed by SIGKILL, again and again, and go on: how many kills were survived, and where they hit.

    python -m tests.soak 1000

goes on from the kills that it has made already, and keeps count in _build/soak.json. `chain` is also what the tests of
resuming run a few times.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COUNT = ROOT / "_build" / "soak.json"
UPDATES = 600
LIVES = 4  # kills of one sweep before it is let through
BINS = 10


def sweep(store: Path | None, first_seed: int) -> str:
    """Train a small sweep, and return a digest of every bit that came of it."""
    from rnnlab import INITS, Algorithm, Spec, Store, sweeps

    base = Spec(
        units=10,
        batch=5,
        updates=UPDATES,
        check_every=UPDATES // 3,
        check_sequences=20,
        confirm_sequences=20,
        stop="never",
    )
    runs = sweeps.run(
        base,
        init={"smart tanh": INITS["smart tanh"]()},
        algorithm={"MSGD-CR": Algorithm.named("MSGD-CR")},
        length=[10, 14],
        seeds=range(first_seed, first_seed + 3),
        device="cpu",
        store=None if store is None else Store(store),
        chunk=2,
        checkpoint_every=0,
    )
    return digest(runs)


def digest(runs) -> str:
    """Of every bit of a dataset."""
    found = hashlib.sha256()
    for name in sorted(map(str, runs.variables)):
        values = runs[name].values
        found.update(values.astype("U").tobytes() if values.dtype.kind in "OU" else values.tobytes())
    return found.hexdigest()


# The nursery: a process that has everything imported, and forks one that sweeps whenever it is told to.


def nursery() -> None:
    """For every line of JSON on the standard input fork some sweeps, kill them at their instant, say what happened."""
    import torch

    torch.set_num_threads(1)
    sweep(None, 0)  # what is loaded on first use is loaded now
    for line in sys.stdin:
        print(json.dumps(_life(**json.loads(line))), flush=True)


def _life(store: str | None, first_seed: int, instant: float | None, in_a_write: bool, processes: int) -> dict:
    began = time.monotonic()
    children = [_fork(store, first_seed) for _ in range(processes)]
    said, killed = {}, False
    while len(said) < processes:
        passed = time.monotonic() - began
        if instant is not None and passed >= instant and (not in_a_write or _parts(Path(str(store)))):
            killed = True
            os.kill(children[0][0], signal.SIGKILL)
        for pid, pipe in children:
            if pid not in said and os.waitpid(pid, 0 if killed else os.WNOHANG)[0]:
                with os.fdopen(pipe) as stream:
                    said[pid] = stream.read()
        if instant is None or passed < instant - 0.002:
            time.sleep(0.001)
    return {"killed": killed, "digests": list(said.values()), "seconds": time.monotonic() - began}


def _fork(store: str | None, first_seed: int) -> tuple[int, int]:
    """A process that sweeps, and where to read its digest."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.write(writing, sweep(Path(store) if store else None, first_seed).encode())
    finally:
        os._exit(0)


def _parts(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if name.endswith(".part")} if folder.exists() else set()


@contextmanager
def nursed() -> Iterator["Nursery"]:
    """A nursery, for as long as it is needed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.soak", "--nursery"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


@dataclass(frozen=True)
class Nursery:
    """Starts sweeps in processes of their own."""

    process: subprocess.Popen

    def life(
        self,
        store: Path | None,
        first_seed: int,
        *,
        instant: float | None = None,
        in_a_write: bool = False,
        processes: int = 1,
    ) -> dict:
        """Sweep; until `instant` (seconds), or from then until something is being written, if that is given."""
        asked = {
            "store": store and str(store),
            "first_seed": first_seed,
            "instant": instant,
            "in_a_write": in_a_write,
            "processes": processes,
        }
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps(asked), file=stdin, flush=True)
        return json.loads(stdout.readline())


def chain(nursery: Nursery, folder: Path, number: int) -> Counter:
    """One sweep, killed up to `LIVES` times and let through in the end; what hit it, once its bits are right."""
    from rnnlab import Store

    draw, counts, store = random.Random(number), Counter(), Store(folder)
    whole = nursery.life(None, number)
    for life, at in enumerate(sorted(draw.random() for _ in range(LIVES))):
        parts = _parts(folder)
        instant = max(0.0, at - share(store)) * whole["seconds"]
        told = nursery.life(folder, number, instant=instant, in_a_write=life > 0)
        if not told["killed"]:
            break
        counts["kills"] += 1
        counts["after the first checkpoint"] += bool(store.files())
        counts["inside a write"] += bool(_parts(folder) - parts)
        counts[f"from {int(at * BINS) / BINS:.0%} of the run"] += 1
    assert store.verify() == {}, folder
    kept = {path: path.stat().st_ino for path in store.files("run")}
    assert nursery.life(folder, number)["digests"] == whole["digests"], folder
    assert kept == {path: path.stat().st_ino for path in kept}, "a finished ensemble was computed again"
    counts["sweeps"] += 1
    return counts


def share(store) -> float:
    """How much of the sweep its files have."""
    done = {}
    for path in store.files():
        file = store.read(path.name)
        done[path.stem] = max(done.get(path.stem, 0), len(file.arrays["seeds"]) * file.header["update"])
    return sum(done.values()) / (2 * 3 * UPDATES)


def main(kills: int) -> None:
    """Kill until there are so many."""
    from tqdm import tqdm

    counts = Counter(json.loads(COUNT.read_text()) if COUNT.exists() else {})
    COUNT.parent.mkdir(exist_ok=True)
    with nursed() as nursery, tqdm(total=kills, initial=counts["kills"], unit="kill") as bar:
        while counts["kills"] < kills:
            with tempfile.TemporaryDirectory(dir=COUNT.parent) as folder:
                counts += chain(nursery, Path(folder) / "store", counts["sweeps"])
            part = COUNT.with_suffix(".part")
            part.write_text(json.dumps(counts))
            part.replace(COUNT)
            bar.update(counts["kills"] - bar.n)
    print(*(f"{count:6} {what}" for what, count in sorted(counts.items())), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int, nargs="?", default=1000)
    parser.add_argument("--nursery", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    nursery() if given.nursery else main(given.kills)

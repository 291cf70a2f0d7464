"""Golden values: what is drawn, how networks begin and where three updates lead, for each NUMERICS.

Numbers that change make stored results and ids lie, unless NUMERICS is raised. Whoever changes them on purpose raises
`rnnlab.training.specs.NUMERICS` and has

    python -m tests.test_golden

add a line for it to `tests/golden.json`. Lines that are there stay as they are: each holds a digest of all before.
"""

import hashlib
import itertools
import json
from pathlib import Path

import pytest
import torch

import rnnlab
from rnnlab import bits
from rnnlab.engine import reference
from rnnlab.training.specs import NUMERICS

FILE = Path(__file__).with_name("golden.json")
SEEDS, UPDATES = torch.tensor([0, 3, 2**62 + 1]), torch.tensor([0, 7, 2_000_000])
SIZES = rnnlab.Sizes(inputs=6, units=20, outputs=4)
TASKS = {
    "temporal order": rnnlab.TemporalOrder(30),
    "temporal order, mixed lengths, as in v2": rnnlab.TemporalOrder((10, 40), second_window="v2"),
    "3-bit temporal order": rnnlab.ThreeBitTemporalOrder((20, 30)),
    "addition": rnnlab.Addition(40),
    "multiplication": rnnlab.Multiplication((20, 40)),
    "random permutation": rnnlab.RandomPermutation((5, 30)),
    "noiseless memorization": rnnlab.NoiselessMemorization((5, 9)),
    "noiseless memorization, every pattern, trigger before": rnnlab.NoiselessMemorization(
        6, 2, 3, every_pattern=True, trigger="before"
    ),
}
# The whole, and a window that begins within the sequences; each purpose once.
VIEWS = {"train": (bits.TRAIN, None), "check": (bits.CHECK, range(3, 9)), "test": (bits.TEST, None)}


def digest(chunk, first):
    """Of what lies within each member's length: integers, whatever their width, and numbers, exact in float32."""
    hashed = hashlib.sha256(chunk.lengths.numpy().tobytes())
    for k, m in itertools.product(range(len(UPDATES)), range(len(SEEDS))):
        L = int(chunk.lengths[k, m])
        for x in (chunk.inputs[k, m, : max(0, L - first)], chunk.targets[k, m, :L]):
            kind = torch.float32 if x.is_floating_point() else torch.int64
            hashed.update(f"{tuple(x.shape)}".encode() + x.to(kind).contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]


def sequences(task):
    drawn = {}
    for view, (stream, steps) in VIEWS.items():
        chunk = task.chunk(SEEDS, UPDATES, batch=8, stream=stream, steps=steps)
        drawn[view] = digest(chunk, steps.start if steps else 0)
    return drawn


def rounded(theta):
    """A few parameters of each member and a sum that all of them enter, each with a weight of its own."""
    weights = torch.arange(1, theta.shape[1] + 1) / theta.shape[1]
    few = theta[:, :: theta.shape[1] // 7]
    return [[round(x, 6) for x in row] for row in torch.cat((few, (theta @ weights.double())[:, None]), dim=1).tolist()]


def start(init):
    return init.parameters(SIZES, SEEDS.tolist(), dtype=torch.float64)


def after_three_updates(init):
    network, task = start(init), rnnlab.TemporalOrder((10, 14))
    chunk = task.chunk(SEEDS, torch.arange(3), batch=4)
    algorithm = rnnlab.Algorithm.named("MSGD-CR", learning_rate=0.1)
    reference.sgd(network, chunk, sigma=init.sigma, loss=task.loss, algorithm=algorithm)
    return rounded(network.theta)


INITS = {name: init() for name, init in rnnlab.INITS.items()} | {"incoming": rnnlab.SmartTanh(sparse="incoming")}


def entry_of_today(before):
    return {
        "numerics": NUMERICS,
        "before": chained(before),
        "sequences": {name: sequences(task) for name, task in TASKS.items()},
        "start": {name: rounded(start(init).theta) for name, init in INITS.items()},
        "after three updates": {name: after_three_updates(init) for name, init in INITS.items()},
    }


def chained(entries):
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def edited(entries):
    """The first entry, by its NUMERICS, that no longer is what a later one was added to; None if all are."""
    for i, entry in enumerate(entries):
        if entry["before"] != chained(entries[:i]):
            return entries[max(0, i - 1)]["numerics"]
    return None


@pytest.fixture(scope="module")
def golden():
    entries = json.loads(FILE.read_text())
    assert edited(entries) is None, "an earlier entry was edited; take the edit back, and raise NUMERICS instead"
    here = [entry for entry in entries if entry["numerics"] == NUMERICS]
    assert len(here) == 1, f"no entry for NUMERICS {NUMERICS}: run python -m tests.test_golden"
    return here[0]


def test_numerics_only_ever_rises_and_the_last_entry_is_todays():
    numbers = [entry["numerics"] for entry in json.loads(FILE.read_text())]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == NUMERICS


@pytest.mark.parametrize("name", TASKS)
def test_sequences_are_those_of_this_numerics(name, golden):
    assert sequences(TASKS[name]) == golden["sequences"][name]


@pytest.mark.parametrize("name", INITS)
def test_networks_begin_as_they_do_at_this_numerics(name, golden):
    for got, want in zip(rounded(start(INITS[name]).theta), golden["start"][name], strict=True):
        assert got == pytest.approx(want, rel=0, abs=2e-6)  # each side is rounded to 1e-6


@pytest.mark.parametrize("name", INITS)
def test_three_updates_lead_where_they_do_at_this_numerics(name, golden):
    for got, want in zip(after_three_updates(INITS[name]), golden["after three updates"][name], strict=True):
        assert got == pytest.approx(want, rel=0, abs=2e-6)


def test_all_tasks_and_initializations_of_the_package_have_golden_values(golden):
    assert {task.name for task in TASKS.values()} == set(rnnlab.TASKS)
    assert set(rnnlab.INITS) <= set(INITS)
    assert set(golden["sequences"]) == set(TASKS)
    assert set(golden["start"]) == set(golden["after three updates"]) == set(INITS)


def test_an_edit_of_an_earlier_entry_is_seen():
    entries = []
    for numerics in (1, 2, 3):
        entries.append({"numerics": numerics, "before": chained(entries), "sequences": {"a": "0"}})
    assert edited(entries) is None
    entries[1]["sequences"]["a"] = "1"
    assert edited(entries) == 2


if __name__ == "__main__":
    entries = json.loads(FILE.read_text()) if FILE.exists() else []
    if any(entry["numerics"] == NUMERICS for entry in entries):
        raise SystemExit(f"tests/golden.json has an entry for NUMERICS {NUMERICS}; raise it first")
    lines = ",\n".join(json.dumps(entry) for entry in [*entries, entry_of_today(entries)])
    FILE.write_text(f"[\n{lines}\n]\n")

"""A training that is interrupted, at whatever instant and however often, ends with the bits of one that is not."""

import functools
import itertools
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import (
    LSTM,
    AdamW,
    Algorithm,
    BasicTanh,
    Halving,
    Lowest,
    NoiselessMemorization,
    Norm,
    PerMatrix,
    Rolls,
    SigmoidInit,
    Simple,
    Spec,
    SplitLoss,
    Store,
    Tanh,
    train,
)
from rnnlab.training.store import CHECKPOINT, RUN
from tests.own import LogRatio, Orthogonal, Pieces, Quantile, RobustAddition, SignDescent, WarmUp
from tests.soak import chain, nursed

# Of four members one ends at update 420, one at 700, one at 1,000 and one not at all; 128 updates are made at a time.
FUSED = Spec(
    task=NoiselessMemorization(1, 2, 1),
    init=BasicTanh(),
    algorithm=Algorithm.named("MSGD-C", learning_rate=0.05),
    units=8,
    batch=5,
    updates=1_000,
    check_every=140,
    check_sequences=50,
    confirm_sequences=50,
    stop="no error",
)
SEEDS = [4, 1, 2, 0]
SWEPT = FUSED.with_(algorithm=Algorithm(learning_rate=0.05, clip=PerMatrix(1.0)), updates=150, check_every=60)
BATCHED = SWEPT.with_(cell=Simple(Tanh(), learned_start=True))
WILD = FUSED.with_(algorithm=Algorithm.named("MSGD", learning_rate=1e38))
SPECS = {
    "fused": FUSED,
    "only gradients fused": SWEPT,
    "batched": BATCHED,
    "diverging": WILD,
    "never": FUSED.with_(stop="never"),
}
SPECS["Adam with noise"] = FUSED.with_(algorithm=AdamW(clip=Norm(1.0), noise=0.1), updates=300)
PIECES = SWEPT.with_(task=Pieces(), choose=Lowest("loss"), stop="never")  # states go on from update to update
SPECS["Adam on pieces"] = PIECES.with_(algorithm=AdamW())
SPECS["a rule that remembers"] = PIECES.with_(algorithm=Algorithm(clip=Quantile()), rate=Halving("loss"))
SPECS["an LSTM that learns where to begin"] = PIECES.with_(cell=LSTM(learned_start=True), algorithm=AdamW())
OWN = Algorithm(0.05, Quantile(), LogRatio(), WarmUp())
SPECS["all parts of one's own"] = SWEPT.with_(task=RobustAddition(10), init=Orthogonal(), algorithm=OWN)
SPECS["a method of one's own"] = PIECES.with_(algorithm=SignDescent())
# Made-up music, of 46 chunks an epoch: every check but the last stands within one, and for some seeds within a piece.
MUSIC = FUSED.with_(task=Rolls("chords", 100), init=SigmoidInit(0.1), batch=1, updates=84, check_every=12, stop="never")
MUSIC = MUSIC.with_(algorithm=Algorithm(1.0, Norm(8.0)), check_sequences=2, confirm_sequences=2)
SPECS["music in the middle of an epoch"] = MUSIC.with_(
    measures=(SplitLoss(),), rate=Halving("validation_loss"), choose=Lowest("validation_loss")
)


@functools.cache
def whole(name):
    """What a training that nothing interrupts comes to."""
    return train(SPECS[name], seeds=SEEDS, device="cpu")


@pytest.fixture(scope="module")
def nursery():
    with nursed() as nursery:
        yield nursery


class Interruption(Exception):
    """What ends a training here."""


@dataclass(frozen=True)
class Ending(Store):
    """A store whose user is interrupted right after the writes with these numbers."""

    at: set[int] = field(default_factory=set)
    count: list[int] = field(default_factory=lambda: [0])

    def write(self, file):
        """Write, and end."""
        super().write(file)
        self.count[0] += 1
        if self.count[0] in self.at:
            raise Interruption


def resumed(spec, store):
    """Train until it is done; and how often that took."""
    for lives in range(1, 100):
        try:
            return train(spec, seeds=SEEDS, device="cpu", store=store, checkpoint_every=0), lives
        except Interruption:
            pass
    raise AssertionError("no end")


def assert_same(a, b):
    """Equal to the bit, NaN included."""
    assert set(a.variables) == set(b.variables)
    for name in a.variables:
        x, y = a[name].values, b[name].values
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.astype("U").tolist() == y.astype("U").tolist() if x.dtype.kind in "OU" else x.tobytes() == y.tobytes()


def test_the_members_of_these_trainings_end_at_different_checks():
    ends = whole("fused").first_no_error.values
    assert len(set(ends[~np.isnan(ends)])) >= 2
    assert np.isnan(ends).any()
    assert whole("fused").engine.startswith("cpu ")
    assert whole("only gradients fused").engine.startswith("cpu ")
    assert whole("batched").engine == "batched"
    assert whole("diverging").diverged_at.notnull().any()


def test_music_is_interrupted_within_epochs_and_within_pieces():
    every, stops = MUSIC.task.epoch(), range(12, 84, 12)
    assert whole("music in the middle of an epoch").engine.startswith("cpu ")
    assert all(stop % every for stop in stops)
    begins = MUSIC.task.chunk(torch.tensor(SEEDS), torch.tensor(stops), batch=1).begins
    assert not begins.all()


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=3)
@given(at=st.sets(st.integers(1, 18), min_size=1, max_size=4))
def test_a_training_interrupted_after_any_of_its_checkpoints_ends_with_the_bits_of_a_whole_one(name, at):
    with TemporaryDirectory() as folder:
        store = Ending(Path(folder), at=at)
        runs, lives = resumed(SPECS[name], store)
        assert_same(runs, whole(name))
        assert lives <= len(at) + 1
        assert lives > 1 or store.count[0] < min(at)
        assert len(store.files(RUN)) == 1
        assert store.litter() == store.files(CHECKPOINT)  # left behind if the last write was the last act
        assert_same(train(SPECS[name], seeds=SEEDS, device="cpu", store=Store(Path(folder))), whole(name))


def interrupted(spec, store, at):
    """Train, but for a Ctrl-C at this line of those that it executes, or in this function; whether that came."""
    count = itertools.count(1)

    def trace(frame, event, _):
        if event == "line" and at in (next(count), frame.f_code.co_name):
            raise KeyboardInterrupt
        return trace

    def files(frame, *_):
        return trace if frame.f_code.co_filename.endswith(("loop.py", "records.py", "ensembles.py")) else None

    sys.settrace(files)
    try:
        train(spec, seeds=SEEDS, device="cpu", store=store)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize("line", range(420, 2_300, 250))
def test_ctrl_c_at_any_line_keeps_what_was_done_and_the_next_call_goes_on_to_the_bits_of_a_whole_training(
    line, tmp_path
):
    store, seen = Store(tmp_path), []
    assert interrupted(FUSED, store, line)
    assert len(store.files(CHECKPOINT)) == 1
    done = store.read(store.files(CHECKPOINT)[0].name).header["update"]
    assert_same(train(FUSED, seeds=SEEDS, device="cpu", store=store, progress=seen.append), whole("fused"))
    assert [progress.done for progress in seen] == [u for u in (*range(140, 1_000, 140), 1_000) if u > done]


@pytest.mark.parametrize("name", ["fused", "never"])
def test_a_longer_budget_goes_on_from_the_end_of_a_shorter_one_with_the_bits_of_one_that_never_stopped(name, tmp_path):
    spec, updates = SPECS[name], []
    for budget in (140, 700, 1_000):
        store, seen = Ending(tmp_path), []
        runs = train(spec.with_(updates=budget), seeds=SEEDS, device="cpu", store=store, progress=seen.append)
        updates.append([progress.done for progress in seen])
    assert_same(runs, whole(name))
    assert updates == [[140], [280, 420, 560, 700], [840, 980, 1_000]]
    assert len(store.files(RUN)) == 3
    assert runs.attrs["wall_s"] > 0


def test_ctrl_c_in_the_middle_of_a_check_counts_nothing_twice(tmp_path):
    spec = FUSED.with_(algorithm=Algorithm.named("MSGD-C", learning_rate=1e38), updates=280)  # guarded again and again
    assert interrupted(spec, Store(tmp_path), "happened")
    runs = train(spec, seeds=SEEDS, device="cpu", store=Store(tmp_path))
    assert (runs["guarded"] > 100).any()
    assert_same(runs, train(spec, seeds=SEEDS, device="cpu"))


def test_a_member_that_diverges_after_a_shorter_budgets_end_has_lost_the_fresh_error_that_it_had_there(tmp_path):
    spec, how = WILD.with_(check_every=1, updates=8), {"seeds": SEEDS, "device": "cpu"}
    short = train(spec.with_(updates=1), **how, store=Store(tmp_path))
    assert short["fresh_error"].notnull().any()
    runs = train(spec, **how, store=Store(tmp_path))
    assert (runs["diverged_at"].notnull() & short["fresh_error"].notnull()).any()
    assert_same(runs, train(spec, **how))


def test_a_longer_budget_starts_anew_where_the_shorter_one_ended_between_two_checks(tmp_path):
    store, seen = Store(tmp_path), []
    train(FUSED.with_(updates=300), seeds=SEEDS, device="cpu", store=store)
    assert_same(train(FUSED, seeds=SEEDS, device="cpu", store=store, progress=seen.append), whole("fused"))
    assert seen[0].done == 140


def test_a_budget_that_members_did_not_use_up_serves_a_longer_one(tmp_path):
    easy = FUSED.with_(algorithm=Algorithm.named("MSGD-C", learning_rate=0.2))
    store, seen = Store(tmp_path), []
    short = train(easy, seeds=SEEDS, device="cpu", store=store)
    assert short.first_no_error.notnull().all()
    long = train(easy.with_(updates=1_000_000), seeds=SEEDS, device="cpu", store=store, progress=seen.append)
    assert seen == []
    assert_same(long.drop_vars("run"), short.drop_vars("run"))
    assert long.run[0] == easy.with_(updates=1_000_000).id(SEEDS[0])


def test_a_finished_training_is_read_and_not_computed_again(tmp_path):
    store, seen = Store(tmp_path), []
    first = train(FUSED, seeds=SEEDS, device="cpu", store=store)
    kept = [path.stat().st_ino for path in store.files()]
    again = train(FUSED, seeds=SEEDS, device="cpu", store=store, progress=seen.append)
    assert_same(again, first)
    assert again.attrs == first.attrs | {"wall_s": again.attrs["wall_s"]}
    assert seen == []
    assert [path.stat().st_ino for path in store.files()] == kept


def test_a_training_writes_no_more_checkpoints_than_the_interval_allows(tmp_path):
    every, never = Ending(tmp_path / "a"), Ending(tmp_path / "b")
    train(FUSED, seeds=SEEDS, device="cpu", store=every, checkpoint_every=0)
    train(FUSED, seeds=SEEDS, device="cpu", store=never, checkpoint_every=3_600)
    assert every.count[0] == 15  # parcels of 128 and 12 updates, seven times, and the last 20
    assert never.count[0] == 1
    assert never.files(CHECKPOINT) == []


def test_a_training_that_another_worker_finishes_first_takes_its_result_and_leaves_no_checkpoint(tmp_path):
    store, made = Store(tmp_path), []

    def race(progress):
        made.append(progress.done)
        if len(made) == 1:
            train(FUSED, seeds=SEEDS, device="cpu", store=store)

    result = train(FUSED, seeds=SEEDS, device="cpu", store=store, checkpoint_every=0, progress=race)
    assert_same(result, whole("fused"))
    assert made == [140]
    assert [path.suffix for path in store.files()] == [f".{RUN}"]


def test_sweeps_killed_at_random_instants_go_on_to_the_bits_of_whole_ones(nursery, tmp_path, record_property):
    """Of four kills three wait for a write to begin; the instants fall evenly over the run."""
    counts: Counter = Counter()
    for number in range(8):
        counts += chain(nursery, tmp_path / str(number), number)
        if counts["kills"] >= 10 and counts["inside a write"]:
            break
    record_property("kills", dict(counts))
    print(dict(counts))
    assert counts["kills"] >= 10
    assert counts["after the first checkpoint"] >= counts["kills"] / 2
    assert counts["inside a write"] >= 1


def test_sweeps_on_one_store_at_once_do_not_harm_each_other_even_if_one_is_killed(nursery, tmp_path):
    told = nursery.life(tmp_path, 0, processes=3, instant=0.2)
    assert told["killed"]
    assert [digest for digest in told["digests"] if digest] == nursery.life(None, 0)["digests"] * 2
    store = Store(tmp_path)
    assert store.verify() == {}
    assert len(store.files(RUN)) == 4
    assert store.files(CHECKPOINT) == store.litter()  # at most what the killed one left behind

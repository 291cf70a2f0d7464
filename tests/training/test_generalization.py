"""A network that trains on ends where a plain loop ends, however often it is interrupted."""

import functools
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import Algorithm, Ensemble, Spec, Store, TemporalOrder, bits, train
from rnnlab.__main__ import main
from rnnlab.engine import batched
from rnnlab.training import ensembles, store
from rnnlab.training.generalization import Further, train_on
from rnnlab.training.loop import OtherEngineError
from rnnlab.training.store import FURTHER, encode
from tests.training.test_resume import Ending, Interruption

SPEC = Spec(
    task=TemporalOrder((10, 14)),
    algorithm=Algorithm.named("MSGD-CR", learning_rate=0.03),
    units=10,
    updates=100,
    check_every=100,
    check_sequences=50,
    confirm_sequences=50,
    stop="never",
)
SEED, LENGTHS, TESTS = 1, [10, 16, 20], 11  # it holds at the eleventh test


@functools.cache
def begun():
    """The parameters after 100 updates."""
    return train(SPEC, seeds=[SEED], device="cpu").theta.values[0]


def further(more=2_000, lengths=LENGTHS, **how):
    given = {"seed": SEED, "update": 100, "lengths": lengths, "more": more, "sequences": 50, "device": "cpu"}
    return train_on(SPEC, begun(), **(given | how))


@functools.cache
def whole():
    return further()


def assert_same(a, b):
    assert (a.update, a.held, a.over) == (b.update, b.held, b.over)
    assert a.theta.tobytes() == b.theta.tobytes()
    assert a.fresh.tobytes() == b.fresh.tobytes()


def test_it_ends_at_the_first_test_that_a_plain_loop_passes():
    ensemble = Ensemble(SPEC, [SEED], device="cpu")
    ensemble.parameters.theta.copy_(torch.from_numpy(begun()))
    ensemble.update = 100
    passed = []
    for _ in range(TESTS):
        ensemble.advance(100)
        longer = [ensemble.errors(50, stream=bits.TEST, task=replace(SPEC.task, length=T)) for T in LENGTHS]
        passed.append(not any([ensemble.errors(50), *longer]))
    assert passed == [False] * (TESTS - 1) + [True]
    fresh = [ensemble.errors(50, stream=64, task=task).item() for task in (SPEC.task, *map(TemporalOrder, LENGTHS))]
    assert any(fresh)  # the test that ended it was lucky
    assert_same(whole(), Further(ensemble.update, True, True, ensemble.parameters.theta[0].numpy(), np.array(fresh)))


def test_a_network_whose_own_task_is_not_without_error_does_not_hold():
    seen = []
    assert further(lengths=[], progress=seen.append).update > 200
    assert [one.held for one in seen] == [False] * (len(seen) - 1) + [True]


def test_one_that_does_not_hold_yet_has_no_parameters():
    seen = []
    ended = further(more=250, progress=seen.append)
    assert [one.update for one in seen] == [200, 300, 400]  # rounded up
    assert [one.over for one in seen] == [False, False, True]
    assert not ended.held
    assert ended.theta.shape == whole().theta.shape
    assert np.isnan(ended.theta).all()
    assert np.isnan(ended.fresh).tolist() == [True] * 4
    assert ended.status == "400 updates, does not hold yet"
    assert whole().status == "1,200 updates, holds"
    assert (further(more=0).update, further(more=0).held) == (100, False)


@settings(max_examples=5)
@given(at=st.sets(st.integers(1, TESTS), min_size=1, max_size=4))
def test_interrupted_after_any_of_its_checkpoints_it_ends_with_the_bits_of_a_whole_one(at):
    with TemporaryDirectory() as folder:
        kept, lives = Ending(Path(folder), at=at), 0
        while True:
            lives += 1
            try:
                ended = further(store=kept, checkpoint_every=0)
                break
            except Interruption:
                assert lives <= len(at)
        assert lives > 1
        assert kept.count[0] == TESTS  # nothing was computed twice
        assert_same(ended, whole())
        assert len(Store(folder).files(FURTHER)) == len(Store(folder).files()) == 1


def test_a_larger_budget_goes_on_and_a_smaller_one_is_answered_as_if_nothing_had_come_after(tmp_path):
    seen, kept = [], Store(tmp_path)
    further(more=300, store=kept)
    (path,) = kept.files()
    file = kept.read(path.name)
    file.header["provenance"]["wall_s"] = 1e6
    kept.write(file)
    assert_same(further(store=kept, progress=seen.append), whole())
    assert [one.update for one in seen] == [*range(500, 1_201, 100)]
    assert kept.read(path.name).header["provenance"]["wall_s"] > 1e6
    for more in (200, 1_000, 1_100):
        assert_same(further(more=more, store=kept, progress=seen.append), further(more=more))
    assert len(seen) == 8


def test_another_start_seed_or_test_is_another_training(tmp_path):
    kept = Store(tmp_path)
    further(more=100, store=kept)
    for number, other in enumerate([{"seed": 2}, {"lengths": [10]}, {"update": 200}, {"sequences": 40}], start=2):
        further(**({"more": 100, "store": kept} | other))
        assert len(kept.files(FURTHER)) == number
    train_on(SPEC, begun() + 1, seed=SEED, update=100, lengths=LENGTHS, more=100, sequences=50, store=kept)
    assert len(kept.files(FURTHER)) == 6


def test_what_another_engine_has_begun_is_refused_and_what_it_has_finished_is_a_result(tmp_path, monkeypatch):
    kept = Store(tmp_path)
    further(more=300, store=kept)
    monkeypatch.setattr(ensembles, "choose", lambda **_: batched)
    assert further(more=300, store=kept).update == 400
    with pytest.raises(OtherEngineError, match=r"holds 400 updates by .*'cpu .* but here is .*'batched'.*restart=True"):
        further(store=kept)
    seen = []
    further(more=400, store=kept, restart=True, progress=seen.append)
    assert [one.update for one in seen] == [200, 300, 400, 500]
    monkeypatch.undo()
    further(store=kept, restart=True)
    monkeypatch.setattr(ensembles, "choose", lambda **_: batched)
    assert_same(further(store=kept), whole())


def test_words_among_the_arrays_are_no_words(tmp_path):
    kept = Store(tmp_path)
    further(store=kept)
    (path,) = kept.files()
    file = store.decode(path.read_bytes())
    header = {key: value for key, value in file.header.items() if key != "held"}
    path.write_bytes(encode(store.File(file.name, header, file.arrays | {"held": np.ones(1)})))
    with pytest.warns(UserWarning, match=r"lacks \['held'\]"):
        assert_same(further(store=kept), whole())


@pytest.mark.parametrize("lost", ["a byte", "held", "theta"])
def test_a_damaged_file_is_set_aside_and_computed_anew(lost, tmp_path):
    kept = Store(tmp_path)
    further(store=kept)
    (path,) = kept.files()
    file = store.decode(path.read_bytes())
    header = {key: value for key, value in file.header.items() if key != lost}
    arrays = {key: value for key, value in file.arrays.items() if key != lost}
    data = encode(store.File(file.name, header, arrays))
    path.write_bytes(data[:-1] if lost == "a byte" else data)
    with pytest.warns(UserWarning, match="truncated or changed" if lost == "a byte" else f"lacks \\['{lost}'\\]"):
        assert_same(further(store=kept), whole())
    assert kept.files() == [path]
    assert len(kept.litter()) == 1


def test_the_stores_commands_know_it(tmp_path, capsys):
    kept, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    further(more=300, store=kept)
    assert main(["store", "--folder", str(kept.folder), "list"]) == 0
    assert "1 networks, 400 of 400 updates  cpu " in capsys.readouterr().out
    assert kept.verify() == {}
    assert kept.pack(tmp_path / "archive") == other.unpack(tmp_path / "archive") == 1
    assert_same(further(store=other), whole())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"more": -1}, "more must be"),
        ({"update": -1}, "update must be"),
        ({"seed": -1}, "seeds must be"),
        ({"lengths": [5]}, "length must be"),
        ({"sequences": 0}, "sequences must be"),
        ({"sequences": 1_500}, "sequences must be"),
        ({"checkpoint_every": -1.0}, "checkpoint_every must be"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong, message):
    seen = []
    with pytest.raises(ValueError, match=f"^{message}"):
        further(progress=seen.append, **wrong)
    assert seen == []


@pytest.mark.parametrize("theta", [np.zeros(3, "f4"), np.zeros((1, 3), "f4"), np.zeros(3, int), [0.0]])
def test_parameters_of_another_kind_are_refused(theta):
    with pytest.raises(ValueError, match=r"^theta must (hold 214 parameters, got shape \(3,\)|be)"):
        train_on(SPEC, theta, seed=0, update=0, lengths=[], more=0)

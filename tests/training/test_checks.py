"""What stops a training, changes its rates and is measured at its checks; trainings that go on from others' ends."""

import functools
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import (
    Algorithm,
    Ensemble,
    Halving,
    HoldsAt,
    LargestError,
    Lowest,
    Norm,
    Spec,
    Start,
    Store,
    TemporalOrder,
    bits,
    sweeps,
    train,
)
from rnnlab.__main__ import main
from rnnlab.engine import batched
from rnnlab.training import ensembles
from rnnlab.training.loop import OtherEngineError
from rnnlab.training.records import totals
from rnnlab.training.store import CHECKPOINT, RUN
from tests.training.test_resume import Ending, Interruption, assert_same

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
LENGTHS, TESTS = (10, 16, 20), 11  # the network of seed 1 holds at the eleventh test


@functools.cache
def begun(*seeds):
    """Networks after 100 updates."""
    return Start(train(SPEC, seeds=seeds, device="cpu").theta.values, 100)


def further(more=2_000, seeds=(1,), lengths=LENGTHS, sequences=50, start=None, spec=SPEC, **how):
    """Train on until they hold."""
    spec = spec.with_(stop=HoldsAt(lengths, sequences), updates=100 + more)
    return train(spec, seeds=seeds, start=start or begun(*seeds), device="cpu", **how)


@functools.cache
def whole():
    return further()


# What rnnlab.training.generalization.train_on, a loop of its own, came to before this one took its place.
GOLDEN = {
    (LENGTHS, 50): {0: None, 1: (1_200, "bb606d37587fce2e"), 6: (2_000, "6f966078f569fd77")},
    ((20, 10), 20): {1: (1_200, "bb606d37587fce2e"), 5: (1_900, "6de8d0fe543c31c4"), 6: (1_800, "aa34417376e1c3f1")},
}
FRESH = {(LENGTHS, 50): {1: [0, 0, 0, 0.02], 6: [0, 0, 0, 0]}, ((20, 10), 20): {1: [0, 0.05, 0], 6: [0, 0.05, 0]}}


@pytest.mark.parametrize("test", GOLDEN)
def test_networks_side_by_side_hold_when_and_as_each_did_alone_in_a_loop_of_its_own(test):
    lengths, sequences = test
    spec = SPEC.with_(check_sequences=40, confirm_sequences=sequences)
    runs = further(seeds=tuple(GOLDEN[test]), lengths=lengths, sequences=sequences, spec=spec)
    if not runs.engine.startswith("cpu avx512 "):
        pytest.skip("needs a processor with AVX-512, by which the numbers were made")
    for seed, want in GOLDEN[test].items():
        run = runs.sel(seed=seed)
        digest = hashlib.sha256(run["theta"].values.tobytes()).hexdigest()[:16]
        assert (run["first_held"].item(), digest) == want if want else run["first_held"].isnull()
        names = ["fresh_error", *(f"fresh_error_at_{length}" for length in lengths)]
        if seed in FRESH[test]:
            assert [run[name].item() for name in names] == FRESH[test][seed]
        assert (run[names[1:]].to_array().isnull() == (want is None)).all()


def test_it_ends_at_the_first_test_that_a_plain_loop_passes():
    ensemble = Ensemble(SPEC, [1], start=begun(1), device="cpu")
    assert ensemble.update == 100
    passed = []
    for _ in range(TESTS):
        ensemble.advance(100)
        longer = [ensemble.errors(50, stream=bits.TEST, task=replace(SPEC.task, length=T)) for T in LENGTHS]
        passed.append(not any([ensemble.errors(50), *longer]))
    assert passed == [False] * (TESTS - 1) + [True]
    run = whole().isel(seed=0)
    assert run["update"].values.tolist() == [*range(200, 1_201, 100)]
    assert run["first_held"] == ensemble.update == 1_200
    assert run["theta"].values.tobytes() == ensemble.parameters.theta.numpy().tobytes()
    fresh = [ensemble.errors(50, stream=64, task=task).item() for task in (SPEC.task, *map(TemporalOrder, LENGTHS))]
    assert any(fresh)  # the test that ended it was lucky
    assert [run[name].item() for name in ("fresh_error", *(f"fresh_error_at_{T}" for T in LENGTHS))] == fresh


def test_a_network_whose_own_task_is_not_without_error_does_not_hold():
    run = further(lengths=()).isel(seed=0)
    assert run["first_held"] > 200
    assert (run["error"].values[:-1] > 0).all()
    assert run["error"].values[-1] == 0


def test_one_that_does_not_hold_yet_ends_with_its_budget_and_is_not_tested_at_the_lengths():
    seen = []
    run = further(more=250, progress=seen.append).isel(seed=0)
    assert run["update"].values.tolist() == [200, 300, 350]
    assert [(one.done, one.total, one.over) for one in seen] == [(100, 250, False), (200, 250, False), (250, 250, True)]
    assert seen[0].note == "1 of 1 still train, 0 solved"
    assert run["first_held"].isnull()
    assert run["fresh_error"].notnull()
    assert run["fresh_error_at_10"].isnull()


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
        assert len(Store(folder).files(RUN)) == 1


def test_a_larger_budget_goes_on(tmp_path):
    seen, kept = [], Store(tmp_path)
    further(more=300, store=kept)
    assert_same(further(store=kept, progress=seen.append), whole())
    assert [one.done for one in seen] == [*range(400, 1_100, 100), 2_000]
    assert_same(further(more=1_100, store=kept, progress=seen.append).drop_vars("run"), whole().drop_vars("run"))
    assert len(seen) == 8


def test_a_start_between_two_multiples_of_the_interval_goes_on_as_well(tmp_path):
    start, seen = Start(begun(1).theta, 50), []
    further(more=150, start=start, store=Store(tmp_path))
    longer = further(more=350, start=start, store=Store(tmp_path), progress=seen.append)
    assert [one.done for one in seen] == [300, 400]
    assert_same(longer, further(more=350, start=start))


def test_a_test_of_holding_draws_its_own_task_as_a_check_the_lengths_as_a_test_and_ends_at_the_first_error(monkeypatch):
    """Of three networks the first is wrong at once, the second at length 16, the third nowhere."""
    drawn = []

    def errors(ensemble, sequences, *, stream, task):
        drawn.append((ensemble.seeds, sequences, stream, task.length))
        wrong = {(10, 14): {7}, 10: set(), 16: {8}, 20: set()}[task.length]
        return torch.tensor([0.5 * (seed in wrong) for seed in ensemble.seeds])

    monkeypatch.setattr(Ensemble, "errors", errors)
    holds = HoldsAt(LENGTHS, 30)(Ensemble(SPEC, [7, 8, 9], device="cpu"), np.zeros)
    assert holds.tolist() == [False, False, True]
    every = [([7, 8, 9], 30, 16, (10, 14)), ([8, 9], 30, 32, 10), ([8, 9], 30, 32, 16), ([9], 30, 32, 20)]
    assert drawn == every


def test_the_largest_error_is_that_of_the_length_at_which_a_network_errs_most():
    ensemble = Ensemble(SPEC, [7, 8, 9], start=begun(7, 8, 9), device="cpu")
    each = [ensemble.errors(200, stream=32, task=replace(SPEC.task, length=length)) for length in LENGTHS]
    worst = LargestError(LENGTHS, 200)(ensemble)
    assert worst.tolist() == [max(errors) for errors in zip(*(one.tolist() for one in each), strict=True)]
    assert len(set(worst.tolist()) | set(each[0].tolist())) > 3  # they differ, between networks and lengths


def test_by_the_largest_error_it_keeps_the_networks_that_are_good_at_each_length():
    best = Lowest("largest_error")
    spec = SPEC.with_(measures=(LargestError(LENGTHS, 100),), choose=best, check_every=100, updates=1_200)
    runs = train(spec, seeds=[1, 6], start=begun(1, 6), device="cpu")
    worst, at = runs["largest_error"].transpose("seed", "check"), runs["chosen_at"]
    assert (worst.sel(check=worst["check"]).min("check") == worst.isel(check=(at.astype(int) - 200) // 100)).all()
    for seed in (1, 6):
        run, shorter = runs.sel(seed=seed), int(at.sel(seed=seed))
        then = train(spec.with_(updates=shorter, choose=None), seeds=[seed], start=begun(seed), device="cpu")
        assert then["theta"].values.tobytes() == run["theta"].values.tobytes()


def test_another_start_or_stop_is_another_training(tmp_path):
    kept, theta = Store(tmp_path), begun(1).theta
    starts = [None, Start(theta + 1, 100), Start(theta, 50)]
    ids = [further(more=100, store=kept, start=start)["run"].item() for start in starts]
    others = {"lengths": (10,)}, {"sequences": 40}, {"seeds": (2,), "start": begun(1)}
    ids += [further(**{"more": 100, "store": kept} | other)["run"].item() for other in others]
    ids.append(train(SPEC.with_(updates=200), seeds=[1], device="cpu", store=kept)["run"].item())
    assert len(set(ids)) == len(kept.files(RUN)) == len({path.name[:20] for path in kept.files()}) == 7
    assert "start" in further(more=100, store=kept).attrs


def test_a_run_that_began_elsewhere_is_named_by_its_own_beginning_alone():
    alone, company = further(more=100), further(more=100, seeds=(6, 1))
    assert alone["run"].values.tolist() == company["run"].sel(seed=[1]).values.tolist()
    assert alone["theta"].values.tobytes() == company["theta"].sel(seed=1).values.tobytes()


def test_what_another_engine_has_begun_is_refused_and_what_it_has_finished_is_a_result(tmp_path, monkeypatch):
    kept = Store(tmp_path)
    further(more=300, store=kept)
    monkeypatch.setattr(ensembles, "choose", lambda **_: batched)
    assert further(more=300, store=kept).engine.startswith("cpu ")
    with pytest.raises(OtherEngineError, match=r"holds 400 updates by .*'cpu .* but here is .*'batched'.*restart=True"):
        further(store=kept)
    seen = []
    further(more=400, store=kept, restart=True, progress=seen.append)
    assert [one.done for one in seen] == [100, 200, 300, 400]


def test_what_began_elsewhere_is_gathered_at_its_own_checks_and_not_with_what_began_here(tmp_path):
    kept, spec = Store(tmp_path), SPEC.with_(check_every=30)
    runs = further(more=100, spec=spec, store=kept)
    found = sweeps.gather(kept)
    assert found["update"].values.tolist() == runs["update"].values.tolist() == [130, 160, 190, 200]
    assert found["clipped"].notnull().all()
    assert float(found["clipped_share"].squeeze()) == float(totals(runs)["clipped_share"].squeeze())
    train(spec.with_(stop=HoldsAt(LENGTHS, 50), updates=200), seeds=[5], device="cpu", store=kept)
    with pytest.raises(ValueError, match=r"trainings that start from updates \[0, 100\]"):
        sweeps.gather(kept)


def test_the_stores_commands_know_it(tmp_path, capsys):
    kept, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    further(store=kept)
    assert main(["store", "--folder", str(kept.folder), "list"]) == 0
    assert "1 networks, 1,200 of 2,100 updates  cpu " in capsys.readouterr().out
    assert kept.verify() == {}
    assert kept.pack(tmp_path / "archive") == other.unpack(tmp_path / "archive") == 1
    assert_same(further(store=other), whole())


@dataclass(frozen=True)
class Largest:
    """A measure of one's own: the largest weight."""

    name: ClassVar[str] = "largest"
    long_name: ClassVar[str] = "largest recurrent weight"
    units: ClassVar[str] = "1"
    numerics: ClassVar[int] = 1

    def __call__(self, ensemble):
        return ensemble.parameters.W_rec.abs().amax(dim=(1, 2))


@dataclass(frozen=True)
class Patience(Largest):
    """A stop of one's own: the error has not been smaller for so many checks."""

    checks: int = 3
    name: ClassVar[str] = "first_impatient"
    units: ClassVar[str] = "updates"

    def __call__(self, ensemble, series):
        error = series("error")
        return torch.tensor([len(row) - 1 - row.argmin() >= self.checks for row in error])

    def afterwards(self, task):
        return [Largest()]


def test_a_measure_of_ones_own_is_a_series_beside_rho_and_error(tmp_path):
    spec = SPEC.with_(updates=250, measures=(Largest(),))
    runs = train(spec, seeds=3, device="cpu", store=Store(tmp_path))
    assert runs["largest"].attrs == {"long_name": "largest recurrent weight", "units": "1"}
    assert runs["largest"].sizes == {"seed": 3, "check": 3}
    W_rec = runs["theta"].values[:, :100]
    np.testing.assert_array_equal(runs["largest"].values[:, -1], np.abs(W_rec).max(axis=1))
    assert_same(train(spec, seeds=3, device="cpu", store=Store(tmp_path)), runs)
    assert_same(
        runs.drop_vars(["largest", "run"]), train(SPEC.with_(updates=250), seeds=3, device="cpu").drop_vars("run")
    )


def test_a_stop_of_ones_own_ends_each_member_for_itself_and_is_measured_afterwards(tmp_path):
    spec = SPEC.with_(updates=1_500, stop=Patience())
    runs = train(spec, seeds=4, device="cpu", store=Store(tmp_path))
    for seed in range(4):
        error = train(SPEC.with_(updates=1_500), seeds=[seed], device="cpu")["error"].values[0]
        impatient = [c for c in range(15) if c - error[: c + 1].argmin() >= 3]
        assert runs["first_impatient"].values[seed] == 100 * (impatient[0] + 1) if impatient else np.nan
    assert len(np.unique(runs["first_impatient"])) > 1
    np.testing.assert_array_equal(runs["largest"], np.abs(runs["theta"].values[:, :100]).max(axis=1))
    assert_same(train(spec, seeds=4, device="cpu", store=Store(tmp_path)), runs)


ANNEALED = SPEC.with_(
    updates=1_000, rate=Halving(), algorithm=Algorithm(learning_rate=0.3, clip=Norm(0.5)), units=8, batch=3
)


def test_each_member_halves_its_rate_when_its_error_has_risen_and_goes_on_as_if_alone():
    runs = train(ANNEALED, seeds=4, device="cpu")
    assert len(np.unique(runs["learning_rate"].values[:, -1])) > 1
    for seed in range(4):
        run, rate = runs.sel(seed=seed), 0.3
        ensemble = Ensemble(ANNEALED, [seed], device="cpu")
        for c in range(10):
            spec = ANNEALED.with_(algorithm=Algorithm(learning_rate=rate, clip=Norm(0.5)))
            ensemble = Ensemble(spec, [seed], start=Start(ensemble.parameters.theta.numpy(), 100 * c), device="cpu")
            np.testing.assert_allclose(run["loss"][c], ensemble.advance(100).loss.double().mean(), rtol=1e-12)
            rate /= 1 + bool(c and run["error"][c] > run["error"][c - 1])
            assert run["learning_rate"][c] == rate
        assert run["theta"].values.tobytes() == ensemble.parameters.theta.numpy().tobytes()


@settings(max_examples=4)
@given(at=st.sets(st.integers(1, 10), min_size=1, max_size=4))
def test_rates_are_resumed_with_the_bits_of_a_whole_training(at):
    with TemporaryDirectory() as folder:
        kept = Ending(Path(folder), at=at)
        for _ in range(len(at) + 1):
            try:
                ended = train(ANNEALED, seeds=4, device="cpu", store=kept, checkpoint_every=0)
                break
            except Interruption:
                assert kept.files(CHECKPOINT, RUN)
        assert_same(ended, train(ANNEALED, seeds=4, device="cpu"))


def test_ensembles_advance_members_of_several_rates_in_their_order():
    together, spec = (
        Ensemble(SPEC, 4, device="cpu"),
        SPEC.with_(algorithm=Algorithm.named("MSGD-CR", learning_rate=0.1)),
    )
    together.rates = [0.03, 0.1, 0.1, 0.03]
    slow, fast = Ensemble(SPEC, [0, 3], device="cpu"), Ensemble(spec, [1, 2], device="cpu")
    trace = together.advance(20)
    for members, apart in (([0, 3], slow), ([1, 2], fast)):
        assert torch.equal(trace.loss[:, members], apart.advance(20).loss)
        assert torch.equal(together.parameters.theta[members], apart.parameters.theta)
    assert together.update == 20


@dataclass(frozen=True)
class Wrong:
    """Neither a measure nor a stop nor a rate, though it looks like each."""

    name: str = "wrong"
    long_name: ClassVar[str] = ""
    units: ClassVar[str] = ""

    def __call__(self, *_):
        return torch.zeros(2, 2)

    def afterwards(self, task):
        return []


THETA = np.zeros((2, 214), np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HoldsAt((10, 10)), r"lengths must be a tuple of different lengths, got \(10, 10\)"),
        (lambda: HoldsAt((0,)), "lengths must be a positive integer, got 0"),
        (lambda: HoldsAt((10,), sequences=1_500), "sequences must be at most 1000 or a multiple"),
        (lambda: SPEC.with_(stop=HoldsAt((5,))), "length must be"),
        (lambda: SPEC.with_(stop="early"), "stop must be 'below 1 %', 'no error' or 'never', got 'early'"),
        (lambda: train(SPEC.with_(measures=(Largest(), Largest()))), "measures and stop must .*, got 'largest'"),
        (lambda: train(SPEC.with_(measures=(Wrong("a b"),))), "measures and stop must .* an identifier, got 'a b'"),
        (lambda: train(SPEC.with_(rate=Halving("rhoo"))), r"series must be one of \['loss', .*\], got 'rhoo'"),
        (lambda: train(SPEC.with_(measures=(Wrong("rho"),))), "measures and stop must have names .* got 'rho'"),
        *(
            (lambda name=name: train(SPEC.with_(measures=(Wrong(name),))), f"measures and stop must .* got '{name}'")
            for name in ("state_norm", "trace_loss", "chosen_at", "check", "spec", "parameter", "network", "final_rho")
        ),
        (lambda: train(SPEC.with_(measures=(Wrong(),)), seeds=2), r"measures must give tensors of shape \(2,\), got"),
        (lambda: train(SPEC.with_(stop=Wrong()), seeds=2), "stop must give 2 truth values, got"),
        (lambda: train(SPEC.with_(rate=Wrong()), seeds=2), "rate must give 2 positive learning rates, got"),
        (lambda: Start(THETA[0], 0), "theta must be"),
        (lambda: Start(THETA.astype(float), 0), "theta must be"),
        (lambda: Start(THETA, -1), "update must be"),
        (
            lambda: train(SPEC, seeds=3, start=Start(THETA, 0)),
            r"start must hold theta of shape \(3, 214\), got \(2, 214\)",
        ),
        (lambda: train(SPEC, seeds=2, start=Start(THETA, 100)), "start must have fewer than the budget of 100 updates"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_objects_come_back_from_their_names_and_fields_at_their_defaults_are_not_said():
    spec = SPEC.with_(stop=HoldsAt(LENGTHS), rate=Halving())
    assert Spec.from_canonical(spec.canonical()) == spec
    assert "measures" not in spec.canonical()
    assert SPEC.with_(measures=(), rate=None).canonical() == SPEC.canonical()
    assert not {"measures", "rate"} & set(SPEC.canonical().split('"'))
    assert len({SPEC.id(0), spec.id(0), SPEC.with_(rate=Halving()).id(0), SPEC.with_(measures=(Largest(),)).id(0)}) == 4


def test_a_training_has_a_million_checks_at_most():
    assert Spec(check_every=3, updates=3 * 10**6).updates == 3 * 10**6
    with pytest.raises(ValueError, match=r"check_every must be at least 4, got 3"):
        Spec(check_every=3, updates=3 * 10**6 + 1)

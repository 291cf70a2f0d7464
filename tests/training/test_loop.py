"""Training: the same numbers whenever and however it is run, and outcomes that are what they say."""

import inspect
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlab import bits
from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import NoClip, Norm, Skip
from rnnlab.descent.omega import Code
from rnnlab.descent.schedules import Constant, InverseTime
from rnnlab.engine import batched, reference
from rnnlab.network.inits import SmartTanh
from rnnlab.network.parameters import spectral_radius
from rnnlab.statistics import wilson
from rnnlab.tasks.pathological import Addition, NoiselessMemorization, TemporalOrder
from rnnlab.training import ensembles
from rnnlab.training.checks import Fresh
from rnnlab.training.ensembles import Ensemble, pick_device
from rnnlab.training.loop import train
from rnnlab.training.progress import Progress, bar, watching
from rnnlab.training.specs import Spec
from rnnlab.values import as_seeds

TINY = Spec(
    task=TemporalOrder((10, 14)), units=8, batch=5, updates=30, check_every=10, check_sequences=20, confirm_sequences=20
)


def same(a, b):
    """Equal to the bit, NaN included."""
    return all(np.array_equal(a[name].values, b[name].values, equal_nan=a[name].dtype.kind == "f") for name in a)


def test_training_twice_gives_the_same_bits():
    assert same(train(TINY, seeds=3), train(TINY, seeds=3))


@pytest.mark.parametrize("memory", [1, 200_000])
def test_the_size_of_chunks_changes_nothing(memory):
    assert same(train(TINY, seeds=3, memory=memory), train(TINY, seeds=3))


def test_advancing_in_parts_is_advancing_at_once():
    parts, whole = Ensemble(TINY, 3), Ensemble(TINY, 3)
    losses = torch.cat([parts.advance(n).loss for n in (1, 7, 12)])
    assert torch.equal(losses, whole.advance(20).loss)
    assert torch.equal(parts.parameters.theta, whole.parameters.theta)
    assert parts.update == whole.update == 20


def test_training_is_the_reference_engines_descent():
    spec = TINY.with_(algorithm=Algorithm.named("MSGD-CR"))
    ensemble = Ensemble(spec, 2)
    network = spec.init.parameters(spec.sizes, [0, 1], dtype=torch.float64)
    trace = ensemble.advance(5)
    chunk = spec.task.chunk(torch.arange(2), torch.arange(5), batch=spec.batch)
    want = reference.sgd(network, chunk, sigma=spec.init.sigma, loss=spec.task.loss, algorithm=spec.algorithm)
    torch.testing.assert_close(trace.loss.double(), want.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(ensemble.parameters.theta.double(), network.theta, rtol=0, atol=1e-6)


def test_a_schedule_goes_on_over_chunks_and_calls_as_the_reference_engine_does_update_by_update():
    """Chunks of one, then of three and two updates; alpha is 40, 40, 20, 20, 40/3 and 40/3 by hand."""
    spec = TINY.with_(algorithm=Algorithm(learning_rate=0.1, clip=Norm(1.0), omega=Code(), alpha=InverseTime(40.0, 2)))
    small, large = Ensemble(spec, 2, memory=1), Ensemble(spec, 2)
    small.advance(6), large.advance(3), large.advance(3)
    network = spec.init.parameters(spec.sizes, [0, 1], dtype=torch.float64)
    for update, alpha in enumerate([40, 40, 20, 20, 40 / 3, 40 / 3]):
        chunk = spec.task.chunk(torch.arange(2), torch.tensor([update]), batch=spec.batch)
        now = replace(spec.algorithm, alpha=Constant(alpha))
        reference.sgd(network, chunk, sigma=spec.init.sigma, loss=spec.task.loss, algorithm=now)
    for ensemble in (small, large):
        torch.testing.assert_close(ensemble.parameters.theta.double(), network.theta, rtol=0, atol=2e-6)


def test_members_go_on_alike_in_other_company():
    """Batched products may round differently in other company; a member's data must not."""
    together, alone = Ensemble(TINY, [3, 1, 4]), Ensemble(TINY, [4])
    torch.testing.assert_close(together.advance(10).loss[:, 2], alone.advance(10).loss[:, 0], rtol=1e-4, atol=0)
    chosen = together.select([2])
    assert chosen.seeds == [4]
    torch.testing.assert_close(chosen.advance(5).loss, alone.advance(5).loss, rtol=1e-4, atol=0)
    assert together.update == 10


@pytest.mark.parametrize("task", [TemporalOrder((10, 20)), Addition(15), NoiselessMemorization((4, 9), 2, 2)])
def test_errors_streamed_in_windows_are_those_of_whole_sequences(task, monkeypatch):
    spec = TINY.with_(task=task, algorithm=Algorithm.named("MSGD-C", learning_rate=0.1))
    ensemble = Ensemble(spec, 3)
    ensemble.advance(60)
    chunk = task.chunk(torch.arange(3), torch.tensor([60 // spec.check_every]), batch=50, stream=bits.CHECK)
    y, _ = batched.outputs(ensemble.parameters, chunk[0], sigma=spec.init.sigma, loss=task.loss)
    wrong = task.loss.wrong(y, chunk[0].targets, ensembles.counted(chunk[0], task.loss))
    want = wrong.double().mean(dim=1)
    for window in (1, 3, 100):
        monkeypatch.setattr(ensembles, "_HISTORY", window * 4 * 3 * 50 * spec.units)
        assert torch.equal(ensemble.errors(50), want)


def test_every_check_draws_sequences_of_its_own_also_the_last_of_an_odd_budget():
    ensemble, seen = Ensemble(TINY, 3), []
    for ensemble.update in (0, 10, 20, 25):  # the networks stay as they are
        seen.append(tuple(ensemble.errors(1_000).tolist()))
    assert len(set(seen)) == 4


@pytest.fixture
def tests_made(monkeypatch):
    """The batches that tests draw, (stream, number, length), of networks that are never wrong."""
    drawn = []

    def never_wrong(ensemble, network, seeds, task, number, B, stream):
        drawn.append((stream, number, task.length))
        return torch.zeros(network.members, B, dtype=torch.bool)

    monkeypatch.setattr(Ensemble, "_wrong", never_wrong)
    return drawn


def test_no_two_tests_share_a_sequence_and_the_deciding_and_the_fresh_ones_have_streams_of_their_own(tests_made):
    """Of 1,000 sequences a batch: two for each check, three for the test that decides, three after the end."""
    train(TINY.with_(check_sequences=2_000, confirm_sequences=3_000, updates=25, stop="never"), seeds=2)
    length = TINY.task.length
    checks = [(bits.CHECK, number, length) for number in (2, 3, 4, 5, 6, 7)]
    deciding = [(bits.TEST, number, length) for number in (3, 4, 5, 6, 7, 8, 9, 10, 11)]
    fresh = [(bits.FRESH, number, task) for task in (length, 10, 13) for number in (9, 10, 11)]
    assert sorted(tests_made, key=str) == sorted([*checks, *deciding, *fresh], key=str)
    assert (bits.TRAIN, bits.CHECK, bits.TEST, bits.INIT, bits.FRESH) == (0, 16, 32, 48, 64)


def test_a_test_of_three_thousand_sequences_is_the_mean_of_three_batches_of_a_thousand():
    """The second check of the networks: batches 3, 4 and 5 are the first check's, 6, 7 and 8 its own."""
    ensemble, task = Ensemble(TINY, 2), TINY.task
    ensemble.update = 20
    chunk = task.chunk(torch.arange(2), torch.arange(6, 9), batch=1_000, stream=bits.CHECK)
    batches = []
    for batch in chunk:
        y, _ = batched.outputs(ensemble.parameters, batch, sigma=TINY.init.sigma, loss=task.loss)
        batches.append((y[:, 0].argmax(dim=-1) != batch.targets[:, 0]).double().mean(dim=1))
    torch.testing.assert_close(ensemble.errors(3_000), torch.stack(batches).mean(dim=0), rtol=0, atol=1e-12)
    assert len(set(torch.stack(batches).flatten().tolist())) == 6


@pytest.mark.parametrize("length", [11, (10, 14)])
@pytest.mark.parametrize(("stop", "tested"), [("never", 50), ("below 1 %", 1)])
def test_a_member_that_ends_is_tested_once_more_on_sequences_that_nothing_else_draws(length, stop, tested):
    """The fresh errors are those of the final parameters, by the batched engine on sequences drawn here."""
    spec = TINY.with_(task=TemporalOrder(length), stop=stop, check_sequences=1, confirm_sequences=tested, updates=45)
    runs = train(spec, seeds=12)
    ends = runs["update"].values[runs["error"].notnull().sum("check").values - 1]
    assert (len(set(ends)) > 1) == (stop == "below 1 %")  # some by luck
    shortest, longest = (length, length) if length == 11 else (10, 13)
    for seed, update in enumerate(ends.tolist()):
        network = ensembles.Parameters(torch.tensor(runs.theta.values[[seed]]), spec.sizes)
        check = torch.tensor([-(-update // spec.check_every)])
        for name, steps in (("", length), ("_shortest", shortest), ("_longest", longest)):
            chunk = TemporalOrder(steps).chunk(torch.tensor([seed]), check, batch=tested, stream=64)
            y, _ = batched.outputs(network, chunk[0], sigma=spec.init.sigma, loss=spec.task.loss)
            wrong = (y[0, 0].argmax(dim=-1) != chunk[0].targets[0, 0]).double().mean().item()
            assert runs[f"fresh_error{name}"].values[seed] == pytest.approx(wrong, abs=1e-12)


def test_the_fresh_test_changes_nothing_else_and_a_member_that_diverged_has_none(monkeypatch):
    wild = TINY.with_(algorithm=Algorithm(learning_rate=1e38, clip=NoClip()), init=SmartTanh())
    runs = {"calm": train(TINY, seeds=3), "wild": train(wild, seeds=3)}
    assert runs["calm"]["fresh_error"].notnull().all()
    assert (runs["wild"]["fresh_error"].notnull() == runs["wild"]["diverged_at"].isnull()).all()
    assert runs["wild"]["diverged_at"].notnull().any()
    monkeypatch.setattr(Fresh, "__call__", lambda _, ensemble: torch.full((len(ensemble.seeds),), torch.nan))
    for name, spec in (("calm", TINY), ("wild", wild)):
        kept = [variable for variable in runs[name] if not variable.startswith("fresh")]
        assert same(runs[name][kept], train(spec, seeds=3)[kept])


def test_short_sequences_are_learned_and_the_outcome_says_when():
    spec = Spec(task=TemporalOrder(10), updates=4_000, check_every=250)
    seen: list[Progress] = []
    runs = train(spec, seeds=10, progress=seen.append)
    solved = runs.first_below_1_percent.notnull()
    # All of ten solve in trial runs; eight would be six standard deviations off a rate of 99 %.
    assert int(solved.sum()) >= 9
    for seed in runs.seed[solved].values:
        run = runs.sel(seed=seed)
        at = run["update"].values == run.first_below_1_percent.item()
        assert float(run.error[at].item()) < 0.01
        assert (run.error[: int(at.argmax())] >= 0.01).all()
        assert run.error[int(at.argmax()) + 1 :].isnull().all()
        assert run.final_error < 0.01
    assert [p.done for p in seen] == [*runs["update"].values.tolist()[:-1], 4_000]
    assert [p.over for p in seen] == [False] * (len(seen) - 1) + [True]
    assert (seen[-1].total, seen[-1].note) == (4_000, f"0 of 10 still train, {int(solved.sum())} solved")
    left = 10 - int((runs["first_below_1_percent"] <= 250).sum())
    assert seen[0] == Progress(250, 4_000, f"{left} of 10 still train, {10 - left} solved")
    network = ensembles.Parameters(torch.tensor(runs.theta.values), spec.sizes)
    torch.testing.assert_close(
        spectral_radius(network.W_rec)[0].item(), runs.rho[0].dropna("check")[-1].item(), rtol=1e-6, atol=0
    )


def test_stop_rules_differ_only_in_when_they_stop():
    spec = Spec(task=TemporalOrder(10), updates=2_000, check_every=250)
    kept = {stop: train(spec.with_(stop=stop), seeds=3) for stop in ("below 1 %", "no error", "never")}
    shared = kept["below 1 %"].error.values
    for stop in ("no error", "never"):
        held = ~np.isnan(shared)
        # The members that are left compute in other company once some have stopped: equal up to rounding.
        np.testing.assert_allclose(kept[stop].error.values[:, : shared.shape[1]][held], shared[held], atol=0.05)
    assert kept["never"].sizes["check"] == 8
    assert kept["never"].error.notnull().all()


def test_divergence_is_an_outcome_and_the_others_go_on():
    wild = TINY.with_(algorithm=Algorithm(learning_rate=1e38, clip=NoClip()), init=SmartTanh(), stop="never")
    runs = train(wild, seeds=3)
    assert runs.diverged_at.notnull().any()
    assert (runs.final_error[runs.diverged_at.notnull()] == 1).all()
    guarded = train(wild.with_(algorithm=Algorithm(learning_rate=1e38, clip=Norm(1.0, guard=Skip()))), seeds=3)
    assert guarded.diverged_at.isnull().all()


def test_a_specification_has_one_name_everywhere():
    assert TINY.id(0) == TINY.with_(units=8).id(0)
    others = [TINY.with_(units=9), TINY.with_(task=TemporalOrder((10, 15))), TINY.with_(algorithm=Algorithm())]
    assert len({TINY.id(0), TINY.id(1), *(other.id(0) for other in others)}) == 5
    plain = json.loads(TINY.canonical())
    assert plain["numerics"] == 2
    assert plain["spec"]["task"] == {"length": [10, 14], "second_window": "code", "type": "TemporalOrder"}
    assert Spec().id(0) == "dd49c099ee459d1a"


def test_series_and_outcomes_carry_names_and_units():
    runs = train(TINY, seeds=[5, 2])
    assert runs.sizes["seed"] == 2
    assert runs.seed.values.tolist() == [5, 2]
    assert runs["update"].values.tolist() == [10, 20, 30]
    assert all("long_name" in runs[name].attrs for name in runs)
    assert runs.norm.attrs["units"] == "loss per weight"
    assert runs.run.values.tolist() == [TINY.id(5), TINY.id(2)]
    assert runs.attrs["spec"] == TINY.canonical()


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_intervals_are_the_published_ones(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    assert wilson(successes, trials)[0] <= successes / trials <= wilson(successes, trials)[1]


@given(trials=st.integers(1, 1000), share=st.floats(0, 1))
def test_wilson_ends_solve_his_equation(trials, share):
    successes = round(trials * share)
    for p in wilson(successes, trials):
        if 0 < p < 1:  # |successes/trials - p| = z sqrt(p (1-p) / trials)
            deviation = 1.959964 * math.sqrt(p * (1 - p) / trials)
            assert abs(successes / trials - p) == pytest.approx(deviation, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Spec(updates=0), "updates must be a positive integer, got 0"),
        (lambda: Spec(units=-1), "units must be a positive integer, got -1"),
        (lambda: Spec(check_sequences=1500), "check_sequences must be at most 1000 or a multiple"),
        (lambda: Spec(stop="early"), "stop must be"),
        (lambda: as_seeds(0), "seeds must be a count of at least 1"),
        (lambda: as_seeds([]), "seeds must be different integers"),
        (lambda: as_seeds([1, 1]), "seeds must be different integers"),
        (lambda: as_seeds([-1]), "seeds must be different integers"),
        (lambda: pick_device("tpu3"), "device must be 'auto', 'cpu' or 'cuda'"),
        (lambda: pick_device("meta"), "device must be 'auto', 'cpu' or 'cuda', got 'meta'"),
        (lambda: Ensemble(Spec(units=3), 2).select([]).advance(1), "members must be at least one to be trained"),
        (lambda: wilson(3, 2), "successes must be from 0 to trials"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    for device in ("cuda", "cuda:0"):
        with pytest.raises(ValueError, match=f"got '{device}': PyTorch reaches no GPU"):
            pick_device(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_on_the_same_data():
    here, there = Ensemble(TINY, 3, device="cpu"), Ensemble(TINY, 3, device="cuda")
    torch.testing.assert_close(there.advance(10).loss.cpu(), here.advance(10).loss, rtol=1e-4, atol=0)


def test_an_ensemble_that_is_interrupted_stands_where_it_stood(monkeypatch):
    spec = Spec(task=TemporalOrder(10), units=4, batch=3)
    whole, torn = (Ensemble(spec, 2, device="cpu", memory=2**12) for _ in range(2))
    torn.advance(3)
    calls, sgd = [], torn.engine.sgd

    def interrupted(*args, **given):
        if calls:
            raise KeyboardInterrupt
        calls.append(sgd(*args, **given))
        return calls[0]

    monkeypatch.setattr(torn.engine, "sgd", interrupted)
    with pytest.raises(KeyboardInterrupt):
        torn.advance(200)
    assert calls
    monkeypatch.undo()
    torn.advance(2)
    whole.advance(5)
    assert torch.equal(torn.parameters.theta, whole.parameters.theta)


def test_a_bar_shows_in_a_terminal_alone_and_nothing_where_it_is_turned_off(capsys, monkeypatch):
    spec = TINY.with_(updates=40, check_every=20, stop="never")
    monkeypatch.setattr("rnnlab.training.progress.bar", lambda label, delay: bar(label))  # at once
    train(spec, seeds=2, device="cpu")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    train(spec, seeds=2, device="cpu", progress=False)
    assert capsys.readouterr().err == ""
    train(spec, seeds=2, device="cpu")
    shown = capsys.readouterr().err
    assert all(part in shown for part in ("updates: 100%", "40.0/40.0", "0 of 2 still train"))


def test_what_is_neither_a_function_nor_a_truth_value_is_told_nothing():
    with pytest.raises(ValueError, match="progress must be a function of a Progress, True or None for a bar, or False"):
        inspect.unwrap(watching)("yes", "updates")  # without the checks of types that are on under the tests

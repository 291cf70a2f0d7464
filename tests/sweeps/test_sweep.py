"""Sweeps: each cell is what `train` gives, under its own name, and success is counted with its interval."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray

from rnnlab import INITS, Algorithm, Elementwise, NoClip, Norm, Skip, Spec, Store, TemporalOrder, train, wilson
from rnnlab.book import pages
from rnnlab.statistics import success
from rnnlab.sweeps.executors import Job
from rnnlab.sweeps.summaries import read_summary, write_summary
from rnnlab.sweeps.sweep import Done, grid, run
from rnnlab.sweeps.watching import Watch
from rnnlab.training.records import OUTCOMES, TOTALS, totals

BASE = Spec(units=6, batch=4, updates=25, check_every=10, check_sequences=50, confirm_sequences=50)
TINY = {"inits": {n: INITS[n]() for n in ("smart tanh", "sigmoid")}, "lengths": [12, 10]}
CALM = {name: Algorithm.named(name) for name in ("MSGD-CR", "MSGD")}


@pytest.fixture(scope="module")
def runs():
    return run(BASE, **TINY, algorithms=CALM, seeds=[3, 0], device="cpu")


def test_every_cell_of_a_sweep_is_what_training_its_specification_alone_returns(runs):
    for (init, algorithm, length), spec in grid(BASE, **TINY, algorithms=CALM).items():
        assert spec == BASE.with_(init=INITS[init](), algorithm=Algorithm.named(algorithm), task=TemporalOrder(length))
        cell, alone = runs.sel(init=init, algorithm=algorithm, length=length), train(spec, seeds=[3, 0], device="cpu")
        assert cell["spec"].item() == alone.attrs["spec"]
        for name in alone.data_vars:
            xarray.testing.assert_identical(
                cell[name].drop_vars(["init", "algorithm", "length"]).variable, alone[name].variable
            )


def test_what_comes_of_a_sweep_can_be_written_to_netcdf_by_any_engine(runs):
    """Engines take words and numbers, not subclasses of them; and arrays of these."""
    alone = train(BASE, seeds=2, device="cpu")
    for found in (runs, alone, totals(runs)):
        words = [found.attrs, *(found[name].attrs for name in found.variables)]
        assert {type(value) for attrs in words for value in attrs.values()} <= {str, int, float}
        for name in found.variables:
            values = found[name].values
            assert values.dtype.kind in "Uif" or {type(value) for value in values.ravel()} == {str}


def test_a_sweep_keeps_the_order_it_was_asked_for_and_names_its_axes_and_units(runs):
    assert runs["error"].dims == ("init", "algorithm", "length", "seed", "check")
    assert runs["rho"].shape == (2, 2, 2, 2, 3)
    labels = {"init": ["smart tanh", "sigmoid"], "algorithm": ["MSGD-CR", "MSGD"], "length": [12, 10], "seed": [3, 0]}
    assert {axis: runs[axis].values.tolist() for axis in labels} == labels
    assert runs["length"].attrs["units"] == "steps"
    assert runs["update"].values.tolist() == [10, 20, 25]
    assert {runs[name].attrs["units"] for name in ("first_no_error", "update")} == {"updates"}


def test_series_are_nan_after_the_last_check_of_a_cell_that_ended_early():
    wild = {"wild": Algorithm.named("MSGD", learning_rate=1e38)}  # the second gradient overflows
    runs = run(BASE, inits={"tanh": INITS["basic tanh"]()}, algorithms=CALM | wild, lengths=[10], seeds=2, device="cpu")
    assert runs.sizes["check"] == 3
    assert np.isfinite(runs["error"].sel(algorithm="MSGD")).all()
    assert np.isfinite(runs["diverged_at"].sel(algorithm="wild")).all()
    assert np.isfinite(runs["error"].sel(algorithm="wild", check=0)).all()
    assert np.isnan(runs["error"].sel(algorithm="wild", check=[1, 2])).all()


def test_progress_counts_the_cells_one_by_one():
    seen = []
    run(BASE, **TINY, algorithms={"MSGD": CALM["MSGD"]}, seeds=1, device="cpu", progress=seen.append)
    assert seen == [
        Done("smart tanh", "MSGD", 12, number=1, ensembles=4, runs=1, solved=0, speed=0, left=0),
        Done("smart tanh", "MSGD", 10, number=2, ensembles=4, runs=2, solved=0, speed=0, left=0),
        Done("sigmoid", "MSGD", 12, number=3, ensembles=4, runs=3, solved=0, speed=0, left=0),
        Done("sigmoid", "MSGD", 10, number=4, ensembles=4, runs=4, solved=0, speed=0, left=0),
    ]


def test_speed_and_time_left_are_what_the_clock_says(monkeypatch):
    """4 s for 2,000 steps of 8,000, of which the summary then has 2,000: 12 s, and 6 s for 2,000 of what 4,000 take."""
    clock = iter([1_000.0, 1_004.0, 1_006.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    labels, spec = ("smart tanh", "MSGD", 10), BASE.with_(task=TemporalOrder(10), updates=100)
    jobs = [Job(labels, spec, seeds) for seeds in ([0, 1], [2, 3], [4, 5, 6, 7])]
    result = xarray.Dataset(
        {"error": (("seed", "check"), [[0.5, 0.5], [0.0, np.nan]]), "first_below_1_percent": ("seed", [np.nan, 50.0])}
    ).assign_coords(update=("check", [50, 100]))
    watch = Watch(jobs)
    first, second = (watch.after(job, result, computed=job is jobs[0]) for job in jobs[:2])
    assert (first.speed, first.left, first.runs, first.solved) == (150 / 4, 12, 2, 1)
    assert (second.speed, second.left, second.runs, second.solved) == (150 / 6, 12, 4, 2)


LUCKY = BASE.with_(updates=40, check_every=4, check_sequences=1, confirm_sequences=1, stop="no error")  # by chance
ONE = {"inits": {"basic tanh": INITS["basic tanh"]()}, "lengths": [10], "seeds": 5, "device": "cpu"}


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "lucky.summary"
    write_summary(totals(run(LUCKY, algorithms=CALM, **ONE)), path, command="")
    return read_summary(path)


def test_the_books_summary_holds_the_fresh_test_though_its_networks_are_older_than_that():
    book = read_summary(Path(__file__).parents[2] / "book" / "results" / "temporal_order.summary")
    assert book["fresh_error"].shape == book["final_error"].shape
    assert book["fresh_error"].isnull().all()


def test_success_by_the_fresh_test_counts_the_networks_that_have_it_and_those_that_diverged():
    """Of five seeds two are below 1 % again, one is not, one diverged, and one is older than the test."""
    runs = xarray.Dataset(
        {
            "first_below_1_percent": ("seed", [100, 200, 300, np.nan, 100]),
            "fresh_error": ("seed", [0.0, 0.0099, 0.01, np.nan, np.nan], {"units": "1"}),
            "diverged_at": ("seed", [np.nan, np.nan, np.nan, 7, np.nan]),
        }
    )
    rates = success(runs, event="fresh_below_1_percent")
    assert (rates["rate"].item(), rates["trials"].item()) == (2 / 4, 4)
    assert (rates["low"].item(), rates["high"].item()) == pytest.approx(wilson(2, 4))
    assert success(runs)["rate"].item() == 4 / 5
    with pytest.raises(ValueError, match="event must be one of"):
        success(runs.drop_vars("fresh_error"), event="fresh_below_1_percent")


def assert_as_trained(runs, spec, **grid):
    """That a sweep, some of it answered by a summary, is what training gives."""
    alone = totals(run(spec, **grid)).drop_vars("theta")
    assert set(runs.variables) == set(alone.variables)
    for name in ("spec", "init", "algorithm", "length", "seed"):
        np.testing.assert_array_equal(runs[name], alone[name])
    for name in (*OUTCOMES, *TOTALS, "update"):
        np.testing.assert_allclose(runs[name], alone[name], rtol=1e-12)
    np.testing.assert_allclose(runs["rho"], alone["rho"], rtol=2.0**-11)


@pytest.mark.parametrize(("updates", "taken"), [(40, "all"), (60, "early"), (20, "early")])
def test_what_a_summary_holds_to_the_end_is_taken_from_it_and_only_the_rest_is_trained(summary, updates, taken):
    seen = []
    spec = LUCKY.with_(updates=updates)
    runs = run(spec, algorithms=CALM, **ONE, chunk=2, known=summary, progress=seen.append)
    assert_as_trained(runs, spec, algorithms=CALM, **ONE)
    ended = int((summary["first_no_error"] <= updates).sum())
    assert 1 <= ended <= 9
    assert runs["run"].isin(summary["run"]).sum() == {"all": 10, "early": ended}[taken]
    assert all(done.speed == 0 for done in seen) == (taken == "all")


def test_of_an_ensemble_that_a_summary_holds_in_part_the_other_seeds_are_trained_and_all_keep_their_order(summary):
    seen = []
    grid = {**ONE, "seeds": [6, 3, 0, 5, 1], "algorithms": CALM}
    runs = run(LUCKY, **grid, known=summary, progress=seen.append)
    assert_as_trained(runs, LUCKY, **grid)
    assert [(done.number, done.ensembles, done.runs, done.speed > 0) for done in seen] == [
        (1, 4, 3, False),
        (2, 4, 6, False),
        (3, 4, 8, True),
        (4, 4, 10, True),
    ]
    assert runs["run"].isin(summary["run"]).sum("seed").values.tolist() == [[[3], [3]]]


@pytest.mark.parametrize("way", ["clip what was not", "leave what was clipped", "at another norm"])
def test_a_network_whose_gradient_never_reached_a_threshold_is_the_same_with_and_without_clipping(tmp_path, way):
    seeds = {**ONE, "seeds": 8}
    plain = run(LUCKY, algorithms={"it": CALM["MSGD"]}, **seeds)
    low, high = plain["norm_max"].max("check").quantile([0.5, 0.75]).values.tolist()
    before, after = {
        "clip what was not": (CALM["MSGD"], Algorithm.named("MSGD-C", threshold=low)),
        "leave what was clipped": (Algorithm.named("MSGD-C", threshold=low), CALM["MSGD"]),
        "at another norm": [Algorithm.named("MSGD-C", threshold=threshold) for threshold in (high, low)],
    }[way]
    write_summary(totals(run(LUCKY, algorithms={"it": before}, **seeds)), tmp_path / "one.summary", command="")
    known = read_summary(tmp_path / "one.summary")
    runs = run(LUCKY, algorithms={"it": after}, **seeds, known=known)
    assert_as_trained(runs, LUCKY, algorithms={"it": after}, **seeds)
    assert runs["run"].isin(known["run"]).sum() == 4


def test_a_network_that_a_summary_holds_under_both_algorithms_is_answered_by_its_own_run(tmp_path):
    grid = {**ONE, "algorithms": {"MSGD": CALM["MSGD"], "MSGD-C": Algorithm.named("MSGD-C", threshold=1e3)}}
    runs = run(LUCKY, **grid)
    write_summary(totals(runs), tmp_path / "both.summary", command="")
    assert (runs["clipped"].max("check") == 0).all()
    again = run(LUCKY, **grid, known=read_summary(tmp_path / "both.summary"))
    np.testing.assert_array_equal(again["run"], runs["run"])


@pytest.mark.parametrize(
    ("rate", "clip", "other"),
    [
        (0.01, Norm(1e-3), Norm(1e-3, guard=Skip())),  # clipped
        (1e38, Norm(1e3), Norm(1e3, guard=Skip())),  # guarded
        (1e38, NoClip(), Norm(1e3)),  # diverged
        (0.01, Elementwise(10.0), Norm(10.0)),  # by another rule
    ],
)
def test_what_was_clipped_guarded_or_diverged_answers_for_no_other_rule(tmp_path, rate, clip, other):
    one, two = ({"it": Algorithm(learning_rate=rate, clip=rule)} for rule in (clip, other))
    write_summary(totals(run(LUCKY, algorithms=one, **ONE)), tmp_path / "one.summary", command="")
    known, seen = read_summary(tmp_path / "one.summary"), []
    runs = run(LUCKY, algorithms=two, **ONE, known=known, progress=seen.append)
    assert all(done.speed > 0 for done in seen)
    assert not runs["run"].isin(known["run"]).any()


def test_an_ensemble_that_the_store_has_begun_goes_on_there_and_is_not_taken_apart(summary, tmp_path):
    grid, seen, store = {**ONE, "algorithms": CALM}, [], Store(tmp_path)
    run(LUCKY.with_(updates=20), **grid, store=store)
    spec = LUCKY.with_(updates=90)
    runs = run(spec, **grid, store=store, known=summary, progress=seen.append)
    assert_as_trained(runs, spec, **grid)
    assert [done.speed > 0 for done in seen] == [True, True]
    assert not runs["run"].isin(summary["run"]).any()


def test_a_summary_of_another_question_answers_nothing(summary):
    seen = []
    run(LUCKY.with_(batch=5), algorithms=CALM, **ONE, known=summary, progress=seen.append)
    run(LUCKY.with_(stop="never", updates=50), algorithms=CALM, **ONE, known=summary, progress=seen.append)
    assert all(done.speed > 0 for done in seen)
    with pytest.raises(ValueError, match="known must be what `read_summary` returned for a sweep's `totals`, got"):
        run(LUCKY, algorithms=CALM, **ONE, known=summary.drop_vars("final_rho"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": []}, "lengths must hold at least one, got"),
        ({"inits": {}}, "inits must hold at least one, got"),
        ({"algorithms": {}}, "algorithms must hold at least one, got"),
        ({"lengths": [10, 10]}, r"lengths must be different, got \[10, 10\]"),
        ({"lengths": [9]}, "length must be at least 10 steps for temporal order, got 9"),
    ],
)
def test_a_sweep_refuses_axes_that_make_no_grid(changes, message):
    with pytest.raises(ValueError, match=message):
        grid(BASE, **({**TINY, "algorithms": CALM} | changes))


def test_success_is_the_share_of_seeds_that_got_there_with_wilsons_interval():
    solved = xarray.DataArray(
        [[np.nan, 500.0, np.nan], [300.0, 500.0, 100.0]], dims=("length", "seed"), coords={"length": [10, 20]}
    )
    rates = success(xarray.Dataset({"first_no_error": solved}), event="first_no_error")
    for length, count in ((10, 1), (20, 3)):
        found = rates.sel(length=length)
        assert found["trials"] == 3
        assert found["rate"].item() == count / 3
        assert (found["low"].item(), found["high"].item()) == wilson(count, 3)


def test_success_is_the_share_of_the_seeds_that_ran_with_wilsons_interval():
    solved = [[np.nan, 500.0, np.nan], [300.0, 500.0, 100.0], [300.0, np.nan, np.nan], [np.nan] * 3]
    named = [["a", "b", "c"], ["d", "e", "f"], ["g", "h", ""], ["", None, np.nan]]
    runs = xarray.Dataset(
        {"first_no_error": (("length", "seed"), solved), "run": (("length", "seed"), np.array(named, dtype=object))},
        coords={"length": [10, 20, 30, 40]},
    )
    rates = success(runs, event="first_no_error")
    for length, count, trials in ((10, 1, 3), (20, 3, 3), (30, 1, 2)):
        found = rates.sel(length=length)
        assert found["trials"] == trials
        assert found["rate"].item() == count / trials
        assert (found["low"].item(), found["high"].item()) == wilson(count, trials)
    assert rates[["rate", "low", "high"]].sel(length=40).to_array().isnull().all()


def test_success_refuses_an_outcome_that_was_not_recorded(runs):
    with pytest.raises(ValueError, match=r"event must be one of .*'first_below_1_percent'.*, got 'solved'"):
        success(runs, event="solved")


def test_a_pages_bar_shows_how_many_are_solved_how_fast_and_how_long_it_will_take(capsys, monkeypatch):
    monkeypatch.delenv("RNNLAB_BAR", raising=False)
    move = pages.bar("ensembles", 1)  # a summary answered one of them in part, which makes two
    done = Done("smart tanh", "MSGD", 12, number=1, ensembles=2, runs=5, solved=3, speed=1234.5, left=3_700.2)
    move(done)
    move(replace(done, number=2, runs=10, left=0.0))
    said = capsys.readouterr().err
    assert "2/2 [" in said
    assert "10 runs, 3 solved, 1,234 updates/s, 0:00:00 left" in said
    assert done.status == "5 runs, 3 solved, 1,234 updates/s, 1:01:40 left"
    assert replace(done, left=np.nan).status.endswith("? left")


@pytest.mark.parametrize("event", ["guarded", "final_error", "fresh_error", "rho", "run"])
def test_success_is_of_events_alone(event):
    runs = train(Spec(task=TemporalOrder(10), updates=2, check_every=1, check_sequences=10, units=3), seeds=2)
    assert event in runs
    with pytest.raises(ValueError, match=r"^event must be one of \['first_below_1_percent', .* got"):
        success(runs, event=event)
    with pytest.raises(ValueError, match=r"^runs must have a dimension seed, got \{"):
        success(runs.isel(seed=0))

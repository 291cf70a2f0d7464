"""Sweeps: each cell is what `train` gives, under its own name, and success is counted with its interval."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import xarray

from rnnlab import INITS, Algorithm, Spec, Start, Store, TemporalOrder, ThreeBitTemporalOrder, train, wilson
from rnnlab.statistics import success
from rnnlab.sweeps import executors
from rnnlab.sweeps.axes import grid
from rnnlab.sweeps.summaries import read_summary, write_summary
from rnnlab.sweeps.sweep import run
from rnnlab.training.progress import Progress
from rnnlab.training.records import OUTCOMES, TOTALS, totals

BASE = Spec(units=6, batch=4, updates=25, check_every=10, check_sequences=50, confirm_sequences=50)
CALM = {name: Algorithm.named(name) for name in ("MSGD-CR", "MSGD")}
TINY = {"init": {n: INITS[n]() for n in ("smart tanh", "sigmoid")}, "algorithm": CALM, "length": [12, 10]}


@pytest.fixture(scope="module")
def runs():
    return run(BASE, **TINY, seeds=[3, 0], device="cpu")


def test_every_cell_of_a_sweep_is_what_training_its_specification_alone_returns(runs):
    specs = grid(BASE, **TINY)
    for init, algorithm, length in itertools.product(*TINY.values()):
        spec = specs.sel(init=init, algorithm=algorithm, length=length).item()
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
    runs = run(BASE, init={"tanh": INITS["basic tanh"]()}, algorithm=CALM | wild, length=[10], seeds=2, device="cpu")
    assert runs.sizes["check"] == 3
    assert np.isfinite(runs["error"].sel(algorithm="MSGD")).all()
    assert np.isfinite(runs["diverged_at"].sel(algorithm="wild")).all()
    assert np.isfinite(runs["error"].sel(algorithm="wild", check=0)).all()
    assert np.isnan(runs["error"].sel(algorithm="wild", check=[1, 2])).all()


def test_any_part_of_a_specification_can_be_an_axis_and_every_cell_is_its_own_training():
    axes = {
        "algorithm": {name: Algorithm.named(name) for name in ("MSGD-C", "MSGD-CR")},
        "threshold": np.array([0.1, 10.0]),
        "task": {"two": TemporalOrder(12), "three": ThreeBitTemporalOrder(12)},
        "task.length": (12, (12, 14)),
        "units": range(3, 5),
        "alpha": [2.0],
    }
    specs = grid(BASE.with_(updates=4, check_every=2), **axes)
    assert specs.dims == tuple(axes)
    assert specs["task.length"].values.tolist() == ["12", "(12, 14)"]
    assert specs["threshold"].attrs["units"] == "loss per weight"
    labels = {"algorithm": "MSGD-CR", "threshold": 0.1, "task": "three", "task.length": "(12, 14)", "units": 3}
    algorithm = Algorithm.named("MSGD-CR", threshold=0.1, alpha=2.0)
    want = BASE.with_(updates=4, check_every=2, units=3, task=ThreeBitTemporalOrder((12, 14)), algorithm=algorithm)
    assert specs.sel(labels).item() == want
    runs = run(specs[:, :1, :, 1:], seeds=2, device="cpu")
    cell, alone = runs.sel(labels | {"alpha": 2}), train(want, seeds=2, device="cpu")
    assert runs["error"].dims == (*axes, "seed", "check")
    for name in alone.data_vars:
        size = alone["theta"].sizes["parameter"]
        np.testing.assert_array_equal(cell[name].isel(parameter=slice(size), missing_dims="ignore"), alone[name])
    assert cell["theta"].isnull().sum() == 2 * (runs.sizes["parameter"] - size) > 0


def test_a_specification_alone_is_a_sweep_without_axes_and_axes_can_be_added_to_an_array():
    runs, alone = run(BASE, seeds=[3, 0], device="cpu"), train(BASE, seeds=[3, 0], device="cpu")
    assert runs["error"].dims == ("seed", "check")
    xarray.testing.assert_identical(runs["error"].variable, alone["error"].variable)
    one, two = grid(grid(BASE, length=[10, 12]), units=[3, 4]), grid(BASE, length=[10, 12], units=[3, 4])
    xarray.testing.assert_identical(one, two)
    bare = xarray.DataArray(one.values, dims=("a", "b"))
    assert run(bare, seeds=1, device="cpu")["b"].values.tolist() == [0, 1]


def test_cells_of_other_budgets_have_their_own_checks():
    runs = run(BASE, updates=[20, 25], check_every=[10, 25], seeds=1, device="cpu")
    assert runs["update"].values.tolist() == [10, 20, 25]
    made = runs["error"].notnull().squeeze("seed").values.tolist()
    assert made == [[[True, True, False], [False, True, False]], [[True, True, True], [False, False, True]]]


def test_progress_counts_steps_cell_by_cell():
    seen = []
    run(BASE, **TINY | {"algorithm": {"MSGD": CALM["MSGD"]}}, seeds=2, device="cpu", progress=seen.append)
    steps = np.cumsum([2 * 25 * length for length in (12, 10, 12, 10)]).tolist()
    cells = [
        f"init {init}, algorithm MSGD, length {length}" for init in ("smart tanh", "sigmoid") for length in (12, 10)
    ]
    assert seen == [
        Progress(made, 2_200, f"{cell}: {2 * n} runs, 0 solved")
        for n, (made, cell) in enumerate(zip(steps, cells, strict=True), 1)
    ]
    assert [progress.over for progress in seen] == [False, False, False, True]


@pytest.fixture
def trained(monkeypatch):
    """The seeds of each ensemble that is trained in this process."""
    seen = []
    monkeypatch.setattr(executors, "train", lambda spec, **how: seen.append(how["seeds"]) or train(spec, **how))
    return seen


LUCKY = BASE.with_(updates=40, check_every=4, check_sequences=1, confirm_sequences=1, stop="no error")  # by chance
ONE = {"init": {"basic tanh": INITS["basic tanh"]()}, "algorithm": CALM, "length": [10], "seeds": 5, "device": "cpu"}


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "lucky.summary"
    write_summary(totals(run(LUCKY, **ONE)), path, command="")
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
def test_what_a_summary_holds_to_the_end_is_taken_from_it_and_only_the_rest_is_trained(
    summary, updates, taken, trained
):
    spec = LUCKY.with_(updates=updates)
    runs = run(spec, **ONE, chunk=2, known=summary)
    ended = int((summary["first_no_error"] <= updates).sum())
    assert 1 <= ended <= 9
    assert sum(map(len, trained)) == {"all": 0, "early": 10 - ended}[taken]
    assert runs["run"].isin(summary["run"]).sum() == {"all": 10, "early": ended}[taken]
    assert_as_trained(runs, spec, **ONE)


def test_a_summary_of_trainings_that_end_below_1_percent_answers_other_budgets(tmp_path, trained):
    spec = LUCKY.with_(stop="below 1 %")
    write_summary(totals(run(spec, **ONE)), tmp_path / "one.summary", command="")
    known = read_summary(tmp_path / "one.summary")
    trained.clear()
    run(spec.with_(updates=60), **ONE, known=known)
    assert sum(map(len, trained)) == 10 - int(known["first_below_1_percent"].notnull().sum()) < 10


def test_of_an_ensemble_that_a_summary_holds_in_part_the_other_seeds_are_trained_and_all_keep_their_order(
    summary, trained
):
    seen = []
    grid = {**ONE, "seeds": [6, 3, 0, 5, 1], "algorithm": CALM}
    runs = run(LUCKY, **grid, known=summary, progress=seen.append)
    assert trained == [[6, 5], [6, 5]]
    each = 40 * 10
    assert [progress.done for progress in seen] == [3 * each, 6 * each, 8 * each, 10 * each]
    assert runs["run"].isin(summary["run"]).sum("seed").values.tolist() == [[[3], [3]]]
    assert_as_trained(runs, LUCKY, **grid)


def test_a_network_that_stands_under_another_specification_than_its_own_is_trained_again(summary, trained):
    """As where one was taken from an algorithm whose clipping never acted."""
    moved = summary.copy(deep=True)
    for name in set(summary.data_vars) - {"spec"}:
        moved[name].loc[{"algorithm": "MSGD"}] = summary[name].sel(algorithm="MSGD-CR")
    runs = run(LUCKY, **ONE, known=moved)
    assert trained == [[0, 1, 2, 3, 4]]
    assert len(np.unique(runs["run"])) == 10
    assert_as_trained(runs, LUCKY, **ONE)


def test_an_ensemble_that_the_store_has_begun_goes_on_there_and_is_not_taken_apart(summary, tmp_path, trained):
    grid, store = {**ONE}, Store(tmp_path)
    run(LUCKY.with_(updates=20), **grid, store=store)
    trained.clear()
    spec = LUCKY.with_(updates=90)
    runs = run(spec, **grid, store=store, known=summary)
    assert trained == [[0, 1, 2, 3, 4]] * 2
    assert not runs["run"].isin(summary["run"]).any()
    assert_as_trained(runs, spec, **grid)


@pytest.mark.parametrize("other", [{"batch": 5}, {"stop": "never", "updates": 50}, {"check_every": 1, "updates": 30}])
def test_a_summary_of_another_question_answers_nothing(summary, other, trained):
    run(LUCKY.with_(**other), **ONE, known=summary)
    assert trained == [[0, 1, 2, 3, 4]] * 2
    with pytest.raises(ValueError, match="known must be what `read_summary` returned for a sweep's `totals`, got"):
        run(LUCKY, **ONE, known=summary.drop_vars("final_rho"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": []}, "length must hold at least one, got"),
        ({"init": {}}, "init must hold at least one, got"),
        ({"algorithm": {}}, "algorithm must hold at least one, got"),
        ({"length": [10, 10]}, r"length must be different, got \[10, 10\]"),
        ({"length": [9]}, "length must be at least 10 steps for temporal order, got 9"),
    ],
)
def test_a_sweep_refuses_axes_that_make_no_grid(changes, message):
    with pytest.raises(ValueError, match=message):
        grid(BASE, **(TINY | changes))


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


@pytest.mark.parametrize("event", ["guarded", "final_error", "fresh_error", "rho", "run"])
def test_success_is_of_events_alone(event):
    runs = train(Spec(task=TemporalOrder(10), updates=2, check_every=1, check_sequences=10, units=3), seeds=2)
    assert event in runs
    with pytest.raises(ValueError, match=r"^event must be one of \['first_below_1_percent', .* got"):
        success(runs, event=event)
    with pytest.raises(ValueError, match=r"^runs must have a dimension seed, got \{"):
        success(runs.isel(seed=0))


def test_a_store_is_gone_on_from_seed_by_seed_whichever_ensembles_they_were_trained_in(tmp_path, trained):
    axes, store = {**TINY, "length": [10], "device": "cpu"}, Store(tmp_path)
    spec = BASE.with_(updates=20, stop="never")

    def asked(budget, seeds, **how):
        """What a sweep with the store comes to, which is what one without comes to; and what was trained for it."""
        trained.clear()
        kept = run(spec.with_(updates=budget), **axes, seeds=seeds, store=store, **how)
        new = list(trained)
        plain = run(spec.with_(updates=budget), **axes, seeds=seeds)
        for name in plain.data_vars:
            xarray.testing.assert_equal(kept[name], plain[name])
        return new

    cells = len(TINY["init"]) * len(CALM)
    assert asked(20, 3) == [[0, 1, 2]] * cells
    assert asked(20, 5) == [[3, 4]] * cells
    assert asked(20, [4, 0, 2]) == []
    assert asked(20, 5, chunk=1) == []
    assert sorted(asked(40, 6)) == sorted([[0, 1, 2], [3, 4], [5]] * cells)
    assert len(store.files()) == cells * (2 + 3)


def test_of_a_store_nothing_counts_that_was_damaged_or_trained_from_elsewhere(tmp_path, trained):
    axes, store = {**TINY, "length": [10], "device": "cpu", "seeds": 2}, Store(tmp_path)
    spec = BASE.with_(updates=20, stop="never", init=TINY["init"]["sigmoid"])
    whole = train(spec, seeds=2, device="cpu")
    start = Start(whole["theta"].values, 10)
    train(spec, seeds=2, start=start, device="cpu", store=store)
    alone = {**axes, "init": {"sigmoid": spec.init}, "algorithm": {"MSGD-CR": spec.algorithm}}
    run(spec, **alone, store=store)
    assert len(trained) == 1
    for path in store.files():
        path.write_bytes(path.read_bytes()[:-70] + bytes(70))
    trained.clear()
    with pytest.warns(UserWarning, match="set aside"):
        run(spec, **alone, store=store)
    assert len(trained) == 1


@dataclass(frozen=True)
class Steps:
    """A measure that is called like an axis."""

    name: str = "length"
    long_name: ClassVar[str] = "updates"
    units: ClassVar[str] = "1"

    def __call__(self, ensemble):
        return torch.full((len(ensemble.seeds),), float(ensemble.update))


def test_an_axis_and_a_series_of_one_name_are_refused_before_anything_is_trained(trained):
    with pytest.raises(ValueError, match="axes must be called otherwise than what trainings take down, got 'length'"):
        run(BASE.with_(measures=(Steps(),)), seeds=1, device="cpu", length=[12, 10])
    assert not trained


def test_labels_are_pythons_numbers_whatever_the_values_are_made_of():
    specs = grid(BASE, learning_rate=[np.float64(0.5), 1])
    assert specs.sel(learning_rate=0.5).item().algorithm.learning_rate == 0.5
    assert specs["learning_rate"].dtype == float

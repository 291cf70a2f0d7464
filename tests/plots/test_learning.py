"""Figures show the numbers they are given, in the colours and marks that belong to them."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import xarray
from matplotlib import pyplot as plt

from rnnlab import plots, wilson
from rnnlab.plots import drawings

SEEDS = {"seed": [0, 1, 2]}
CELLS = {"algorithm": ["MSGD", "MSGD-CR"], "length": [10, 20]}


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_success_rates_draws_each_rate_and_its_interval_at_its_length(ax):
    rate = xarray.DataArray([[0.2, 0.4], [0.6, 0.8]], coords=CELLS)
    plots.success_rates(ax, xarray.Dataset({"rate": rate, "low": rate - 0.1, "high": rate + 0.2}))
    for line, name in zip(ax.lines, CELLS["algorithm"], strict=True):
        assert (line.get_label(), line.get_color(), line.get_marker()) == (
            name,
            plots.COLORS[name],
            plots.MARKERS[name],
        )
        np.testing.assert_array_equal(line.get_ydata(), rate.sel(algorithm=name))
        np.testing.assert_array_equal(line.get_xdata(), CELLS["length"])
    widths = [line.get_markersize() for line in ax.lines]
    assert widths == sorted(set(widths), reverse=True), "a later mark leaves those below it to be seen"
    for bars, name in zip(ax.collections, CELLS["algorithm"], strict=True):
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, rate.sel(algorithm=name).values[:, None] + [-0.1, 0.2])


def test_members_by_length_fills_the_solved_and_leaves_the_others_hollow(ax):
    values = xarray.DataArray(np.arange(12.0).reshape(2, 2, 3), coords=CELLS | SEEDS)
    plots.members_by_length(ax, values, values > 4)
    drawn = {True: [], False: []}
    for line in ax.lines:
        drawn[line.get_markerfacecolor() != "none"] += zip(line.get_xdata(), line.get_ydata(), strict=True)
    assert sorted(y for _, y in drawn[False]) == [0, 1, 2, 3, 4]
    assert sorted(y for _, y in drawn[True]) == [5, 6, 7, 8, 9, 10, 11]
    assert len({x for dots in drawn.values() for x, _ in dots}) == 12  # no dot hides another
    assert all(abs(x - CELLS["length"][int(y) // 3 % 2]) < 2 for dots in drawn.values() for x, y in dots)


def test_panels_are_a_row_for_each_outcome_and_a_column_for_each_initialization():
    coords = {"init": ["sigmoid", "basic tanh"]} | CELLS | SEEDS
    values = xarray.DataArray(np.arange(24.0).reshape(2, 2, 2, 3), coords=coords)
    figure, axes = plt.subplots(2, 2)
    plots.panels(axes, {"rho": values, "norm": -values}, values > 4)
    for (i, j), ax in np.ndenumerate(axes):
        drawn = sorted(y for line in ax.lines for y in line.get_ydata())
        assert drawn == sorted((1 - 2 * i) * values[j].values.ravel())
        assert (ax.get_xlabel(), ax.get_ylabel()) == (["", "length (steps)"][i], [["rho", "norm"][i], ""][j])
    plt.close(figure)


def test_a_single_length_and_a_single_seed_are_drawn_too(ax):
    one = xarray.DataArray([[[7.0]]], coords={"algorithm": ["MSGD"], "length": [30], "seed": [0]})
    plots.members_by_length(ax, one, one > 0)
    ((x, y),) = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if len(line.get_xdata())]
    assert (x, y) == (30, 7)


def test_a_learning_curve_keeps_the_last_value_of_a_member_that_stopped(ax):
    error = xarray.DataArray([[0.7, 0.0, np.nan], [0.7, 0.6, 0.5], [0.8, 0.1, np.nan]], dims=("seed", "check"))
    runs = xarray.Dataset({"error": error.assign_attrs(long_name="share of wrong sequences", units="1")})
    plots.learning_curves(runs.assign_coords(update=("check", [100, 200, 300])), ax=ax)
    median, *members = [line.get_ydata() for line in ax.lines]
    np.testing.assert_array_equal(median, [0.7, 0.1, 0.1])
    np.testing.assert_array_equal(members, [[0.7, 0, 0], [0.7, 0.6, 0.5], [0.8, 0.1, 0.1]])
    assert ax.get_ylabel() == "share of wrong sequences"


def test_a_learning_curve_of_what_was_not_recorded_is_refused():
    runs = xarray.Dataset({"error": (("seed", "check"), np.zeros((1, 1)))})
    with pytest.raises(ValueError, match=r"series must be one of \['error'\], got 'loss'"):
        plots.learning_curves(runs, series="loss")


def test_what_has_other_dimensions_than_a_plot_is_refused_with_what_to_choose(ax):
    cells = xarray.DataArray(np.zeros((2, 2, 3)), coords=CELLS | SEEDS)
    series = cells.expand_dims(check=2).to_dataset(name="error")
    rates = xarray.Dataset(dict.fromkeys(("rate", "low", "high"), cells))
    for plot, name, dims in (
        (lambda: plots.learning_curves(series, ax=ax), "runs", "seed and check, got check, algorithm, length, seed"),
        (
            lambda: plots.learning_curves(series.isel(algorithm=0, length=0, seed=0)),
            "runs",
            "seed and check, got check",
        ),
        (lambda: plots.success_rates(ax, rates), "rates", "algorithm and length, got algorithm, length, seed"),
        (lambda: plots.solved_by(ax, cells, updates=1), "when", "algorithm and seed, got algorithm, length, seed"),
        (lambda: plots.solved_by(ax, cells[0, 0, 0], updates=1), "when", "algorithm and seed, got a single number"),
        (lambda: plots.members_by_length(ax, cells, cells[0] > 0), "solved", "algorithm and length and seed, got len"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be over {dims}.*; choose from others as in sel"):
            plot()
    with pytest.raises(ValueError, match=r"^rates must be what .* returned, got it without \['high', 'low'\]"):
        plots.success_rates(ax, rates[["rate"]])
    assert not ax.lines


def test_a_plain_logarithmic_axis_is_labelled_in_ones_twos_and_fives(ax):
    ax.plot([1, 2], [200, 2000])
    plots.plain_log(ax)
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    shown = [label.get_text() for label in ax.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert shown == ["200", "500", "1000", "2000"]


def test_solved_by_climbs_at_each_time_and_ends_at_the_share_with_wilsons_interval(ax):
    when = xarray.DataArray([[300.0, np.nan, 100.0], [np.nan] * 3], coords={"algorithm": CELLS["algorithm"], **SEEDS})
    plots.solved_by(ax, when, updates=400)
    first, second = ax.lines
    np.testing.assert_allclose(first.get_xydata(), [[0, 0], [100, 1 / 3], [300, 2 / 3], [400, 2 / 3]])
    np.testing.assert_allclose(second.get_xydata(), [[0, 0], [400, 0]])
    for bar, solved in zip(ax.collections, (2, 0), strict=True):
        ((x, low), (_, high)) = bar.get_segments()[0]
        assert x > 400
        assert (low, high) == pytest.approx(wilson(solved, 3))


def test_roofs_end_where_a_bandwidth_reaches_the_highest_rate(ax):
    ax.set(xscale="log", yscale="log", xlim=(0.1, 100), ylim=(1, 1000))
    drawings.roofs(ax, {"product": 80.0, "peak": 100.0}, {"near": 50.0, "far": 10.0})
    drawn = [np.array(line.get_data()).T.tolist() for line in ax.lines]
    level, slopes = drawn[:2], drawn[2:]
    assert level == [[[0.1, 80], [100, 80]], [[0.1, 100], [100, 100]]]
    assert slopes == [[[0.1, 5], [2, 100]], [[0.1, 1], [10, 100]]]
    assert [text.get_text() for text in ax.texts] == ["product", "peak", "near", "far"]


def test_errors_by_length_are_points_and_where_none_is_wrong_each_network_has_a_line_in_a_row_that_says_so(ax):
    errors, lengths = np.array([[0.0, 0.5], [0.25, 0.0], [0.125, 0.5]]), np.array([50, 100, 200])
    plots.errors_by_length(ax, lengths, np.array([1000, 10, 10]), errors, seeds=[2, 5], zero=1e-5)
    points = [line for line in ax.get_lines() if line.get_marker() not in ("None", None, "")]
    shown = [line for line in points if line.get_markerfacecolor() != "none"]
    np.testing.assert_array_equal([line.get_ydata() for line in shown], [[np.nan, 0.25, 0.125], [0.5, np.nan, 0.5]])
    assert [line.get_xdata().tolist() for line in shown] == [[50, 100, 200]] * 2, "none is moved off its length"
    assert [line.get_label() for line in shown] == ["seed 2", "seed 5"]
    assert len({(line.get_color(), line.get_marker()) for line in shown}) == 2
    none = [line.get_xydata().tolist() for line in points if line.get_markerfacecolor() == "none"]
    assert none == [[[50, 1e-5]], [[100, pytest.approx(1e-5 / 1.5)]]]
    (bars,) = ax.collections
    ends = [segment[1].tolist() for segment in bars.get_segments()]
    # Wilson's upper end for none of n is z^2 / (n + z^2).
    assert ends == [
        [50, pytest.approx(3.8415 / 1003.8415, rel=1e-4)],
        [100, pytest.approx(3.8415 / 13.8415, rel=1e-4)],
    ]
    assert bars.get_alpha() < 0.2
    labels = dict(zip(ax.get_yticks(), (text.get_text() for text in ax.get_yticklabels()), strict=True))
    assert [tick for tick, label in labels.items() if label == "none wrong"] == [pytest.approx(1e-5 / 1.5**0.5)]
    assert 0 not in labels
    assert ax.get_ylim()[0] < 1e-5 / 1.5


def test_a_band_goes_from_the_first_to_the_third_quartile_around_the_median():
    samples = np.array([[[0.0, 1.0], [2.0, 4.0]], [[np.nan, 5.0], [6.0, 7.0]]])
    ax = plots.band(plt.subplots()[1], [10, 20], samples, color="red")
    (line,), (area,) = ax.lines, ax.collections
    assert line.get_xydata().tolist() == [[10, 1.5], [20, 6]]
    low, high = (area.get_datalim(ax.transData).get_points()[:, 1]).tolist()
    assert (low, high) == (0.75, 6.5)
    assert {(x, y) for x, y in area.get_paths()[0].vertices.tolist()} >= {(10, 0.75), (10, 2.5), (20, 5.5), (20, 6.5)}
    plt.close("all")


def test_what_is_carried_back_is_drawn_against_steps_back_from_the_last():
    kept = np.array([[[0.01, 0.03], [0.1, 0.1], [1.0, 1.0]], [[0.02, 0.04], [0.3, 0.3], [1.0, 1.0]]])
    ax = plots.carried(plt.subplots()[1], kept, label="some")
    (line,) = ax.lines
    steps_back = dict(zip(*line.get_data(), strict=True))
    assert steps_back == pytest.approx({0: 1.0, 1: 0.2, 2: 0.025}, rel=1e-12)
    assert (ax.get_yscale(), ax.get_xlim(), line.get_label()) == ("log", (0, 2), "some")
    plt.close("all")


def test_dots_of_a_group_stand_side_by_side_filled_or_hollow_with_bars():
    values, filled = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([[True, False, True], [False, True, True]])
    ax = plots.dots(plt.subplots()[1], values, filled=filled, colors=[["red"], ["blue"]], bars=values / 10)
    drawn = {(*(float(x) for x in line.get_xydata()[0]),): line for line in ax.lines}
    assert list(drawn) == [(i + x, values[i, j]) for i in (0, 1) for j, x in enumerate((-0.3, 0, 0.3))]
    faces = [line.get_markerfacecolor() for line in drawn.values()]
    assert faces == ["red", "none", "red", "none", "blue", "blue"]
    assert [line.get_color() for line in drawn.values()] == ["red"] * 3 + ["blue"] * 3
    ends = [bar.get_segments()[0][:, 1].tolist() for bar in ax.collections]
    assert ends == [pytest.approx([0.9 * y, 1.1 * y]) for y in values.flatten()]
    plt.close("all")


def test_the_only_dot_of_a_group_stands_on_its_place():
    ax = plots.dots(plt.subplots()[1], np.array([[7.0]]), filled=np.array([[True]]), colors=[["red"]])
    assert ax.lines[0].get_xydata().tolist() == [[0, 7]]
    assert len(ax.collections) == 0
    plt.close("all")

"""Shares and their intervals, against numbers worked out by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
import xarray
from scipy.stats import permutation_test

from rnnlab.statistics import (
    at_lowest,
    complete,
    holm,
    jonckheere,
    leads,
    log_rank,
    mcnemar,
    ran,
    regression,
    sign_flips,
    success,
    trend,
    wilcoxon,
    wilson,
)

# Of four networks three got there; the fourth was tested, and the fifth was never trained.
RUNS = xarray.Dataset(
    {
        "run": ("seed", ["a", "b", "c", "d", ""]),
        "first_below_1_percent": ("seed", [7.0, 3.0, 9.0, np.nan, np.nan]),
        "first_no_error": ("seed", [np.nan] * 5),
        "fresh_error": ("seed", [0.0, 0.009, 0.01, np.nan, np.nan]),
        "diverged_at": ("seed", [np.nan, np.nan, np.nan, 12.0, np.nan]),
    }
)
# Wilson's ends for 3 of 4 and 2 of 4 at z = 1.959964, by his formula.
THREE_OF_FOUR, TWO_OF_FOUR = (0.300642, 0.954413), (0.150039, 0.849961)


def test_three_of_four_and_a_quantile_of_two():
    assert wilson(3, 4) == pytest.approx(THREE_OF_FOUR, abs=2e-6)
    # (1/2 + 4/2/16 -+ 2 sqrt(1/64 + 4/4/256)) / (1 + 4/16), where 2/16 is weight / 2
    half = 2 * (1 / 64 + 1 / 256) ** 0.5
    assert wilson(8, 16, z=2) == pytest.approx(((0.625 - half) / 1.25, (0.625 + half) / 1.25), rel=1e-12)


def test_wilcoxons_p_is_the_normal_limit_of_all_ways_to_give_ranks_their_signs():
    d = np.array([0.3, -1.0, 0.0, 2.0, 1.0, 5.0, -0.3, 4.0])
    ranks = [1.5, 3.5, 5, 3.5, 7, 1.5, 6]  # of what is not 0; ties share theirs
    sums = [sum(s * r for s, r in zip(signs, ranks, strict=True)) for signs in itertools.product((-1, 1), repeat=7)]
    z = (1.5 - 3.5 + 5 + 3.5 + 7 - 1.5 + 6) / np.std(sums)
    assert wilcoxon(d) == wilcoxon(-d) == pytest.approx(2 * (1 - 0.5 * (1 + math.erf(z / 2**0.5))), rel=1e-12)
    assert wilcoxon(np.zeros(4)) == wilcoxon(np.array([1.0, -1.0])) == 1
    rng = np.random.default_rng(0)
    p = [wilcoxon(x) for x in rng.normal(size=(2000, 30))]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)  # 3 standard errors


def test_sign_flips_count_the_ways_whose_sum_is_as_large():
    assert sign_flips(np.array([1.0, 2.0, 3.0])) == 1 / 8
    assert sign_flips(np.array([-1.0, 2.0, 3.0])) == 2 / 8  # 4 or 6
    assert sign_flips(np.array([0.1, 0.2, -0.3])) == 5 / 8  # 0, 0, .2, .4, .6 reach 0, whatever rounding says
    assert (sign_flips(np.zeros(3)), sign_flips(np.array([1.0, np.nan])), sign_flips(np.ones(1))) == (1, 1, 0.5)
    d = np.random.default_rng(0).normal(0.5, size=9)
    assert sign_flips(d) == permutation_test((d,), np.sum, permutation_type="samples", alternative="greater").pvalue
    with pytest.raises(ValueError, match="d must be of at most 20 pairs, whose signs are all tried, got 21"):
        sign_flips(np.zeros(21))


def test_each_network_is_taken_where_its_own_series_is_lowest():
    validation = [[3.0, 1.0, 2.0], [np.nan, 5.0, 4.0], [np.nan, np.nan, np.nan]]
    test = [[30.0, 10.0, 20.0], [1.0, 50.0, 40.0], [7.0, 8.0, 9.0]]
    runs = xarray.Dataset({"validation_loss": (("seed", "check"), validation), "test_loss": (("seed", "check"), test)})
    assert at_lowest(runs)["test_loss"].values.tolist() == [10, 40, 7]
    assert at_lowest(runs.rename(check="epoch"), by="test_loss", dim="epoch")["test_loss"].values.tolist() == [10, 1, 7]


def test_jonckheeres_p_of_two_columns_is_the_sign_tests_and_of_three_counts_pairs():
    x = np.array([[0.0, 1.0], [2.0, 3.0], [5.0, 4.0], [1.0, 2.0], [7.0, 7.0]])  # 3 rise, 1 falls
    assert jonckheere(x) == pytest.approx(0.5 * math.erfc((3 - 1) / 4**0.5 / 2**0.5), rel=1e-12)
    # 3 pairs rise of 3: the six orders have 3, 1, 1, -1, -1, -3, of which the mean square is 22 / 6.
    assert jonckheere(np.array([[1.0, 2.0, 3.0]])) == pytest.approx(
        0.5 * math.erfc(3 / (22 / 6) ** 0.5 / 2**0.5), rel=1e-12
    )
    assert jonckheere(np.zeros((3, 3))) == 0.5
    with pytest.raises(ValueError, match="x must be of at most 7 columns, whose orders are all tried, got"):
        jonckheere(np.zeros((2, 8)))


def test_holms_steps_are_as_worked_out_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])


def test_none_and_all_end_exactly_at_0_and_1():
    # For none of n the upper end is z^2 / (n + z^2).
    assert wilson(0, 4, z=2) == (0.0, pytest.approx(0.5, rel=1e-12))
    assert wilson(4, 4, z=2) == (pytest.approx(0.5, rel=1e-12), 1.0)
    assert wilson(0, 996, z=2) == (0.0, pytest.approx(0.004, rel=1e-12))
    assert wilson(int("996"), 996, z=2) == (pytest.approx(0.996, rel=1e-12), 1.0)
    assert wilson(1, 1, z=1) == (pytest.approx(0.5, rel=1e-12), 1.0)


# Pairs to which it happened once, to the first and to the second, and p by the binomial coefficients of one half.
@pytest.mark.parametrize(
    ("first", "second", "p"), [(3, 0, 2 / 8), (1, 5, 14 / 64), (2, 2, 1), (0, 0, 1), (990, 0, 2.0**-989)]
)
def test_the_p_of_pairs_counts_those_to_which_it_happened_once(first, second, p):
    one = torch.tensor([True] * first + [False] * second + [True] * 4 + [False] * 3)
    other = torch.tensor([False] * first + [True] * second + [True] * 4 + [False] * 3)
    assert mcnemar(one, other) == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 4), (5, 4), (0, 0), (1, -1)])
def test_no_interval_for_what_cannot_be_counted(successes, trials):
    with pytest.raises(ValueError, match="trials"):
        wilson(successes, trials)


def test_a_network_without_a_name_did_not_run():
    assert ran(RUNS).values.tolist() == [True, True, True, True, False]
    missing = xarray.Dataset({"run": ("seed", np.array(["a", None], dtype=object))})
    assert ran(missing).values.tolist() == [True, False]


@pytest.mark.parametrize(
    ("event", "rate", "ends", "trials"),
    [
        ("first_below_1_percent", 0.75, THREE_OF_FOUR, 4),
        ("first_no_error", 0.0, (0.0, 0.489891), 4),  # z^2 / (4 + z^2)
        ("fresh_below_1_percent", 0.5, TWO_OF_FOUR, 4),  # 1 % itself is not below; one that diverged has failed
    ],
)
def test_success_is_counted_among_the_networks_that_ran(event, rate, ends, trials):
    found = success(RUNS, event=event)
    assert (found["rate"].item(), found["trials"].item()) == (rate, trials)
    assert (found["low"].item(), found["high"].item()) == pytest.approx(ends, abs=2e-6)
    assert {found[name].attrs["units"] for name in ("rate", "low", "high")} == {"1"}


def test_all_networks_count_where_none_has_a_name_and_below_1_percent_is_what_is_asked():
    found = success(RUNS.drop_vars("run"))
    assert (found["rate"].item(), found["trials"].item()) == (0.6, 5)


def test_a_network_that_was_tested_afresh_and_diverged_counts_once():
    found = success(RUNS.assign(fresh_error=("seed", [0.0, 0.0, 0.5, 0.5, np.nan])), event="fresh_below_1_percent")
    assert (found["rate"].item(), found["trials"].item()) == (0.5, 4)


def test_where_nothing_was_run_there_is_no_rate():
    found = success(RUNS.assign(run=("seed", [""] * 5)), event="first_no_error")
    assert found["trials"].item() == 0
    assert np.isnan([found[name].item() for name in ("rate", "low", "high")]).all()


def test_what_holds_no_seeds_or_no_such_event_is_refused():
    with pytest.raises(ValueError, match="dimension seed"):
        success(RUNS.rename(seed="network"))
    for event in ("run", "fresh_error", "error", "fresh_below_1_percent"):
        with pytest.raises(ValueError, match="event must be one of"):
            success(RUNS.drop_vars("fresh_error"), event=event)


def test_a_cell_is_complete_where_it_has_as_many_networks_as_the_fullest_of_its_length():
    names = np.array([[[["a", "b"], ["c", "d"], ["", ""]]], [[["e", "f"], ["g", ""], ["", ""]]]], dtype=object)
    coords = {"init": ["x", "y"], "algorithm": ["MSGD"], "length": [10, 20, 30], "seed": [0, 1]}
    cells = complete(xarray.Dataset({"run": (tuple(coords), names)}, coords))
    assert cells.squeeze("algorithm").values.tolist() == [[True, True, False], [True, False, False]]


def test_a_lead_is_over_the_best_other_algorithm_where_that_says_something():
    rates = xarray.DataArray(
        [[0.5, 0.04, 0.96, 0.2], [0.1, 0.0, 1.0, 0.9], [0.3, 0.05, 0.95, 0.2]],
        coords={"algorithm": ["C", "A", "B"], "length": [1, 2, 3, 4]},
    )
    np.testing.assert_allclose(leads(rates, "C", floor=0.05), [0.2, np.nan, np.nan, -0.7])
    np.testing.assert_allclose(leads(rates, "C"), [0.2, -0.01, -0.04, -0.7])
    assert leads(rates * 0, "C").isnull().all()


def test_a_regression_finds_slopes_and_its_intervals_are_those_of_as_many_seeds():
    """Three networks of a seed that share cause and noise say no more than one: 0.1 / sqrt(400) is the error."""
    draw, seeds = np.random.default_rng(1), np.repeat(np.arange(400), 3)
    a, b, noise = (draw.normal(size=400)[seeds] for _ in range(3))
    causes = xarray.Dataset({"a": ("network", a), "b": ("network", b)})
    y = xarray.DataArray(7 + 2 * a - 3 * b, dims="network", coords={"seed": ("network", seeds)})
    exact, found = regression(y, causes, draws=3), regression(y + 0.1 * noise, causes, draws=400)
    assert found["cause"].values.tolist() == ["a", "b"]
    np.testing.assert_allclose([exact["slope"], exact["low"], exact["high"]], [[2, -3]] * 3)
    np.testing.assert_allclose(found["slope"], [2, -3], atol=4 * 0.1 / 20)
    np.testing.assert_allclose(found["high"] - found["low"], 2 * 1.96 * 0.1 / 20, rtol=0.2)


def won(table, lengths=(0, 1)):
    """Who won, by seed and length."""
    return xarray.DataArray(table, {"seed": range(len(table)), "length": list(lengths)}, ["seed", "length"])


def test_the_trend_of_wins_is_that_of_conditional_logistic_regression():
    pair = trend(won([[0, 1], [1, 0], [0, 1], [0, 0], [1, 1], [np.nan, 1]]))
    assert float(pair.slope) == pytest.approx(math.log(2 / 1), rel=1e-9)  # discordant pairs, as McNemar has it
    three = trend(won([[0, 0, 1], [0, 1, 0], [1, 0, 1]], lengths=(0, 10, 20)))
    # Let x be the odds of ten units. The likelihood is x^2 / (1 + x + x^2) x / (1 + x + x^2) x^2 / (x + x^2 + x^3).
    odds = np.linspace(0.5, 5, 100_001)
    likelihood = odds**4 / (1 + odds + odds**2) ** 3
    assert float(three.slope) * 10 == pytest.approx(math.log(odds[likelihood.argmax()]), abs=1e-4)


def test_a_trend_without_end_is_infinite_and_one_of_nothing_is_none():
    assert float(trend(won([[0, 1]])).slope) == math.inf
    assert float(trend(won([[1, 0], [1, 0]])).slope) == -math.inf
    nothing = trend(won([[1, 1], [np.nan, 0]]))
    assert np.isnan(nothing.slope)
    assert np.isnan(nothing.p)


def test_lengths_at_which_a_seed_says_nothing_are_not_exchanged():
    row, lengths = [0, *[np.nan] * 4, 1], (10, 20, 30, 40, 50, 200)
    for seeds in (1, 3):  # each is one of two orders
        assert float(trend(won([row] * seeds, lengths)).p) == pytest.approx(2**-seeds, abs=0.02)
    same = xarray.concat([won([[0, np.nan]]), won([[1, np.nan]])], "init")
    assert np.isnan(trend(same).slope)  # won and lost at one length


def test_the_chance_of_a_trend_is_that_of_exchanging_lengths_within_seeds_jointly():
    table = [[0, 1, 1], [0, 0, 1], [1, 0, 1]]
    lengths = np.array([20, 30, 60])
    score = lambda orders: sum(lengths[list(order)] @ row for order, row in zip(orders, table, strict=True))  # noqa: E731
    every = list(itertools.product(itertools.permutations(range(3)), repeat=3))
    exact = np.mean([score(orders) >= score([(0, 1, 2)] * 3) for orders in every])
    found = trend(won(table, lengths), draws=40_000)
    assert float(found.p) == pytest.approx(exact, abs=4 * math.sqrt(exact / 40_000))
    # Two initializations of a seed are moved together: the same twice is no more evidence.
    twice = trend(won(table, lengths).expand_dims(init=["a", "b"]), draws=40_000)
    assert float(twice.p) == pytest.approx(float(found.p), abs=1e-12)
    assert float(twice.slope) == pytest.approx(float(found.slope), abs=0.05)


def times(rows):
    return xarray.DataArray(np.array(rows, dtype=float), dims=("seed", "length")[: np.ndim(rows)])


def mantels(one, other):
    """Observed less expected events of the first group, event by event, as textbooks tabulate it."""
    one, other = (np.nan_to_num(np.asarray(side, dtype=float), nan=np.inf) for side in (one, other))
    difference = 0.0
    for update in sorted({t for t in (*one, *other) if np.isfinite(t)}):
        first, second = (one >= update).sum(), (other >= update).sum()
        events = (one == update).sum() + (other == update).sum()
        difference += (one == update).sum() - events * first / (first + second)
    return difference


def test_the_chance_of_a_log_rank_is_that_of_exchanging_the_two_of_a_pair():
    one, other = [2, 3, 3, np.nan, 5, 8, 1], [4, 3, np.nan, 6, 9, np.nan, 7]
    exchanged = []
    for flips in itertools.product([False, True], repeat=7):
        pairs = [(b, a) if flip else (a, b) for a, b, flip in zip(one, other, flips, strict=True)]
        exchanged.append(abs(mantels(*zip(*pairs, strict=True))))
    exact = np.mean(np.array(exchanged) >= abs(mantels(one, other)) - 1e-9)
    assert log_rank(times(one), times(other), draws=40_000) == pytest.approx(exact, abs=5 * math.sqrt(exact / 40_000))
    assert log_rank(times(other), times(one)) == log_rank(times(one), times(other))
    assert log_rank(times(one), times(one)) == 1


def test_a_log_rank_has_strata_that_are_exchanged_together():
    one, other = times([[1, 10], [2, 20], [3, 30]]), times([[4, 40], [5, 50], [6, np.nan]])
    assert log_rank(one, other, draws=40_000) == pytest.approx(2 / 2**3, abs=0.01), "not 2 / 2**6"
    crossed = log_rank(times([[1, 9], [2, 8], [3, 7]]), times([[9, 1], [8, 2], [7, 3]]))
    assert crossed == 1, "what is sooner in one stratum and later in the other is neither"

"""Statistics over members: a trend's slope and p-value."""

import numpy as np
import pytest

from rnnlab.records import trend


def test_a_trend_that_all_rows_share_is_as_likely_as_all_coins_falling_alike():
    slope, p = trend(np.array([[0, 1]] * 5), [50, 100])
    assert slope == pytest.approx(1 / 50)
    assert p == pytest.approx(2 * 2**-5, abs=4 * np.sqrt(2**-4 / 9_999))  # four standard errors


def test_rows_of_three_in_order_have_the_exact_permutation_p_value():
    slope, p = trend(np.array([[1.0, 2.0, 3.0]] * 2), [1, 2, 3])
    assert slope == pytest.approx(1.0)
    assert p == pytest.approx(2 / 36, abs=4 * np.sqrt(2 / 36 / 9_999))  # both rows up, or both down, of 6 orders each


def test_levels_of_rows_do_not_matter_and_constant_rows_say_nothing():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 5))
    assert trend(values + np.arange(4)[:, None] * 100, range(5)) == pytest.approx(trend(values, range(5)))
    assert trend(np.ones((3, 2)), [1, 2]) == (0.0, 1.0)


def test_without_a_trend_small_p_values_are_rare():
    rng = np.random.default_rng(2)
    p = [trend(rng.normal(size=(6, 4)), range(4), permutations=99)[1] for _ in range(400)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 400))


@pytest.mark.parametrize(("values", "x"), [(np.ones((2, 3)), [1, 2]), (np.ones(2), [1, 2]), (np.ones((2, 2)), [1, 1])])
def test_a_trend_needs_a_column_for_each_of_two_different_numbers(values, x):
    with pytest.raises(ValueError, match="values must have a column for each of two or more different x"):
        trend(values, x)

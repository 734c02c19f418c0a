"""Intervals count groups where images belong together, and images where none do."""

from __future__ import annotations

import numpy as np
import pytest

from raysearch.intervals import effective_number, mean_interval, wilson

RANDOM = np.random.default_rng(0)
GAINS = RANDOM.normal(0.1, 1, 40)


@pytest.mark.parametrize("groups", [np.arange(40)[::-1], np.zeros(40, int)])
def test_where_all_groups_differ_or_there_is_one_alone_images_are_counted(groups):
    assert mean_interval(GAINS, 0.9, groups) == mean_interval(GAINS, 0.9)
    assert effective_number(GAINS > 0, groups) == effective_number(GAINS > 0, None) == 40


def test_images_that_are_the_same_three_times_say_what_they_say_once():
    """The error of the mean is the one of the first times alone, and as many degrees of freedom has its quantile."""
    thrice, groups = np.repeat(GAINS, 3), np.repeat(np.arange(40), 3)
    assert mean_interval(thrice, 0.9, groups) == pytest.approx(mean_interval(GAINS, 0.9))
    assert np.ptp(mean_interval(thrice, 0.9)[1:]) < 0.6 * np.ptp(mean_interval(GAINS, 0.9)[1:])
    assert effective_number(thrice > 0, groups) == pytest.approx(39), "of 40, one is spent on the mean"


def test_a_cluster_robust_error_by_hand():
    """Sums about the mean of 2 are -3, -1 and 4: the error is sqrt(3 / 2 x 26) / 5, the quantile of 2 degrees 2.92."""
    mean, low, high = mean_interval([0, 1, 1, 5, 3], 0.9, [7, 7, 9, 4, 4])
    assert mean == 2
    assert (mean - low, high - mean) == pytest.approx((2.919986 * np.sqrt(39) / 5,) * 2)


def test_groups_that_differ_no_more_than_chance_make_no_interval_narrower():
    assert effective_number([1, 0] * 20, np.repeat(np.arange(20), 2)) == 40


def test_where_all_are_right_a_group_says_one_thing():
    right, groups = np.ones(60), np.repeat(np.arange(6), 10)
    assert effective_number(right, groups) == 6
    assert wilson(1.0, effective_number(right, groups))[0] < 0.7 < wilson(1.0, 60)[0]

"""Intervals count groups where images belong together, and images where none do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from raysearch.intervals import effective_number, mcnemar, mean_interval, p_of_change, share_interval, wilson

RANDOM = np.random.default_rng(0)
GAINS = RANDOM.normal(0.1, 1, 40)


def test_where_all_groups_differ_images_are_counted():
    groups = np.arange(40)[::-1]
    assert mean_interval(GAINS, 0.9, groups) == mean_interval(GAINS, 0.9)
    assert effective_number(GAINS > 0, groups) == effective_number(GAINS > 0, None) == 40


def test_images_that_are_the_same_three_times_say_what_they_say_once():
    """The error of the mean is the one of the first times alone, and as many degrees of freedom has its quantile."""
    thrice, groups = np.repeat(GAINS, 3), np.repeat(np.arange(40), 3)
    assert mean_interval(thrice, 0.9, groups) == pytest.approx(mean_interval(GAINS, 0.9))
    assert np.ptp(mean_interval(thrice, 0.9)[1:]) < 0.6 * np.ptp(mean_interval(GAINS, 0.9)[1:])
    few = (stdtrit(119, 0.975) / stdtrit(39, 0.975)) ** 2
    assert effective_number(thrice > 0, groups) == pytest.approx(39 * few), "of 40, one is spent on the mean"


def test_a_cluster_robust_error_by_hand():
    """Sums about the mean of 2 are -3, -1 and 4: the error is sqrt(3 / 2 x 26) / 5, the quantile of 2 degrees 2.92."""
    mean, low, high = mean_interval([0, 1, 1, 5, 3], 0.9, [7, 7, 9, 4, 4])
    assert mean == 2
    assert (mean - low, high - mean) == pytest.approx((2.919986 * np.sqrt(39) / 5,) * 2)


def test_groups_that_differ_no_more_than_chance_make_no_interval_narrower():
    few = (stdtrit(39, 0.975) / stdtrit(19, 0.975)) ** 2
    assert effective_number([1, 0] * 20, np.repeat(np.arange(20), 2)) == pytest.approx(40 * few)


def test_where_all_are_right_a_group_says_one_thing():
    right, groups = np.ones(60), np.repeat(np.arange(6), 10)
    assert effective_number(right, groups) == 6
    assert share_interval(right, groups) == wilson(1.0, 6)
    assert wilson(1.0, 6)[0] < 0.7 < share_interval(right)[0]


def test_a_change_is_as_likely_by_chance_as_patients_make_it():
    """Thirty images are told right that were wrong, ten the other way: they are of three patients."""
    before, after = np.repeat([False, True, True], [30, 10, 60]), np.repeat([True, False, True], [30, 10, 60])
    assert p_of_change(before, after) == p_of_change(before, after, np.arange(100)) == mcnemar(before, after) < 0.01
    patients = np.concatenate([np.repeat([0, 1], 15), np.full(10, 2), np.repeat(np.arange(3, 9), 10)])
    found = p_of_change(before, after, patients)
    assert found > 0.2, "two patients gained, and one lost"
    low, high = mean_interval(after.astype(float) - before, 1 - found, patients)[1:]
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-9), "it is the level whose interval touches nought"


def test_a_pair_of_copies_makes_nothing_surer():
    before, after = np.ones(100, bool), np.arange(100) >= 4
    assert p_of_change(before, after, np.append(0, np.arange(99))) >= mcnemar(before, after) == 0.125


def test_where_all_patients_change_alike_each_is_one_coin():
    before, after, patients = np.zeros(30, bool), np.ones(30, bool), np.repeat(np.arange(3), 10)
    assert p_of_change(before, after, patients) == 2 * 0.5**3
    assert p_of_change(after, after, patients) == 1


@pytest.mark.parametrize("images", [2, 3, 5, 6, 7, 10, 11, 13, 20, 30])
def test_two_patients_who_change_alike_prove_nothing(images):
    """One image of each is lost: that neither differs from the other is no sign that others will not."""
    before, patients = np.ones(2 * images, bool), np.repeat([0, 1], images)
    after = np.arange(2 * images) % images > 0
    assert p_of_change(before, after, patients) == 0.5
    mean, low, high = mean_interval(before.astype(float) - after, 0.95, patients)
    assert low <= 0 < mean < high


def test_as_many_that_agree_as_fair_coins_would_not_are_sure():
    assert mean_interval(np.ones(5), 0.95)[1] == 0, "one in sixteen"
    assert mean_interval(np.ones(6), 0.95)[1] == 1, "one in thirty-two"


def test_images_of_one_patient_say_one_thing():
    one, right = np.zeros(40, int), np.arange(40) > 0
    assert effective_number(right, one) == 1
    assert p_of_change(right, ~right, one) == 1
    assert mean_interval(right.astype(float), 0.95, one)[1] == 0


def test_shares_of_few_patients_are_where_their_interval_says():
    """Patients of 40 images, correlated by 0.25: of 400 draws of six, 0.88 were covered without Student's part."""
    random, covered = np.random.default_rng(0), 0
    concentration = 1 / 0.25 - 1
    for _ in range(400):
        own = random.beta(0.7 * concentration, 0.3 * concentration, 6)
        right = random.random((6, 40)) < own[:, None]
        low, high = share_interval(right.ravel(), np.repeat(np.arange(6), 40))
        covered += low <= 0.7 <= high
    assert covered / 400 > 0.92

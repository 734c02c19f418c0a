"""Comparisons of trials, and the axes that they are drawn on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raysearch.intervals import difference_interval
from raysearch.recipe import Stage
from raysearch.record.tables import heads_table, history_table, trials_table
from raysearch.reporting.charts import number_axis, round_ticks
from raysearch.reporting.compare import comparable, contrasts
from raysearch.reporting.curve_charts import range_tests
from raysearch.reporting.hyperparameters import contrasts_table
from raysearch.reporting.paths import with_paths
from tests.reporting.test_page import checked, made, trained


def compared(stages: list[Stage]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trials of those stages, the i-th with a best figure of 0.5 + i / 100, as `contrasts` wants them."""
    log = []
    for i, stage in enumerate(stages):
        log += [made(f"t{i:04d}", None, [Stage(depth=0, epochs=1), stage]), *trained(f"t{i:04d}", [0.5 + i / 100])]
    paths = with_paths(trials_table(log), heads_table(log))
    return comparable(paths, history_table(log), log, "accuracy")[0], paths


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_interval_of_two_groups_is_that_of_welchs_test(ones, others):
    mean, low, high = difference_interval(ones, others, 0.95)
    assert low <= mean <= high
    if min(np.std(ones), np.std(others)) > 1e-3:
        expected = stats.ttest_ind(ones, others, equal_var=False).confidence_interval(0.95)
        assert (low, high) == pytest.approx((expected.low, expected.high))


def test_groups_without_spread_have_an_interval_without_width():
    assert difference_interval([0.5, 0.5], [0.25, 0.25], 0.95) == (0.25, 0.25, 0.25)


def test_trials_with_augmentation_are_held_against_those_without():
    strengths = [0.0, 0.5, 0.0, 1.0]
    found = contrasts(*compared([Stage(depth=1, epochs=1, strength=strength) for strength in strengths]))
    assert [(one.what, one.level) for one in found] == [("augmentation", 1)]  # class weights were never tried
    assert found[0].having == pytest.approx([0.51, 0.53])
    assert found[0].lacking == pytest.approx([0.50, 0.52])
    table = contrasts_table(found, "macro_f1")
    assert table is not None
    assert table.rows[0][:6] == ["augmentation", "1", "2", "0.5200", "2", "0.5100"]
    assert table.rows[0][6].startswith("+0.0100 [-")


def test_all_ways_to_weigh_classes_count_as_weighing_and_all_ways_not_to_do_not():
    weights = ["none", 0.0, "balanced", 0.5, {"cat": 2.0}]
    found = contrasts(*compared([Stage(depth=1, epochs=1, class_weights=one) for one in weights]))
    assert [(one.what, len(one.having), len(one.lacking)) for one in found] == [("class weights", 3, 2)]


def test_a_single_trial_makes_no_interval():
    found = contrasts(*compared([Stage(depth=1, epochs=1, strength=strength) for strength in (0.0, 1.0, 1.0)]))
    table = contrasts_table(found, "accuracy")
    assert table is not None
    assert table.rows[0][6] == "too few"
    assert contrasts_table([], "accuracy") is None


@given(st.floats(1e-8, 1e8), st.floats(1, 1e6))
def test_round_ticks_lie_about_the_values_and_are_never_too_many(least, factor):
    ticks = round_ticks([least, least * factor])
    assert ticks == sorted(set(ticks))
    assert 1 <= len(ticks) <= 17
    assert ticks[0] <= least * 10
    assert ticks[-1] >= least * factor / 10


def test_an_axis_suits_its_numbers():
    assert number_axis([1, 2, 3]) == {"type": "linear", "tickmode": "linear", "dtick": 1}
    assert number_axis([0.1, 0.5])["type"] == "linear"
    logarithmic = number_axis([2e-4, 2e-3])
    assert logarithmic["type"] == "log"
    assert logarithmic["tickvals"] == [1e-4, 2e-4, 5e-4, 1e-3, 2e-3]
    assert logarithmic["ticktext"][0] == "0.0001"
    assert number_axis([9_000, 2_000_000])["ticktext"] == [
        "5000",
        "10k",
        "20k",
        "50k",
        "100k",
        "200k",
        "500k",
        "1M",
        "2M",
    ]


def test_a_range_test_shows_its_losses_and_the_bounds_on_them():
    test = {"rates": [1e-6, 1e-4, 1e-2], "losses": [2.0, 1.0, 9.0], "low": 1e-5, "high": 1e-4}
    figure = range_tests([{"event": "lr_find", "level": 1, "depths": {"1": test, "2": test}}])
    assert len(checked(figure).data) == 4
    line, dots = figure["data"][:2]
    assert line["y"] == [2.0, 1.0, 9.0]
    assert dots["x"] == [1e-5, 1e-4]
    assert dots["y"] == [1.5, 1.0]

"""Complementary recipes: the greedy order, and what it may not depend on."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raysearch.search.portfolio import complementary, regret_after

TABLES = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    elements=st.integers(0, 100).map(lambda hundredths: hundredths / 100),
)


def best_mean(regret: np.ndarray, recipes: list[int]) -> float:
    return float(regret[:, recipes].min(axis=1).mean())


def test_a_specialist_is_chosen_before_a_second_generalist() -> None:
    #                    all-round  its twin  good on the third alone
    regret = np.array([[0.2, 0.21, 1.0], [0.2, 0.21, 1.0], [0.9, 0.89, 0.0]])
    assert complementary(regret, 2) == [0, 2]


def test_what_is_left_when_nothing_can_be_lowered_goes_by_its_own_regret() -> None:
    assert complementary(np.array([[0.0, 0.9, 0.3], [0.0, 0.9, 0.5]]), 3) == [0, 2, 1]


@given(TABLES, st.integers(1, 8))
def test_each_recipe_is_chosen_once_and_no_more_than_there_are(regret: np.ndarray, size: int) -> None:
    order = complementary(regret, size)
    assert len(order) == len(set(order)) == min(size, regret.shape[1])
    assert complementary(regret, 1) == order[:1]  # a smaller portfolio is the beginning of a larger one


@given(TABLES, st.integers(1, 4))
def test_greedy_is_never_worse_than_any_single_recipe_and_within_its_bound_of_the_best_set(
    regret: np.ndarray, size: int
) -> None:
    order = complementary(regret, size)
    reached = best_mean(regret, order)
    assert all(reached <= best_mean(regret, [one]) + 1e-12 for one in range(regret.shape[1]))
    best = min(best_mean(regret, list(some)) for some in itertools.combinations(range(regret.shape[1]), len(order)))
    worst = float(regret.max(axis=1).mean())  # what is lowered is counted from here: nothing chosen yet
    assert worst - reached >= (1 - 1 / np.e) * (worst - best) - 1e-12


@given(TABLES, st.randoms())
def test_the_order_of_the_runs_is_of_no_consequence(regret: np.ndarray, random: Random) -> None:
    rows = list(range(len(regret)))
    random.shuffle(rows)
    assert complementary(regret[rows], 4) == complementary(regret, 4)


@given(TABLES, st.randoms())
def test_the_order_of_the_recipes_matters_among_equals_alone(regret: np.ndarray, random: Random) -> None:
    assume(len(np.unique(np.sort(regret, axis=0).mean(axis=0))) == regret.shape[1])  # no two alike on the whole
    columns = list(range(regret.shape[1]))
    random.shuffle(columns)
    assert [columns[one] for one in complementary(regret[:, columns], 4)] == complementary(regret, 4)


@given(TABLES, st.integers(1, 6))
def test_the_regret_never_rises_with_another_recipe(regret: np.ndarray, size: int) -> None:
    order = complementary(regret, size)
    after = regret_after(regret, order)
    assert (np.diff(after) <= 0).all()
    assert after[-1] == pytest.approx(best_mean(regret, order))


@pytest.mark.parametrize("regret", [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), np.array([[np.nan]])])
def test_a_table_that_cannot_be_averaged_is_refused(regret: np.ndarray) -> None:
    with pytest.raises(ValueError, match="runs x recipes"):
        complementary(regret, 2)


def test_a_portfolio_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got size=0"):
        complementary(np.zeros((1, 1)), 0)

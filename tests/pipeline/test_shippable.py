"""What can be made of several trainings, and which of it is best for its cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysearch.pipeline.shippable import figure_of, greedy, shippable, shipped_kind
from raysearch.record.goal import Goal

CLASSES = ("a", "b", "c")
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(3, size=300)


def answers(right: float, seed: int = 0) -> np.ndarray:
    """Probabilities of a classifier with about this accuracy."""
    random = np.random.default_rng(seed)
    found = np.where(random.random(len(LABELS)) < right, LABELS, random.integers(3, size=len(LABELS)))
    shares = np.eye(3)[found] * 2 + 1 + random.uniform(0, 0.1, (len(LABELS), 3))  # no two are equal
    return shares / shares.sum(axis=1, keepdims=True)


def accuracy(probabilities: np.ndarray) -> float:
    return figure_of(probabilities, LABELS, CLASSES, Goal("accuracy"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.2, 0.9), min_size=1, max_size=7))
def test_a_greedy_ensemble_is_no_worse_than_its_best_member_and_has_few(rights):
    candidates = {f"t{i:04d}": answers(right, i) for i, right in enumerate(rights)}
    weights = greedy(candidates, LABELS, CLASSES, Goal("accuracy"), most=3, rounds=8)
    together = sum(weight * candidates[name] for name, weight in weights.items())
    assert accuracy(together) >= max(accuracy(one) for one in candidates.values())
    assert sum(weights.values()) == pytest.approx(1)
    assert len(weights) <= 3


def test_different_mistakes_make_an_ensemble_worth_having():
    candidates = {f"t{i:04d}": answers(0.6, i) for i in range(4)}
    assert len(greedy(candidates, LABELS, CLASSES, Goal("accuracy"))) > 1


def test_the_frontier_says_what_each_costs():
    seeds, other = [answers(0.6, 1), answers(0.6, 2)], answers(0.6, 5)
    mean = np.mean(seeds, axis=0)
    members = {"t0000": (0.75, 3, mean), "t0004": (0.25, 1, other)}
    points = shippable(seeds, answers(0.7, 3), answers(0.75, 4), members)
    assert [(point.kind, point.cost) for point in points] == [
        ("single", 1), ("averaged", 1), ("mirror", 2), ("ensemble", 4)
    ]  # fmt: skip
    np.testing.assert_allclose(points[3].probabilities, 0.75 * mean + 0.25 * other)


def test_one_training_a_fold_leaves_nothing_to_average():
    points = shippable([answers(0.6)], None, None, {"t0000": (1.0, 1, answers(0.6))})
    assert [point.kind for point in points] == ["single"]


@pytest.mark.parametrize(("averaged", "kind"), [(0.8, "averaged"), (0.59, "averaged"), (0.3, "single")])
def test_the_average_is_shipped_unless_a_single_training_is_surely_better(averaged, kind):
    seeds = [answers(0.6, 1), answers(0.6, 2)]
    points = shippable(seeds, answers(averaged, 3), answers(0.9, 4), {})
    assert shipped_kind(points, LABELS, CLASSES, Goal("accuracy"), 0.9) == kind


def test_without_an_average_a_single_training_is_shipped():
    assert shipped_kind(shippable([answers(0.6)], None, None, {}), LABELS, CLASSES, Goal("accuracy"), 0.9) == "single"


@pytest.mark.parametrize(("student", "kind"), [(0.9, "student"), (0.71, "averaged"), (0.5, "averaged")])
def test_a_student_is_shipped_if_it_is_surely_better_and_not_by_hope(student, kind):
    points = shippable([answers(0.6, 1), answers(0.6, 2)], answers(0.7, 3), None, {}, answers(student, 7))
    assert [(point.kind, point.cost) for point in points] == [("single", 1), ("averaged", 1), ("student", 1)]
    assert shipped_kind(points, LABELS, CLASSES, Goal("accuracy"), 0.9) == kind


def test_a_student_is_held_to_the_single_training_that_would_be_shipped():
    points = shippable([answers(0.9, 1), answers(0.9, 2)], answers(0.3, 3), None, {}, answers(0.6, 7))
    assert shipped_kind(points, LABELS, CLASSES, Goal("accuracy"), 0.9) == "single"

"""How much better one classifier is than another on the same images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysearch.record.goal import Goal
from raysearch.training.decisions import Decisions
from raysearch.training.paired import compare, figure_interval

CLASSES = ("a", "b")
LABELS = np.arange(200) % 2


def wrong_at(wrong: int) -> Decisions:
    """Sure of the right class, but for the first `wrong` images."""
    answers = torch.as_tensor(LABELS).clone()
    answers[:wrong] = 1 - answers[:wrong]
    return Decisions(torch.nn.functional.one_hot(answers, 2).float() * 3)


@pytest.mark.parametrize("metric", ["accuracy", "loss", "macro_f1", "auroc", "recall:a"])
def test_the_better_one_is_surely_better_and_the_other_surely_worse(metric):
    ahead = compare(Goal(metric), wrong_at(10), wrong_at(60), LABELS, CLASSES, 0.95)
    behind = compare(Goal(metric), wrong_at(60), wrong_at(10), LABELS, CLASSES, 0.95)
    assert 0 < ahead.low <= ahead.mean <= ahead.high
    assert behind.high < 0
    assert behind.mean == pytest.approx(-ahead.mean)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_equal_ones_are_not_told_apart(metric):
    found = compare(Goal(metric), wrong_at(20), wrong_at(20), LABELS, CLASSES, 0.9)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_accuracy_is_compared_image_by_image():
    found = compare(Goal("accuracy"), wrong_at(10), wrong_at(30), LABELS, CLASSES, 0.9)
    gains = np.zeros(200)
    gains[10:30] = 1
    reach = 1.652547 * gains.std(ddof=1) / np.sqrt(200)  # Student's quantile, 199 degrees of freedom
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - reach, abs=1e-6)
    assert found.images == 200


@pytest.mark.parametrize("metric", ["loss", "auroc", "average_precision"])
def test_no_threshold_changes_a_loss_or_how_images_rank(metric):
    """Each side of a race answers at a threshold of its own: what is of probabilities must not see it."""
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 2)) + np.eye(2)[LABELS])
    plain, moved = Decisions(logits), Decisions(logits, 0.2)
    goal = Goal.of(metric, ["loss<=0.3"])
    found = compare(goal, plain, moved, LABELS, CLASSES, 0.9)
    assert (found.mean, found.low, found.high, found.nearer) == (0, 0, 0, 0)
    assert figure_interval(metric, plain, LABELS, CLASSES, 0.9) == figure_interval(metric, moved, LABELS, CLASSES, 0.9)
    counted = compare(Goal.of("recall:b", ["accuracy>=0.9"]), moved, plain, LABELS, CLASSES, 0.9)
    assert counted.mean > 0 > counted.nearer

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


METRICS = ["accuracy", "loss", "macro_f1", "balanced_accuracy", "auroc", "recall:a", "precision:b"]


def noisy(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(200, 2)) + 0.7 * np.eye(2)[LABELS])


@pytest.mark.parametrize("metric", METRICS)
def test_groups_that_all_differ_change_nothing(metric):
    one, other, apart = Decisions(noisy(0)), Decisions(noisy(1)), np.arange(200)[::-1]
    compared = [compare(Goal(metric), one, other, LABELS, CLASSES, 0.9, groups) for groups in (None, apart)]
    assert compared[0] == compared[1]
    figures = [figure_interval(metric, one, LABELS, CLASSES, 0.9, groups) for groups in (None, apart)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("metric", METRICS)
def test_images_that_are_the_same_four_times_are_as_sure_as_once(metric):
    """Of one patient, or of the same pixels: who counts images is surer by a half than there is reason to be."""
    labels, groups = np.repeat(LABELS, 4), np.repeat(np.arange(200), 4)
    once = [Decisions(noisy(seed)) for seed in (0, 1)]
    often = [Decisions(one.logits.repeat_interleave(4, 0)) for one in once]
    expected = compare(Goal(metric), *once, LABELS, CLASSES, 0.9)
    found = compare(Goal(metric), *often, labels, CLASSES, 0.9, groups)
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))
    figures = figure_interval(metric, once[0], LABELS, CLASSES, 0.9)
    assert figure_interval(metric, often[0], labels, CLASSES, 0.9, groups) == pytest.approx(figures, abs=2e-3)

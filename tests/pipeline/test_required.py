"""A bound comes before the metric: between recipes, in what is shipped, and in the threshold of two classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysearch.pipeline.races import Race, choose
from raysearch.pipeline.required import Answers, Known, required
from raysearch.pipeline.shippable import shippable, shipped_kind
from raysearch.pipeline.threshold import at_best_threshold, best_threshold
from raysearch.record.goal import Goal
from raysearch.training.decisions import Decisions
from raysearch.training.paired import Difference, compare, figure_interval

CLASSES = ("well", "ill")
LABELS = (np.arange(400) % 4 == 0).astype(np.int64)
"""A quarter is ill."""


def scans(shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Logits of a classifier that knows something; `shift` makes it readier to say ill."""
    signal = np.random.default_rng(seed).normal(size=400) + 2 * LABELS - 1.5 + shift
    return torch.from_numpy(np.stack([np.zeros(400), signal], axis=1))


def recall(decisions: Decisions) -> float:
    return (decisions.said.numpy() == LABELS)[LABELS == 1].mean()


GOAL = Goal.of("accuracy", ["recall:ill>=0.95"])


def test_the_threshold_is_the_best_of_the_metric_that_keeps_the_bound():
    logits = scans()
    threshold = best_threshold(GOAL, logits, LABELS, CLASSES)
    moved = Decisions(logits, threshold)
    assert recall(Decisions(logits)) < 0.95 <= recall(moved)
    positive = torch.softmax(logits, 1)[:, 1].numpy()
    accuracies = [
        (said == LABELS).mean()
        for at in np.unique(positive)
        if ((said := (positive >= at).astype(int)) == LABELS)[LABELS == 1].mean() >= 0.95
    ]
    found = (moved.said.numpy() == LABELS).mean()
    assert max(accuracies) - 0.02 <= found <= max(accuracies), "of the thresholds that are tried"
    assert torch.equal(at_best_threshold(GOAL, logits, LABELS, CLASSES).said, moved.said)
    assert at_best_threshold(Goal("accuracy"), logits, LABELS, CLASSES).threshold is None


def test_a_metric_that_no_threshold_changes_may_have_a_bound_that_one_keeps():
    logits = scans()
    assert best_threshold(Goal("auroc"), logits, LABELS, CLASSES) == 0.5
    threshold = best_threshold(Goal.of("auroc", ["recall:ill>=0.9"]), logits, LABELS, CLASSES)
    assert recall(Decisions(logits, threshold)) >= 0.9


def test_whoever_keeps_the_bound_is_better_than_whoever_does_not():
    ready, plain = Decisions(scans(2.5)), Decisions(scans())
    found = compare(GOAL, ready, plain, LABELS, CLASSES, 0.9)
    assert found.mean < 0 < found.nearer
    assert found.surely
    back = compare(GOAL, plain, ready, LABELS, CLASSES, 0.9)
    assert not back.better
    without = compare(Goal("accuracy"), plain, ready, LABELS, CLASSES, 0.9)
    assert (without.mean, without.nearer) == (back.mean, 0.0)
    assert without.better


@pytest.mark.parametrize(
    ("nearer", "mean", "low", "chosen"),
    [
        (0.0, 0.02, 0.01, "t1"),
        (0.0, 0.02, -0.01, "t0"),
        (0.03, -0.05, -0.06, "t1"),
        (-0.03, 0.05, 0.04, "t0"),
    ],
)
def test_a_challenger_replaces_the_default_by_the_bound_or_by_more_than_chance(nearer, mean, low, chosen):
    race = Race("t1", 3, Difference(mean, low, mean + 0.01, 400, nearer))
    assert choose("t0", [race], 3) == chosen
    assert race.goes_on == (nearer > 0 or (nearer == 0 and mean > 0))


def test_what_is_shipped_keeps_the_bound_if_anything_does():
    three = np.arange(400) % 3
    right = torch.nn.functional.one_hot(torch.from_numpy(three), 3).double().numpy() * 0.9 + 0.1 / 3
    missing = right.copy()
    missing[(three == 1) & (np.arange(400) < 60)] = [0.8, 0.1, 0.1]
    points = shippable([right, right], missing, None, {})
    goal = Goal.of("recall:a", ["recall:b>=0.95"])
    assert shipped_kind(points, three, ("a", "b", "c"), Goal("recall:a"), 0.9) == "averaged"
    assert shipped_kind(points, three, ("a", "b", "c"), goal, 0.9) == "single"


@pytest.mark.parametrize("metric", ["accuracy", "recall:ill", "precision:ill", "f1:ill", "auroc", "macro_f1", "loss"])
def test_a_figure_lies_in_its_interval(metric):
    figure, low, high = figure_interval(metric, Decisions(scans()), LABELS, CLASSES, 0.9)
    assert low < figure < high
    assert high - low < 0.25
    wider = figure_interval(metric, Decisions(scans()), LABELS, CLASSES, 0.99)
    assert wider[1] < low


def test_recall_has_the_interval_of_its_class():
    """Wilson's, of 100 images of which 90 are recognised, at 90 %: 0.8408 to 0.9388."""
    logits = torch.zeros(400, 2)
    logits[:, 1] = torch.from_numpy(np.where(LABELS, 1.0, -1.0))
    logits[np.flatnonzero(LABELS)[:10], 1] = -1.0
    found = figure_interval("recall:ill", Decisions(logits), LABELS, CLASSES, 0.9)
    assert found == pytest.approx((0.9, 0.8395, 0.9394), abs=2e-3)


def test_a_bootstrap_passes_over_draws_without_the_class():
    labels = np.zeros(40, np.int64)
    labels[0] = 1
    logits = torch.zeros(40, 2)
    logits[:, 1] = torch.linspace(1, -1, 40)
    ranked = Decisions(logits)
    figure, low, high = figure_interval("auroc", ranked, labels, CLASSES, 0.9)
    assert (figure, high) == (1.0, 1.0)
    assert low <= 1.0
    found = compare(Goal("auroc"), ranked, ranked, labels, CLASSES, 0.9)
    assert (found.mean, found.low) == (0.0, 0.0)


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "recall:ill"])
def test_what_test_images_of_one_class_cannot_say_is_not_said(metric):
    """Neither an error once they were read, nor a recall of 0 in an interval from 0 to 1."""
    well = np.zeros(30, np.int64)
    few = Answers(torch.softmax(scans()[:30], 1).numpy(), well, CLASSES, 0.4)
    found = Known(few, "out of fold", {metric: 0.9}, few).by(metric)
    assert (found["test"], found["test_lacks"]) == (None, ["ill"])
    assert (found["on"], found["figure"], found["low"]) == ("validation", 0.9, None)
    assert Known(few, "out of fold", {"accuracy": 0.9}, few).by("accuracy")["test"] is not None


def test_what_is_known_of_a_bound_counts_groups():
    shares, groups = np.repeat(torch.softmax(scans(), 1).numpy(), 3, axis=0), np.repeat(np.arange(400), 3)
    once = Answers(shares[::3], LABELS, CLASSES, None).figure("recall:ill")
    found = Answers(shares, np.repeat(LABELS, 3), CLASSES, None, groups).figure("recall:ill")
    assert found == pytest.approx(once, abs=2e-3)


def test_a_race_on_images_of_one_class_tells_nothing():
    goal, well, logits = Goal.of("auroc", ["recall:ill>=0.9"]), np.zeros(30, np.int64), scans()[:30]
    assert best_threshold(goal, logits, well, CLASSES) == 0.5
    found = compare(goal, Decisions(logits), Decisions(logits.flip(1)), well, CLASSES, 0.9)
    assert not found.better
    assert np.isfinite([found.mean, found.low, found.high]).all(), "it is a line of the log"


def test_what_is_written_says_whether_it_is_kept():
    probabilities = torch.softmax(scans(), 1).numpy()
    threshold = best_threshold(GOAL, scans(), LABELS, CLASSES)
    test = Answers(probabilities, LABELS, CLASSES, None)
    answers = Answers(probabilities, LABELS, CLASSES, threshold)
    (kept,) = required(GOAL, Known(answers, "out of fold", {"recall:ill": 0.5}, test))
    assert kept["met"]
    assert kept["requirement"] == "recall:ill>=0.95"
    assert kept["low"] < kept["figure"] < kept["high"]
    (missed,) = required(GOAL, Known(None, "validation", {"recall:ill": 0.94}, test))
    assert (missed["met"], missed["figure"], missed["low"]) == (False, 0.94, None)
    assert missed["test"][0] == pytest.approx(recall(Decisions(scans())))

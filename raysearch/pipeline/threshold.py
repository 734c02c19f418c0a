"""From which probability of the second of two classes on it is the answer, as a search's goal would have it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.record.goal import Goal
from raysearch.training.decisions import OF_PROBABILITIES, Decisions, of_answers
from raysearch.training.metrics import classification_metrics, lacked
from raysearch.winner.confidence import decision_threshold


def best_threshold(goal: Goal, logits: torch.Tensor, labels: NDArray[np.int64], classes: Sequence[str]) -> float:
    """The probability of the second class from which on it is best the answer; of equals the nearest to 0.5.

    What is required comes first: the best of the metric among the thresholds that keep it, or the nearest to it. It is
    0.5, too, where images of a class are missing that the goal needs.

    Args:
        goal: of the search.
        logits: shape (n, 2).
        labels: shape (n,).
        classes: both.
    """
    if all(metric in OF_PROBABILITIES for metric in goal.metrics):
        return 0.5
    target = torch.as_tensor(labels)
    if any(lacked(metric, target, classes) for metric in goal.metrics):
        return 0.5
    plain = classification_metrics(logits, target, classes, goal.metrics)

    def figure(said: NDArray[np.int64]) -> float:
        return goal.score(of_answers(torch.from_numpy(said), target, classes, plain))

    return decision_threshold(torch.softmax(logits.double(), dim=1)[:, 1].numpy(), labels, figure)


def cross_fitted(
    goal: Goal, logits: torch.Tensor, labels: NDArray[np.int64], classes: Sequence[str], folds: Sequence[int]
) -> NDArray[np.float64]:
    """For each image the best threshold of the other folds, shape (n,): none has a say in its own.

    Args:
        goal, logits, labels, classes: as of `best_threshold`, fold after fold.
        folds: how many images each has, two folds at least.
    """
    fold = np.repeat(np.arange(len(folds)), folds)
    chosen = [best_threshold(goal, logits[fold != one], labels[fold != one], classes) for one in range(len(folds))]
    return np.repeat(chosen, folds)


def at_best_threshold(goal: Goal, logits: torch.Tensor, labels: NDArray[np.int64], classes: Sequence[str]) -> Decisions:
    """What a classifier answers at the best threshold, where a bound is to be kept by two classes.

    So are classifiers compared that must keep a bound: each may keep it in its own way. Of others the likeliest class
    is the answer.
    """
    if len(classes) != 2 or not goal.require:
        return Decisions(logits)
    return Decisions(logits, best_threshold(goal, logits, labels, classes))

"""What can be made of the trainings of one recipe, and what each is worth: accuracy against the cost of a prediction.

Every figure here is out of fold: an image is judged by networks that had not trained on it. What is shipped is decided
by these figures, and the test images only say afterwards how good it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.pipeline.threshold import at_best_threshold
from raysearch.record.evaluation import Kind
from raysearch.record.goal import Goal
from raysearch.training.calibration import LEAST, logarithms
from raysearch.training.metrics import classification_metrics
from raysearch.training.paired import compare

Floats = NDArray[np.float64]

MOST_MEMBERS = 5


@dataclass(frozen=True)
class Member:
    """One recipe of an ensemble."""

    trial: str
    """The trial whose recipe it was trained by."""
    weight: float
    """The share of the mean that all its networks have together."""
    networks: int
    """How many trainings of it there are."""


@dataclass(frozen=True)
class Shippable:
    """One thing that can be shipped."""

    kind: Kind
    cost: int
    """Passes through the network that a prediction takes."""
    probabilities: Floats
    """The out-of-fold answers, (n, classes), for all images that have a label."""
    members: tuple[Member, ...] = ()
    """The recipes of an ensemble; empty for any other kind."""


def figure_of(probabilities: Floats, labels: NDArray[np.int64], classes: Sequence[str], goal: Goal) -> float:
    """How probabilities (n, classes) rank by the goal: larger is better."""
    logits, target = logarithms(probabilities), torch.as_tensor(labels)
    return goal.score(classification_metrics(logits, target, classes, goal.metrics))


def greedy(
    candidates: Mapping[str, Floats],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    goal: Goal,
    most: int = MOST_MEMBERS,
    rounds: int = 20,
) -> dict[str, float]:
    """The weights of an ensemble chosen greedily with replacement (Caruana et al. 2004), adding up to one.

    In each round the candidate is added that makes the mean of the probabilities best; among equals the one that makes
    its log-loss least. The best ensemble of all rounds is returned, and none has more than `most` different members.

    Args:
        candidates: out-of-fold probabilities (n, classes) by name, at least one.
        labels: shape (n,).
        classes: in their order.
        goal: what the ensemble is chosen by.
        most: different members at most.
        rounds: additions at most.
    """

    def worth(mean: Floats) -> tuple[float, float]:
        loss = -np.log(np.maximum(mean[np.arange(len(labels)), labels], LEAST)).mean()
        return figure_of(mean, labels, classes, goal), -float(loss)

    counts: dict[str, int] = {}
    total = np.zeros_like(next(iter(candidates.values())))
    best: tuple[tuple[float, float], dict[str, int]] | None = None
    for taken in range(1, rounds + 1):
        may = [name for name in candidates if name in counts or len(counts) < most]

        worths = {name: worth((total + candidates[name]) / taken) for name in may}
        added = max(worths, key=lambda name: worths[name])
        counts[added] = counts.get(added, 0) + 1
        total = total + candidates[added]
        if best is None or worths[added] > best[0]:
            best = worths[added], dict(counts)
    assert best is not None
    return {name: number / sum(best[1].values()) for name, number in best[1].items()}


def shippable(
    seeds: Sequence[Floats],
    averaged: Floats | None,
    mirrored: Floats | None,
    members: Mapping[str, tuple[float, int, Floats]],
    student: Floats | None = None,
) -> list[Shippable]:
    """All that can be shipped, cheapest first.

    Args:
        seeds: out-of-fold probabilities of each single training of the chosen recipe.
        averaged: of the mean of their tensors; None if there was but one training a fold.
        mirrored: the mean of the better of the two over the image and its mirror image; None where mirroring is wrong.
        members: of the ensemble: by trial its weight, how many networks it has, and their mean probabilities.
        student: of what learned from the others' answers; None if there is none.
    """
    points = [Shippable("single", 1, seeds[0])]
    if averaged is not None:
        points.append(Shippable("averaged", 1, averaged))
    if student is not None:
        points.append(Shippable("student", 1, student))
    if mirrored is not None:
        points.append(Shippable("mirror", 2, mirrored))
    cost = sum(networks for _, networks, _ in members.values())
    if cost > 1:
        mean = sum(weight * probabilities for weight, _, probabilities in members.values())
        shares = tuple(Member(trial, weight, networks) for trial, (weight, networks, _) in members.items())
        points.append(Shippable("ensemble", cost, np.asarray(mean), shares))
    return points


def shipped_kind(
    points: Sequence[Shippable],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    goal: Goal,
    confidence: float,
    groups: NDArray[np.int64] | None = None,
) -> Kind:
    """What is shipped of all that costs one pass through the network.

    The average is, unless a single training is surely better out of fold. Both cost the same, and an average of seeds
    from one head was better by half a point to a point wherever it was measured (benchmarks/payoff.py): less than some
    thousand images can tell, so that the better figure of the two would often be the worse network's. A student is, if
    it is surely better out of fold than what would be shipped without it.
    """
    by_kind = {
        point.kind: at_best_threshold(goal, logarithms(point.probabilities), labels, classes)
        for point in points
        if point.cost == 1
    }

    def surely(one: Kind, other: Kind) -> bool:
        return compare(goal, by_kind[one], by_kind[other], labels, classes, confidence, groups).surely

    shipped: Kind = "averaged" if "averaged" in by_kind and not surely("single", "averaged") else "single"
    return "student" if "student" in by_kind and surely("student", shipped) else shipped

"""How sure a classifier may be: calibration, answers withheld, and a threshold for two classes.

All of it is fitted on out-of-fold answers: each is of a network that had not trained on that image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from raysearch.intervals import effective_number
from raysearch.record.decision import decided
from raysearch.record.evaluation import ReliabilityBin

Floats = NDArray[np.float64]

BINS = 15
"""Bins of the calibration error, as published (Guo et al. 2017)."""
_LEAST = 1e-12  # a threshold of 0 or 1 has no odds
_LEVEL = 0.95  # of the bound under which the error among the answers stays


def calibration_error(probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015): how far confidence and accuracy are apart, in equal-width bins.

    Args:
        probabilities: shape (n, classes).
        labels: shape (n,).
        bins: of the confidence, in (0, 1].
    """
    found = reliability(probabilities, labels, bins)
    return sum(abs(one["accuracy"] - one["confidence"]) * one["images"] for one in found) / len(labels)


def reliability(probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS) -> list[ReliabilityBin]:
    """How often answers that are about as sure are right, in equal-width bins of the confidence, the least sure first.

    Args:
        probabilities: shape (n, classes).
        labels: shape (n,).
        bins: of the confidence, in (0, 1]; those without answers are left out.
    """
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    return [
        {"confidence": float(sure[here].mean()), "accuracy": float(right[here].mean()), "images": int(here.sum())}
        for here in (place == one for one in np.unique(place))
    ]


@dataclass(frozen=True)
class RiskCoverage:
    """How many images are answered, and how many of the answers are wrong, if only the surest are given."""

    confidences: Floats
    """Descending, each once, shape (m,): the least confidence that is still answered."""
    coverage: Floats
    risk: Floats
    """Share of wrong ones among the answers."""
    bound: Floats
    """Its upper bound (Clopper and Pearson 1934, one-sided, 95 %)."""


def risk_coverage(
    probabilities: Floats,
    labels: NDArray[np.int64],
    threshold: float | None = None,
    groups: NDArray[np.int64] | None = None,
) -> RiskCoverage:
    """The curve of a classifier (Geifman and El-Yaniv 2017) from answers to images that it had not trained on.

    An answer is as sure as the probability of the class that it names. Answers that are equally sure are all given,
    or none: the curve has a point for each confidence.

    Args:
        probabilities: shape (n, classes).
        labels: shape (n,).
        threshold: as of `raysearch.record.decision.decided`.
        groups: as of `raysearch.intervals.mean_interval`: the bound counts images and errors as so many fewer as the
            design effect of all errors says (Korn and Graubard 1998).
    """
    said = decided(probabilities, threshold)
    sure, wrong = probabilities[np.arange(len(said)), said], said != labels
    order = np.argsort(-sure, kind="stable")
    last = np.append(np.diff(sure[order]) != 0, True)  # of those that are equally sure
    given, errors = np.arange(1, len(order) + 1)[last], np.cumsum(wrong[order])[last]
    share = effective_number(wrong, groups, _LEVEL) / len(wrong)
    bound = np.where(errors == given, 1.0, beta.ppf(_LEVEL, share * errors + 1, share * (given - errors)))
    return RiskCoverage(sure[order][last], given / len(order), errors / given, bound)


def abstention(curve: RiskCoverage, error: float) -> float | None:
    """The least confidence to answer with, so that at most `error` of the answers are wrong; None: nobody can say so.

    It is the lowest of the confidences whose bound keeps the promise: so most images are answered.
    """
    kept = curve.bound <= error
    last = np.flatnonzero(kept)
    return float(curve.confidences[last[-1]]) if len(last) else None


def decision_threshold(
    positive: Floats, labels: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], float]
) -> float:
    """The probability from which on the second class is the answer, for the best figure; of equals, the nearest to 0.5.

    A figure that stays as it is from some threshold on has many equals: a recall that is to be kept leaves auroc as it
    is wherever it is kept, and the farthest of them would give away every answer that the bound does not ask for.

    Args:
        positive: probability of the second class, shape (n,).
        labels: 0 or 1, shape (n,).
        figure: of predicted labels, shape (n,); larger is better.
    """
    values = np.unique(positive)
    between = np.clip((values[1:] + values[:-1]) / 2, _LEAST, 1 - _LEAST)
    tried = np.concatenate([[0.5], between[np.linspace(0, len(between) - 1, min(200, len(between))).astype(int)]])

    def worth(threshold: float) -> tuple[float, float]:
        return figure((positive >= threshold).astype(np.int64)), -abs(math.log(threshold / (1 - threshold)))

    return max(tried.tolist(), key=worth)

"""Whether what is shipped keeps what the search requires, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.pipeline.frontier import Floats
from raysearch.record.evaluation import RequirementFigures
from raysearch.record.goal import Goal
from raysearch.training.calibration import logarithms
from raysearch.training.paired import figure_interval
from raysearch.winner.evaluate import at_threshold

CONFIDENCE = 0.9
"""Of the two-sided interval: where its lower end keeps the bound, chance explains that in one case of twenty."""


class Answers:
    """What is shipped says of some images.

    Args:
        probabilities: calibrated, (n, classes).
        labels: shape (n,).
        classes: in their order.
        threshold: of two classes: from which probability of the second on it is the answer; None: the likelier is.
    """

    def __init__(
        self, probabilities: Floats, labels: NDArray[np.int64], classes: Sequence[str], threshold: float | None
    ) -> None:
        self._plain = logarithms(probabilities)
        self._answers = self._plain if threshold is None else at_threshold(self._plain, threshold)
        self._labels, self._classes = labels, classes

    def figure(self, metric: str) -> tuple[float, float, float]:
        """The metric, and the ends of its interval."""
        logits: torch.Tensor = self._plain if metric == "loss" else self._answers
        return figure_interval(metric, logits, self._labels, self._classes, CONFIDENCE)


def required(
    goal: Goal, known: Answers | None, on: Literal["out of fold", "validation"], best: dict[str, float], test: Answers
) -> list[RequirementFigures]:
    """Each requirement with what is known of it.

    Args:
        goal: of the search.
        known: what is shipped, on labelled images that it had not trained on; None: there are no such answers.
        on: which images these are.
        best: the winner's figures in the search, which stand in for them.
        test: what is shipped, on the test images.
    """
    found: list[RequirementFigures] = []
    for one in goal.require:
        figures: RequirementFigures = {
            "requirement": str(one),
            "metric": one.metric,
            "bound": one.bound,
            "on": on,
            "figure": best[one.metric],
            "low": None,
            "high": None,
            "met": False,
            "test": test.figure(one.metric),
        }
        if known is not None:
            figures["figure"], figures["low"], figures["high"] = known.figure(one.metric)
        figures["met"] = one.shortfall({one.metric: figures["figure"]}) == 0
        found.append(figures)
    return found

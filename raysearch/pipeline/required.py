"""Whether what is shipped keeps what the search requires, what it is by several metrics, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.pipeline.shippable import Floats
from raysearch.record.evaluation import MetricFigures, RequirementFigures
from raysearch.record.goal import Goal
from raysearch.training.calibration import logarithms
from raysearch.training.decisions import Decisions
from raysearch.training.metrics import lacked
from raysearch.training.paired import figure_interval

CONFIDENCE = 0.9
"""Of the two-sided interval: where its lower end keeps the bound, chance explains that in one case of twenty."""


class Answers:
    """What is shipped says of some images.

    Args:
        probabilities: calibrated, (n, classes).
        labels: shape (n,).
        classes: in their order.
        threshold: of two classes: from which probability of the second on it is the answer; None: the likelier is.
        groups: as of `raysearch.training.paired.compare`.
    """

    def __init__(
        self,
        probabilities: Floats,
        labels: NDArray[np.int64],
        classes: Sequence[str],
        threshold: float | None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        self._decisions = Decisions(logarithms(probabilities), threshold)
        self._labels, self._classes, self._groups = labels, classes, groups

    def lacks(self, metric: str) -> list[str]:
        """The classes without whose images the metric is not defined, none of which is among these."""
        return lacked(metric, torch.as_tensor(self._labels), self._classes)

    def figure(self, metric: str) -> tuple[float, float, float]:
        """The metric, and the ends of its interval."""
        return figure_interval(metric, self._decisions, self._labels, self._classes, CONFIDENCE, self._groups)


@dataclass(frozen=True)
class Known:
    """What is known of what is shipped."""

    answers: Answers | None
    """On labelled images that it had not trained on; None: there are no such answers."""
    on: Literal["out of fold", "validation"]
    """Which images these are."""
    best: dict[str, float]
    """The winner's figures in the search, which stand in for them."""
    test: Answers

    def by(self, metric: str) -> MetricFigures:
        """One of its figures."""
        on: Literal["out of fold", "validation"] = self.on
        figure: tuple[float, float | None, float | None]
        if self.answers is None or self.answers.lacks(metric):
            on, figure = "validation", (self.best[metric], None, None)
        else:
            figure = self.answers.figure(metric)
        found: MetricFigures = {
            "metric": metric,
            "on": on,
            "figure": figure[0],
            "low": figure[1],
            "high": figure[2],
            "test": None,
        }
        if lacks := self.test.lacks(metric):
            found["test_lacks"] = lacks
        else:
            found["test"] = self.test.figure(metric)
        return found


def required(goal: Goal, known: Known) -> list[RequirementFigures]:
    """Each requirement of a search with what is known of it."""
    found: list[RequirementFigures] = []
    for one in goal.require:
        figures = known.by(one.metric)
        met = one.shortfall({one.metric: figures["figure"]}) == 0
        found.append({"requirement": str(one), "bound": one.bound, "met": met, **figures})
    return found

"""All that could be shipped of a search, by its accuracy: out of fold, and on the test images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from raysearch.intervals import wilson
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.shippable import Floats
from raysearch.record.decision import decided
from raysearch.record.evaluation import AccuracyInterval, FrontierPoint, Kind
from raysearch.training.calibration import tempered


def frontier(finish: Finish, on_test: Mapping[Kind, Floats], test_labels: NDArray[np.int64]) -> list[FrontierPoint]:
    """A point for each thing that could be shipped, cheapest first; what is shipped answers at its threshold.

    Args:
        finish: what the trainings after the search came to.
        on_test: probabilities of the test images by kind, (n, classes), not calibrated.
        test_labels: shape (n,).
    """

    def accuracy(kind: Kind, found: Floats, temperature: float, labels: NDArray[np.int64]) -> AccuracyInterval:
        threshold = finish.threshold if kind == finish.shipped else None
        return _with_interval(decided(tempered(found, temperature), threshold) == labels)

    if not finish.points:  # there were no folds
        return []
    known = finish.finals.held_out_labels
    return [
        {
            "kind": point.kind,
            "cost": point.cost,
            "out_of_fold": accuracy(point.kind, point.probabilities, finish.fold_temperature, known),
            "test": accuracy(point.kind, on_test[point.kind], finish.temperature, test_labels),
        }
        for point in finish.points
        if point.kind in on_test
    ]


def _with_interval(right: NDArray[np.bool_]) -> AccuracyInterval:
    """The share of right answers, with Wilson's interval."""
    accuracy = float(right.mean())
    low, high = wilson(accuracy, len(right))
    return {"accuracy": accuracy, "low": low, "high": high}

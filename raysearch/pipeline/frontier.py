"""All that could be shipped of a search, by its accuracy: out of fold, and on the test images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from raysearch.data.dataset import Split
from raysearch.intervals import share_interval
from raysearch.pipeline.finish import Finish
from raysearch.pipeline.shippable import Floats
from raysearch.record.decision import decided
from raysearch.record.evaluation import AccuracyInterval, FrontierPoint, Kind
from raysearch.training.calibration import tempered


def frontier(finish: Finish, on_test: Mapping[Kind, Floats], test: Split) -> list[FrontierPoint]:
    """A point for each thing that could be shipped, cheapest first; what is shipped answers at its threshold.

    Args:
        finish: what the trainings after the search came to.
        on_test: probabilities of the test images by kind, (n, classes), not calibrated.
        test: the test images.
    """

    def accuracy(
        kind: Kind, found: Floats, temperature: float, labels: NDArray[np.int64], groups: NDArray[np.int64] | None
    ) -> AccuracyInterval:
        threshold = finish.threshold if kind == finish.shipped else None
        return _with_interval(decided(tempered(found, temperature), threshold) == labels, groups)

    if not finish.points:  # there were no folds
        return []
    known = finish.finals.held_out_labels, finish.finals.held_out_groups
    return [
        {
            "kind": point.kind,
            "cost": point.cost,
            "out_of_fold": accuracy(point.kind, point.probabilities, finish.fold_temperature, *known),
            "test": accuracy(point.kind, on_test[point.kind], finish.temperature, test.labels, test.groups),
        }
        for point in finish.points
        if point.kind in on_test
    ]


def _with_interval(right: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> AccuracyInterval:
    low, high = share_interval(right, groups)
    return {"accuracy": float(right.mean()), "low": low, "high": high}

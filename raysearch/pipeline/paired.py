"""Two classifiers on the same images: how much better one is by the metric asked for, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from raysearch.intervals import mean_interval
from raysearch.record.metric import score
from raysearch.training.metrics import classification_metrics

_RESAMPLES = 400


@dataclass(frozen=True)
class Difference:
    """How much better one is than the other, in the metric's own unit; above 0 is better, whatever its direction."""

    mean: float
    low: float
    high: float
    """Ends of its confidence interval."""
    images: int


def compare(
    metric: str,
    ours: torch.Tensor,
    theirs: torch.Tensor,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    confidence: float,
) -> Difference:
    """Compare two classifiers' logits, both (n, classes), on the same images.

    Accuracy and loss are means over images: their interval is Student's of the paired differences. Other metrics are
    of all images together: theirs is the percentile bootstrap's (Efron 1979), over images, the same for both.

    Args:
        metric: as a search is led by.
        ours, theirs: of the one that may be better, and of the other.
        labels: shape (n,).
        classes: in the order of the logits.
        confidence: of the two-sided interval.
    """
    target = torch.as_tensor(labels)
    if metric == "accuracy":
        gains = (ours.argmax(1) == target).double() - (theirs.argmax(1) == target).double()
    elif metric == "loss":
        gains = functional.cross_entropy(theirs.double(), target, reduction="none")
        gains -= functional.cross_entropy(ours.double(), target, reduction="none")
    else:
        return _bootstrapped(metric, ours, theirs, target, classes, confidence)
    return Difference(*mean_interval(gains.numpy(), confidence), len(labels))


def _bootstrapped(
    metric: str,
    ours: torch.Tensor,
    theirs: torch.Tensor,
    labels: torch.Tensor,
    classes: Sequence[str],
    confidence: float,
) -> Difference:
    def gain(images: torch.Tensor) -> float:
        one, other = (
            score(classification_metrics(logits[images], labels[images], classes), metric) for logits in (ours, theirs)
        )
        return one - other

    everything, random = torch.arange(len(labels)), np.random.default_rng(0)
    drawn = [gain(torch.from_numpy(random.integers(len(labels), size=len(labels)))) for _ in range(_RESAMPLES)]
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(gain(everything), float(low), float(high), len(labels))

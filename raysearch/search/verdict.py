"""Whether a level of the tree brought anything: a paired test on images that chose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysearch.intervals import mean_interval


@dataclass(frozen=True)
class Verdict:
    """What the held-out images say of one model against another."""

    verdict: Literal["gain", "none", "undecided"]
    gain: float
    """Mean log-loss saved an image (nats); negative: it became worse."""
    low: float
    high: float
    """Ends of its confidence interval."""
    images: int


def judge(
    before: Sequence[float],
    after: Sequence[float],
    *,
    confidence: float,
    min_gain: float,
    groups: NDArray[np.int64] | None = None,
) -> Verdict:
    """Compare two models by their log-losses on the same images.

    The interval is Student's, for the mean of the paired differences. benchmarks/stopping_rule.py counts how often it
    errs, beside a bootstrap.

    Args:
        before, after: log-loss of each held-out image (nats) under the one that may be beaten, and the other.
        confidence: of the two-sided interval.
        min_gain: the least gain that is worth having.
        groups: as of `raysearch.intervals.mean_interval`.

    Returns: none if even the upper end is below `min_gain` (or not above 0); gain if the lower end is above 0; else
        undecided.

    Raises:
        ValueError: different numbers of images, or fewer than two.
    """
    saved = np.asarray(before, float) - np.asarray(after, float)
    if len(saved) < 2:
        raise ValueError(f"a paired test needs at least 2 images, got {len(saved)}")
    mean, low, high = mean_interval(saved, confidence, groups)
    if high <= max(0.0, min_gain):
        verdict: Literal["gain", "none", "undecided"] = "none"
    else:
        verdict = "gain" if low > 0 else "undecided"
    return Verdict(verdict, mean, low, high, len(saved))

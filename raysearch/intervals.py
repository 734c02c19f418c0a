"""Student's interval for the mean of paired differences: the one test by which two models are compared here."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def mean_interval(differences: ArrayLike, confidence: float) -> tuple[float, float, float]:
    """The mean, and the ends of its two-sided interval.

    Args:
        differences: shape (n,), at least two.
        confidence: in (0, 1).
    """
    values = np.asarray(differences, float)
    mean = float(values.mean())
    reach = float(stats.sem(values)) * float(stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    return mean, mean - reach, mean + reach

"""The intervals by which things are compared: one for paired differences, one for two groups, one for a share."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit  # Student's quantile; scipy.stats has it too, and takes a second to import


def mean_interval(differences: ArrayLike, confidence: float) -> tuple[float, float, float]:
    """The mean of paired differences, and the ends of its two-sided interval (Student's).

    Args:
        differences: shape (n,), at least two.
        confidence: in (0, 1).
    """
    values = np.asarray(differences, float)
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = error * float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    return mean, mean - reach, mean + reach


def difference_interval(ones: ArrayLike, others: ArrayLike, confidence: float) -> tuple[float, float, float]:
    """How far the mean of `ones` is above that of `others`, and the ends of its two-sided interval (Welch 1947).

    Args:
        ones, others: shapes (n,) and (m,), at least two each; independent, of whatever variances.
        confidence: in (0, 1).
    """
    groups = [np.asarray(values, float) for values in (ones, others)]
    mean = float(groups[0].mean() - groups[1].mean())
    parts = [float(group.var(ddof=1)) / len(group) for group in groups]
    variance = sum(parts)
    if not variance:
        return mean, mean, mean
    freedom = 1 / sum((part / variance) ** 2 / (len(group) - 1) for part, group in zip(parts, groups, strict=True))
    reach = math.sqrt(variance) * float(stdtrit(freedom, (1 + confidence) / 2))
    return mean, mean - reach, mean + reach


def wilson(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion (Wilson 1927).

    Args:
        share: observed, in [0, 1].
        n: of how many.
        confidence: of the two-sided interval.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)

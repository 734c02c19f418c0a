"""The intervals and tests by which things are compared: paired differences, two groups, a share, right answers.

Images of one patient are alike, and say less than as many of different ones. Where groups are known, an interval counts
them: its error is cluster-robust (Liang and Zeger 1986; Cameron and Miller 2015, section II, with their correction for
few clusters, and Student's quantile for one less than there are).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import (  # of binomials, Student's and its quantile; scipy.stats takes a second to import
    bdtr,
    stdtr,
    stdtrit,
)

_ROUNDING = 1e-9  # of the largest value: an error below it is none


def numbered_groups(groups: ArrayLike | None) -> NDArray[np.int64] | None:
    """The groups by numbers from 0, shape (n,); None: images are counted, each by itself, as where all differ."""
    if groups is None:
        return None
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    return numbers.astype(np.int64) if len(names) < len(numbers) else None


def mean_interval(
    differences: ArrayLike, confidence: float, groups: ArrayLike | None = None
) -> tuple[float, float, float]:
    """The mean of paired differences, and the ends of its two-sided interval (Student's).

    Where all draws say the same, or there is one group alone, nothing tells how draws differ. Then the interval reaches
    to 0, unless so many of them agree as fair coins would not (the sign test).

    Args:
        differences: shape (n,), at least two.
        confidence: in (0, 1).
        groups: a number that those have in common which are no independent draws, shape (n,); None: all are.
    """
    values, numbers = np.asarray(differences, float), numbered_groups(groups)
    mean, draws = float(values.mean()), len(values) if numbers is None else int(numbers.max()) + 1
    if not (error := _error_of_mean(values, numbers)):
        reach = 0.0 if 2 * 0.5**draws <= 1 - confidence else abs(mean)
    else:
        reach = error * float(stdtrit(draws - 1, (1 + confidence) / 2))
    return mean, mean - reach, mean + reach


def _error_of_mean(values: NDArray[np.float64], numbers: NDArray[np.int64] | None) -> float:
    """The standard error of a mean, of groups the cluster-robust one; 0 where nothing tells how draws differ."""
    if numbers is None:
        error = float(values.std(ddof=1)) / math.sqrt(len(values))
    elif numbers.max():
        sums = np.bincount(numbers, values - values.mean())
        error = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / len(values)
    else:
        error = 0.0
    return error if error > _ROUNDING * float(np.abs(values).max()) else 0.0


def effective_number(values: ArrayLike, groups: ArrayLike | None, quantile: float = 0.975) -> float:
    """How many independent draws say as much of a mean as these values, of which some are of one group.

    It is n over the design effect, which is 1 at least, and over what few groups leave uncertain of it: the square of
    Student's quantile for groups over that for images (Korn and Graubard 1998). Where all values are equal, or of one
    group, nothing tells how much groups differ: then each group is taken to say one thing (Kish 1965).

    Args:
        values: shape (n,), at least one.
        groups: as of `mean_interval`.
        quantile: at which an interval of so many ends, in (0.5, 1).
    """
    found, numbers = np.asarray(values, float), numbered_groups(groups)
    n = len(found)
    if numbers is None:
        return n
    if not found.std() or not numbers.max():
        return n**2 / float((np.bincount(numbers) ** 2).sum())
    effect = max(1.0, _error_of_mean(found, numbers) ** 2 / (float(found.var()) / n))
    few = stdtrit(n - 1, quantile) / stdtrit(int(numbers.max()), quantile)
    return n / effect * float(few) ** 2


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


def wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion (Wilson 1927).

    Args:
        share: observed, in [0, 1].
        n: of how many; of groups, their `effective_number`.
        confidence: of the two-sided interval.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def share_interval(right: ArrayLike, groups: ArrayLike | None = None, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of the share of those that are right, of which groups count as their `effective_number`.

    Args:
        right: whether each is, shape (n,), at least one.
        groups: as of `mean_interval`.
        confidence: of the two-sided interval.
    """
    independent = effective_number(right, groups, (1 + confidence) / 2)
    return wilson(float(np.asarray(right).mean()), independent, confidence)


def mcnemar(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """The p-value of a difference between answers to the same images, two-sided (exact; McNemar 1947).

    Only images that one of the two has right and the other wrong say anything: each is a fair coin if none is better.

    Args:
        before, after: whether each image was told right, shape (n,).
    """
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    return min(1.0, 2 * float(bdtr(min(lost, won), lost + won, 0.5)))


def p_of_change(before: NDArray[np.bool_], after: NDArray[np.bool_], groups: ArrayLike | None = None) -> float:
    """The p-value of a difference between answers to the same images, two-sided.

    It is McNemar's. As his test takes images for independent draws, it is Student's of `mean_interval` where groups are
    known, if that is larger. Where all groups have changed alike nothing tells how they differ: then each is one coin
    for `mcnemar`.

    Args:
        before, after: whether each image was told right, shape (n,).
        groups: as of `mean_interval`.
    """
    if (numbers := numbered_groups(groups)) is None:
        return mcnemar(before, after)
    gains = after.astype(float) - before
    if not (error := _error_of_mean(gains, numbers)):
        sums = np.bincount(numbers, gains)
        return mcnemar(sums < 0, sums > 0)
    return max(mcnemar(before, after), 2 * float(stdtr(int(numbers.max()), -abs(gains.mean()) / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, raised so that all of them together keep the level of one (Holm 1979)."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for place, one in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[one]))
        adjusted[one] = highest
    return adjusted

"""Which of several points with several figures each come first: by fronts.

A point dominates another if it is at least as good in every figure and better in one. The first front are the points
that none dominates, the second those that only the first dominates, and so on (non-dominated sorting: Deb et al. 2002,
"A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_WORST = -1e12
"""Stands for what is no number."""


def fronts(points: ArrayLike) -> NDArray[np.int64]:
    """The number of the front that each point is in, from 1; shape (n,).

    Args:
        points: shape (n, figures); larger is better.
    """
    dominated = dominators(points)
    found, left, number = np.zeros(len(dominated), np.int64), np.ones(len(dominated), bool), 0
    while left.any():
        number += 1
        first = left & ~(dominated & left).any(axis=1)
        found[first] = number
        left &= ~first
    return found


def dominators(points: ArrayLike) -> NDArray[np.bool_]:
    """Whether point i is dominated by point j, at [i, j]; arguments as of `fronts`."""
    values = numbers(points)
    as_good: NDArray[np.bool_] = np.all(values[None] >= values[:, None], axis=2)
    return np.logical_and(as_good, ~as_good.T)


def numbers(points: ArrayLike) -> NDArray[np.float64]:
    """Points with what is no number as the worst that there is."""
    return np.nan_to_num(np.asarray(points, float), nan=_WORST, neginf=_WORST)

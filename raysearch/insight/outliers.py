"""Images that are like no others, by how far their nearest neighbours are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SURE = 3.5
"""The modified z-score from which an image is called an outlier (Iglewicz and Hoaglin 1993)."""


@dataclass(frozen=True, eq=False)
class Outliers:
    """How far n images are from their neighbours.

    Attributes:
        distance: mean cosine distance to the nearest others, shape (n,) (k nearest neighbours, Sun et al. 2022).
        score: the distance as a modified z-score, shape (n,): 0.6745 (x - median) / median absolute deviation.
        places: the images that are outliers, the farthest first, shape (m,).
    """

    distance: NDArray[np.float64]
    score: NDArray[np.float64]
    places: NDArray[np.int64]


def find_outliers(similarities: NDArray[np.float64]) -> Outliers:
    """The outliers among n images.

    Args:
        similarities: cosine similarities to the nearest others of each, shape (n, k).
    """
    distance = 1 - similarities.mean(axis=1) if similarities.shape[1] else np.zeros(len(similarities))
    middle = np.median(distance) if len(distance) else 0.0
    spread = np.median(np.abs(distance - middle)) if len(distance) else 0.0
    score = 0.6745 * (distance - middle) / spread if spread > 0 else np.zeros(len(distance))
    places = np.flatnonzero(score >= SURE)
    return Outliers(distance, score, places[np.argsort(-score[places], kind="stable")])

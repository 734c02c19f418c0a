"""Which images are nearest to which, by the angle between their vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 100_000
"""Vectors up to which every pair is compared without a word; beyond, it still is, and takes its time."""


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (n, width) with length 1; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return found


class Neighbours:
    """The vectors of an index, ready to be asked.

    Args:
        vectors: shape (n, width).
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        from sklearn.neighbors import NearestNeighbors  # a second to import

        self._vectors = unit(vectors)
        # Of vectors of length 1 the order by distance is that by angle, and this is scikit-learn's fastest search.
        self._search = NearestNeighbors(algorithm="brute", metric="euclidean").fit(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    def nearest(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The nearest vectors of each query, the nearest first.

        Args:
            queries: shape (m, width).
            k: how many; at most as many as there are.

        Returns:
            their places, shape (m, k), and their cosine similarities, shape (m, k).
        """
        distances, places = self._search.kneighbors(unit(queries), min(k, len(self)))
        return places, 1 - distances.astype(np.float64) ** 2 / 2

    def others(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The nearest others of each vector of the index, as `nearest` gives them; k is cut to n - 1."""
        k = min(k, len(self) - 1)
        if k < 1:
            return np.empty((len(self), 0), np.int64), np.empty((len(self), 0))
        distances, places = self._search.kneighbors(n_neighbors=k)
        return places, 1 - distances.astype(np.float64) ** 2 / 2

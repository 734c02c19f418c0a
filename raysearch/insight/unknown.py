"""Images that are like none of the training images: what a classifier should not be asked."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from raysearch.errors import InputError
from raysearch.insight.embedder import Embedder
from raysearch.insight.index import Index
from raysearch.insight.neighbours import Neighbours
from raysearch.winner.answers import ImageLike
from raysearch.winner.best import Best

_NEIGHBOURS = 10


class Unknown:
    """Tells images that are farther from the training images than all but a share of the test images are.

    The distance is the mean cosine distance to the ten nearest training images in the network's features (k nearest
    neighbours, Sun et al. 2022). Its limit is the conformal quantile of the test images' distances: of new images like
    them, at most `rate` are called unknown, on average over such test sets. Validation images, which the last trainings
    may have seen, count as training images.

    Args:
        index: of the run's own images, by its own network.
        best: the classifier.
        rate: of false alarms, in (0, 1).
        device: where the network runs.

    Raises:
        InputError: a rate that so few test images cannot promise, or an index of other images or another network.
    """

    def __init__(self, index: Index, best: Best, rate: float, device: str) -> None:
        import torch

        test = index.splits == "test"
        n = int(test.sum())
        rank = math.ceil((n + 1) * (1 - rate))
        problems = []
        if not 0 < rate < 1:
            problems.append(f"--unknown must be in (0, 1), got {rate}")
        elif rank > n:
            needed = math.ceil(1 / rate) - 1
            problems.append(f"--unknown {rate:g} needs {needed} test images in the index, which has {n}")
        if not (~test).any():
            problems.append("--known: the index has no training images")
        self._embedder = Embedder.of_best(best, index.maker.pooling, torch.device(device))
        if self._embedder.digest != index.maker.digest:
            problems.append("--known: the index is not by this run's network; make it by raysearch embed --run RUN")
        if problems:
            raise InputError(problems)
        self._best = best
        self._known = Neighbours(index.vectors[~test])
        self.limit = float(np.sort(self.distances(index.vectors[test]))[rank - 1])

    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """How far vectors (m, width) are from the training images, shape (m,)."""
        found: NDArray[np.float64] = 1 - self._known.nearest(vectors, _NEIGHBOURS)[1].mean(axis=1)
        return found

    def __call__(self, image: ImageLike) -> bool:
        """Whether an image that can be read is unknown."""
        vector = self._embedder.of_pixels(self._best.pixels(image)[None])
        return bool(self.distances(vector)[0] > self.limit)

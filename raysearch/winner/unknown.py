"""Whether an image is like none that the classifier was trained on: how far it is from these in the network's features.

The distance is the mean cosine distance to the five nearest training images in the pooled features of the first
network, or in its embeddings (k nearest neighbours of normalised features, Sun et al. 2022). A network keeps images
that it was trained on nearer to each other than new ones of the same kind. So the limit is from images that a network
had not trained on. Where all labelled images trained the network that is shipped, these are the held-out images of the
final comparison, each in the features of its fold's network. Networks differ in how near everything is, so what is
carried over from one to another is the ratio of a new image's distance to the typical distance among training images in
the same network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.activations.neighbours import Neighbours, unit
from raysearch.data.selection import Pixels, evenly_spaced
from raysearch.errors import InputError
from raysearch.models.boundary import up_to_embedding
from raysearch.training.answers import exact_rows

Floats = NDArray[np.float64]

NEIGHBOURS = 5
"""Few, so that a small class has them too: where they are of other classes, the typical distance says nothing."""
REFERENCES = 2000
"""Training images at most whose vectors are kept: an image's neighbours change little with more (Sun et al. 2022)."""
RATE = 0.05
"""Of false alarms, where nobody says another."""
_POINTS = 1000  # of the table that are kept
_LEAST = 1e-9  # a typical distance below it is that of a network to which all images are one


class FalseAlarms(TypedDict):
    """How many images of the kind that was trained on are farther than a distance."""

    rate: float
    """Expected share of them."""
    limit: float
    """The distance."""


class KnownInfo(TypedDict):
    """How it stands in labels.json."""

    images: int
    """Images, or groups of such, that the table is from, none of which had trained the network that measured it."""
    points: list[FalseAlarms]
    """The nearest first."""


@dataclass(frozen=True, eq=False)
class Known:
    """The training images, as the network sees them, and how far from them new images of their kind are.

    Args:
        vectors: of the training images, of length 1, float16 (n, width).
        images: how many new images, or groups of such, the table is from.
        rates: shares of false alarms, falling, shape (m,).
        limits: the distances that belong to them, rising, shape (m,).
    """

    vectors: NDArray[np.float16]
    images: int
    rates: Floats
    limits: Floats

    @staticmethod
    def of(vectors: NDArray[np.floating], ratios: Floats, groups: NDArray[np.int64] | None = None) -> Known:
        """What ratios of new images say, once they are distances in the network of the vectors.

        The k-th smallest of n distances is exceeded by a new image of their kind with a probability of at most
        1 - k / (n + 1): the conformal quantile (Vovk et al. 2005). Where images are of groups, a new image is of a new
        one: each group counts as one, by the shares of its images (Dunn, Wasserman and Ramdas 2023).

        Args:
            vectors: of the training images, shape (m, width).
            ratios: as `ratios` gives them, shape (n,).
            groups: a number that images have in common which are no independent draws, shape (n,); None: all are.
        """
        stored, order = rounded(vectors), np.argsort(ratios)
        numbers = np.arange(len(ratios)) if groups is None else np.unique(groups, return_inverse=True)[1]
        sizes = np.bincount(numbers)
        n, within = len(sizes), np.cumsum(1 / sizes[numbers[order]])
        kept = evenly_spaced(len(ratios), _POINTS)
        limits = ratios[order][kept] * typical_distance(Neighbours(stored.astype(np.float32)))
        return Known(stored, n, 1 - within[kept] / (n + 1), limits)

    @staticmethod
    def read(info: KnownInfo, vectors: NDArray[np.float16]) -> Known:
        """What labels.json says of these vectors."""
        points = info["points"]
        rates, limits = ([point[name] for point in points] for name in ("rate", "limit"))
        return Known(vectors, info["images"], np.array(rates), np.array(limits))

    def info(self) -> KnownInfo:
        """How it stands in labels.json."""
        table = zip(self.rates.tolist(), self.limits.tolist(), strict=True)
        return {"images": self.images, "points": [{"rate": rate, "limit": limit} for rate, limit in table]}

    def limit(self, rate: float) -> float:
        """The smallest distance that at most this share of the images exceeds that are like those of training.

        Raises:
            InputError: the rate is no share, or so few images cannot promise it.
        """
        if not 0 < rate < 1:
            raise InputError(f"unknown {rate:g}: the share of false alarms must be between 0 and 1, e.g. {RATE:g}")
        kept = np.flatnonzero(self.rates <= rate + 1e-12)
        if not len(kept):
            raise InputError(
                f"unknown {rate:g}: that needs {math.ceil(round(1 / rate, 6)) - 1} labelled images which the network "
                f"was not trained on, and there are {self.images} (a group counts as one); the least that these can "
                f"promise is {math.ceil(1e4 / (self.images + 1)) / 1e4:g}"
            )
        return float(self.limits[kept[0]])

    def distances(self, vectors: NDArray[np.float32]) -> Floats:
        """How far new vectors (m, width) are from the training images, shape (m,), in [0, 2]."""
        return distances(self._neighbours, vectors)

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self.vectors.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Stranger:
    """Tells which images are like none of the training images.

    Args:
        network: that the vectors of `known` are of.
        known: the training images.
        limit: the distance from which on an image is unknown.
        device: where the network runs.
    """

    network: nn.Sequential
    known: Known
    limit: float
    device: torch.device

    def distances(self, images: NDArray[np.uint8]) -> Floats:
        """How far images (n, h, w, 3) of the recipe's size are from the training images, shape (n,)."""
        return self.known.distances(features(self.network, images, self.device))

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Whether each is unknown, shape (n,)."""
        return self.distances(images) > self.limit


def features(
    network: nn.Sequential, images: Pixels, device: torch.device, batch_size: int = 256
) -> NDArray[np.float32]:
    """The pooled features of images, or the embeddings of an embedding head, float32 (n, width), in eval mode and fp32.

    Args:
        network: a classifier; it stays on the device.
        images: uint8 (n, h, w, 3) of the recipe's size.
        device: where the network runs.
        batch_size: images at a time; fewer where memory runs out.
    """
    body = up_to_embedding(network.to(device).eval())
    found = []
    size = batch_size
    for start in range(0, len(images), batch_size):
        rows, size = exact_rows(body, np.asarray(images[start : start + batch_size]), device, size)
        found.append(rows.numpy())
    return np.concatenate(found)


def rounded(vectors: NDArray[np.floating]) -> NDArray[np.float16]:
    """Vectors (n, width) as they are kept: of length 1, in half precision."""
    return unit(vectors.astype(np.float32)).astype(np.float16)


def distances(known: Neighbours, vectors: NDArray[np.float32]) -> Floats:
    """The mean cosine distance of each vector (m, width) to its nearest known ones, shape (m,)."""
    found: Floats = 1 - known.nearest(vectors, NEIGHBOURS)[1].mean(axis=1)
    return found


def typical_distance(known: Neighbours) -> float:
    """The median distance of the known vectors to their nearest others; never 0, for it is divided by."""
    similarities = known.others(NEIGHBOURS)[1]
    return max(float(np.median(1 - similarities.mean(axis=1))), _LEAST) if similarities.shape[1] else 1.0


def ratios(vectors: NDArray[np.floating], new: NDArray[np.float32]) -> Floats:
    """How far new vectors (m, width) are from known ones (n, width), by the typical distance of these; shape (m,)."""
    known = Neighbours(rounded(vectors).astype(np.float32))
    found: Floats = distances(known, new) / typical_distance(known)
    return found


def references(labels: NDArray[np.int64], places: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Those of the places whose vectors are kept: all, or `REFERENCES`, as many of each class as of any other.

    Args:
        labels: of all images, shape (n,).
        places: of the images that were trained on.
        seed: of the choice.

    Returns: places, ascending.
    """
    if len(places) <= REFERENCES:
        return np.sort(places)
    shuffled = np.random.default_rng(seed).permutation(places)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.unique(labels[by_class], return_counts=True)[1]
    within = np.concatenate([np.arange(count) for count in counts])  # class after class: first, second, …
    return np.sort(by_class[np.argsort(within, kind="stable")[:REFERENCES]])

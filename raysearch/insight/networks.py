"""Which pretrained network suits somebody's images: what heads on its features are worth, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.data.dataset import Dataset, Split
from raysearch.errors import InputError
from raysearch.insight.audit import Telling
from raysearch.insight.embedder import Embedder
from raysearch.models.candidates import Candidate
from raysearch.models.registry import backbone_spec
from raysearch.models.weights import load_weights
from raysearch.record.goal import Goal
from raysearch.record.metric import larger_is_better
from raysearch.training.calibration import logarithms
from raysearch.training.cost import Cost, cost_of
from raysearch.training.decisions import Decisions
from raysearch.training.heads.out_of_fold import EPOCHS, FOLDS, out_of_fold
from raysearch.training.paired import Difference, compare, figure_interval

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Labelled:
    """The n training and validation images that networks are judged by, the same ones in every size.

    Attributes:
        sizes: the data set by the size that was asked for; None: that of the images.
        paths: (split, path) of each image, n of them.
        labels: shape (n,).
        groups: a number that images have in common which are held out together, shape (n,).
    """

    sizes: dict[int | None, Dataset]
    paths: tuple[tuple[str, str], ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None

    @classmethod
    def of(cls, sizes: dict[int | None, Dataset]) -> Labelled:
        """The images that a source has in all of these sizes: copies leave it by their pixels, which sizes change.

        Raises:
            InputError: there are fewer images than folds.
        """
        first, *others = sizes.values()
        common = set(_paths(first)).intersection(*map(_paths, others))
        rows = np.array([row for row, path in enumerate(_paths(first)) if path in common], np.int64)
        if len(rows) < FOLDS:
            raise InputError(f"{first.source} has {len(rows)} training and validation images; {FOLDS} are needed")
        images = Split.join(first.train, first.val).take(rows)
        paths = tuple(path for path in _paths(first) if path in common)
        return cls(sizes, paths, images.labels, images.groups)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return next(iter(self.sizes.values())).classes

    def vectors(self, embedder: Embedder, size: int | None, telling: Telling) -> NDArray[np.float32]:
        """What a network makes of the images in one size, shape (n, width)."""
        dataset = self.sizes[size]
        telling.begin(f"{embedder.recipe.backbone}: features", len(dataset.train) + len(dataset.val))
        splits = {"train": dataset.train, "val": dataset.val}
        found = np.concatenate(
            [embedder.vectors(split, name, dataset.fingerprint, telling) for name, split in splits.items()]
        )
        row = {path: number for number, path in enumerate(_paths(dataset))}
        return found[[row[path] for path in self.paths]]


@dataclass(frozen=True, eq=False)
class Judged:
    """A network, and what heads on its frozen features say.

    Attributes:
        backbone: its name.
        weights: what loads the same again: see `raysearch.models.weights.Weights.again`.
        origin: of the weights, in words.
        digest: of the tensors.
        image_size: height and width that it saw, pixels.
        logits: of the heads, out of fold, shape (n, classes).
        cost: of a prediction.
        seconds: that features and heads took.
    """

    backbone: str
    weights: str
    origin: str
    digest: str
    image_size: int
    logits: torch.Tensor
    cost: Cost
    seconds: float


@dataclass(frozen=True, eq=False)
class Place:
    """A network among others.

    Attributes:
        network: which.
        figure: of the metric.
        low, high: ends of its interval.
        behind: how much better the best network is, image by image; None: it is the best.
    """

    network: Judged
    figure: float
    low: float
    high: float
    behind: Difference | None

    @property
    def surely_behind(self) -> bool:
        """Whether the best is better by more than chance explains."""
        return self.behind is not None and self.behind.surely


def seen_size(backbone: str, asked: int | Literal["native"] | None) -> int | None:
    """The size in which a network sees images: what is asked for, or, natively, what it was trained with.

    Args:
        backbone: its name.
        asked: pixels, native, or None.

    Returns: pixels; None: the images' own size, as a search decides it.
    """
    return backbone_spec(backbone).trained_size if asked == "native" else asked


def judge(
    candidate: Candidate, size: int | None, images: Labelled, device: torch.device, *, seed: int = 0, telling: Telling
) -> Judged:
    """Look at the images with a frozen network, pooled as it was trained, and have heads tell their classes.

    Args:
        candidate: the network.
        size: of the images, one of `images.sizes`.
        images: training and validation images.
        device: where the network runs.
        seed: of folds and heads, and of random weights.
        telling: shows how far it is.

    Raises:
        InputError: the weights cannot be had or do not fit, or the images are too small.
    """
    weights = load_weights(candidate.backbone, candidate.weights, seed)
    dataset = images.sizes[size]
    embedder = Embedder.of_backbone(candidate.backbone, weights, dataset.image_size, dataset.fit, "avg", device)
    began = time.perf_counter()
    vectors = images.vectors(embedder, size, telling)
    telling.begin(f"{candidate.backbone}: heads", FOLDS * EPOCHS)
    probabilities = out_of_fold(
        vectors, images.labels, len(images.classes), copies=images.groups, seed=seed, progress=telling
    )
    seconds = time.perf_counter() - began
    return Judged(
        candidate.backbone,
        weights.again,
        weights.origin,
        weights.digest,
        dataset.image_size,
        logarithms(probabilities),
        cost_of(embedder.network, dataset.image_size, device),
        seconds,
    )


def rank(networks: Sequence[Judged], images: Labelled, metric: str) -> list[Place]:
    """Networks by a metric, the best first; of equals, the cheaper one.

    Args:
        networks: which.
        images: that they were judged by.
        metric: as a search is led by.
    """
    sign = -1 if larger_is_better(metric) else 1
    known = images.labels, images.classes, CONFIDENCE, images.groups
    figures = [figure_interval(metric, Decisions(one.logits), *known) for one in networks]
    found = sorted(
        zip(networks, figures, strict=True), key=lambda one: (sign * one[1][0], one[0].cost.milliseconds_in_batch)
    )

    def behind(network: Judged) -> Difference:
        best, one = Decisions(found[0][0].logits), Decisions(network.logits)
        return compare(Goal(metric), best, one, *known)

    return [Place(one, *figure, behind(one) if number else None) for number, (one, figure) in enumerate(found)]


def cheapest(places: Sequence[Place]) -> Place:
    """The network with the cheapest predictions, an image in a batch, of those that are not surely behind."""
    return min(
        (place for place in places if not place.surely_behind),
        key=lambda place: place.network.cost.milliseconds_in_batch,
    )


def _paths(dataset: Dataset) -> list[tuple[str, str]]:
    splits = {"train": dataset.train, "val": dataset.val}
    return [(name, path) for name, split in splits.items() for path in split.paths]

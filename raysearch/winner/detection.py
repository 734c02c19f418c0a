"""How well a classifier tells images of another kind from those of the kind that it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.data.pixels import load
from raysearch.data.selection import Pixels
from raysearch.errors import InputError
from raysearch.winner.answers import find_images, name_of
from raysearch.winner.best import Best
from raysearch.winner.unknown import RATE, Floats, Stranger

logger = logging.getLogger(__name__)

_BATCH = 256


class Detection(TypedDict):
    """How well images of another kind are told from those of the kind that was trained on."""

    images: int
    """Of the other kind."""
    auroc: float
    """Area under the ROC curve: how often one of them is farther from the training images than a known one is."""
    detected: float
    """Share of them that is farther than all but `RATE` of the known images are."""
    limit: float | None
    """What the classifier itself takes for `RATE`; None: it has too few images to say."""
    limit_false_alarms: float | None
    """Share of the known images beyond that limit."""
    limit_detected: float | None
    """Share of the others beyond it."""


def detection(known: Sequence[float] | Floats, others: Sequence[float] | Floats, limit: float | None) -> Detection:
    """How well distances tell other images from known ones.

    Args:
        known: distances of images of the kind that was trained on, none of which was; shape (n,).
        others: distances of images of another kind, shape (m,).
        limit: the classifier's own for `RATE`.
    """
    from sklearn.metrics import roc_auc_score  # a second to import

    near, far = np.asarray(known, float), np.asarray(others, float)
    truth = np.repeat([0, 1], [len(near), len(far)])
    return {
        "images": len(far),
        "auroc": float(roc_auc_score(truth, np.concatenate([near, far]))),
        "detected": float((far > np.quantile(near, 1 - RATE, method="higher")).mean()),
        "limit": limit,
        "limit_false_alarms": None if limit is None else float((near > limit).mean()),
        "limit_detected": None if limit is None else float((far > limit).mean()),
    }


def measure_detection(best: Best, known: Sequence[Pixels], source: str, device: torch.device) -> Detection:
    """How well the classifier tells the images of SOURCE from known ones.

    Args:
        best: the classifier.
        known: images of the kind that it was trained on, none of which was, of its size: uint8 (n, s, s, 3) each.
        source: a folder of images, with or without classes, or a file or a name, as of `load`; labels do not matter.
        device: where the network runs.

    Raises:
        InputError: SOURCE has no images, or nobody has measured how far known images are.
    """
    limit = best.known.limit(RATE) if best.known.rates.min() <= RATE else None
    stranger = Stranger(best.network(), best.known, limit or 0.0, device)

    def distances(batches: Iterator[NDArray[np.uint8]]) -> Floats:
        return np.concatenate([stranger.distances(batch) for batch in batches])

    near = distances(batch for one in known for batch in _batches(one))
    return detection(near, distances(_others(best, source)), limit)


def _others(best: Best, source: str) -> Iterator[NDArray[np.uint8]]:
    """The images of SOURCE that can be read, of the classifier's size, (n, s, s, 3) at a time."""
    size, fit = best.recipe.image_size, best.recipe.fit
    if not Path(source).is_dir():
        data = load(source, image_size=size, fit=fit, measuring=True, keep_copies=True)
        for split in (data.train, data.val, data.test):
            yield from _batches(split.pixels)
        return
    images, some = find_images(source), False
    for start in range(0, len(images), _BATCH):
        batch = []
        for number, image in enumerate(images[start : start + _BATCH], start):
            try:
                batch.append(best.pixels(image))
            except Exception as error:  # noqa: BLE001 (decoders raise anything; the other images are still fine)
                logger.warning("%s cannot be read: %s: %s", name_of(image, number), type(error).__name__, error)
        if batch:
            some = True
            yield np.stack(batch)
    if not some:
        raise InputError(f"none of the images in {source!r} can be read")


def _batches(pixels: Pixels) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(pixels), _BATCH):
        yield np.asarray(pixels[start : start + _BATCH])

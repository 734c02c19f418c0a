"""Measuring models where trials run: with nothing but the folder of the decoded images at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Dataset, Split
from raysearch.data.selection import evenly_spaced
from raysearch.data.shared import bring_all
from raysearch.job.job import Job
from raysearch.models.boundary import cut, prepare
from raysearch.storage.remote import Storage
from raysearch.training.averaging import estimate_statistics
from raysearch.winner.evaluate import Evaluation, evaluate_model
from raysearch.winner.shipped import Mirrored

Key = TypeVar("Key")

LABELLED = "labelled"
"""The training images, and behind them the validation images."""
_STATISTICS_IMAGES = 2048  # that the statistics of an averaged network are estimated from
_BATCH = 64


class Where(NamedTuple):
    """Where trials run, and what is looked at there."""

    place: str
    """Of the decoded images, in all sizes."""
    storage: str | None
    """Where they are for machines that do not have them; None: all have them."""
    seed: int
    """Of the search."""
    device: str
    """Its type."""


def where_of(job: Job) -> Where:
    """Where a job's trials run."""
    settings = job.settings
    return Where(job.dataset.place, settings.storage, settings.seed, settings.device)


@dataclass(frozen=True)
class Statistics:
    """Which BatchNorm statistics of a model are estimated anew before it is measured, and from what."""

    depth: int
    """How many blocks are unfrozen: the statistics are theirs."""
    split: str
    places: NDArray[np.int64] | None = None
    """Images of the split; None: all."""


@dataclass(frozen=True)
class Look:
    """One model on one split."""

    model: nn.Module
    split: str
    """train, val, test, labelled, or half: the validation images that chose."""
    augment: Augmenter | None = None
    places: NDArray[np.int64] | None = None
    """Images of the split; None: all."""
    mirrored: bool = False
    """Whether the images are seen mirrored."""
    statistics: Statistics | None = None
    image_size: int | None = None
    """Pixels; None: the size that the search has, or has first."""


def look(where: Where, looks: Mapping[Key, Look]) -> dict[Key, Evaluation]:
    """Measure models.

    Args:
        where: trials run, and which images.
        looks: by any key.
    """
    sizes, found = images_at(where.place, where.storage), {}
    for key, one in looks.items():
        data = sizes if one.image_size is None else sizes.at(one.image_size)
        model = one.model
        if one.statistics is not None:
            estimate_batch_norm(model, one.statistics, data, where.seed, where.device)
        if one.mirrored:
            model = Mirrored(model)
        found[key] = evaluate_model(
            model, _images(data, one.split, one.places, where.seed), data.classes, where.device, augment=one.augment
        )
        one.model.to("cpu")  # so that not all of them are on the device at last
    return found


def images_at(place: str, storage: str | None) -> Dataset:
    """The decoded images of the search; arguments as of `Where`."""
    return Dataset.open_all(place if storage is None else bring_all(Storage(storage), place))


def with_estimated_statistics(
    where: Where, model: nn.Sequential, statistics: Statistics, image_size: int
) -> dict[str, torch.Tensor]:
    """The tensors of a model once its statistics are estimated, on the CPU."""
    data = images_at(where.place, where.storage).at(image_size)
    estimate_batch_norm(model, statistics, data, where.seed, where.device)
    return dict(model.to("cpu").state_dict())


def estimate_batch_norm(model: nn.Module, statistics: Statistics, data: Dataset, seed: int, device: str) -> None:
    """Estimate the BatchNorm statistics of a model's open blocks; its frozen ones stay as they are."""
    assert isinstance(model, nn.Sequential)
    images = _images(data, statistics.split, statistics.places, seed)
    spaced = evenly_spaced(len(images), _STATISTICS_IMAGES)
    prefix, suffix = cut(model.to(device).eval(), statistics.depth)
    with torch.inference_mode():
        batches = np.array_split(spaced, -(-len(spaced) // _BATCH))
        inputs = torch.cat([prefix(prepare(images.pixels[places], torch.device(device))) for places in batches])
    estimate_statistics(suffix, inputs, _BATCH)


def _images(data: Dataset, name: str, places: NDArray[np.int64] | None, seed: int) -> Split:
    if name == LABELLED:
        split = Split.join(data.train, data.val)
    elif name == "half":
        split = data.halved(seed)[0].val
    else:
        split = data.splits[name]
    return split if places is None else split.take(places)

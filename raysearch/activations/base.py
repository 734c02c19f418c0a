"""What the training loop reads of images, and what the ways of reading it have in common."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from torch import Tensor

from raysearch.models.transfer import laid_out

MOST_AT_ONCE = 256
"""Images that are read together at most, where all are."""


class Activations(Protocol):
    """The suffix's input, image by image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image's: (features,), (channels, height, width), or (tokens, channels)."""

    @property
    def varies(self) -> bool:
        """Whether one image's activations differ from view to view."""

    @property
    def at_once(self) -> int:
        """Images to ask for together where all of them are read: as many as memory surely takes, by their size."""

    def __len__(self) -> int:
        """Number of images."""

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        """float32 (len(indices), *shape) of these images in this view, on the device."""


class Derived:
    """Activations that are read by way of others; all that is not said anew is as those have it."""

    def __init__(self, source: Activations) -> None:
        self._source = source

    @property
    def shape(self) -> tuple[int, ...]:
        return self._source.shape

    @property
    def varies(self) -> bool:
        return self._source.varies

    @property
    def at_once(self) -> int:
        return self._source.at_once

    def __len__(self) -> int:
        return len(self._source)


class ChosenActivations(Derived):
    """The activations of some of the images, which are counted anew from 0."""

    def __init__(self, source: Activations, images: np.ndarray) -> None:
        super().__init__(source)
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        return self._source.batch(self._images[indices], view)


def as_rows(activations: Tensor) -> Tensor:
    """Activations as they are kept: maps (n, c, h, w) with channels last, (n, h, w, c); all others as they are."""
    return activations.movedim(1, -1) if activations.ndim == 4 else activations


def from_rows(rows: Tensor) -> Tensor:
    """What `as_rows` was given; maps come out as a network on their device has them, without a copy but on MPS."""
    return laid_out(rows.movedim(-1, 1), rows.device) if rows.ndim == 4 else rows


def size_bytes(activations: Activations) -> int:
    """Memory that one view of all images takes, in bytes."""
    return 4 * len(activations) * math.prod(activations.shape)

"""Boundary activations computed when they are asked for, and one view of them kept in memory where it fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.models.boundary import pin, prepare

if TYPE_CHECKING:
    from raysearch.data.augment import Augmenter
    from raysearch.data.selection import Pixels

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CHUNK_IMAGES = 256
"""Images a pass when everything is computed at once."""


class Activations(Protocol):
    """The suffix's input, image by image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (features,), or (channels, height, width)."""

    @property
    def varies(self) -> bool:
        """Whether one image's activations differ from view to view."""

    def __len__(self) -> int:
        """Number of images."""

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        """float32 (len(indices), *shape) of these images in this view, on the device."""


class LiveActivations:
    """Augments, prepares and passes through the prefix what is asked for, each time.

    Args:
        pixels: uint8 (n, h, w, 3); only the images of a batch are read.
        prefix: the frozen part; pinned here (no gradients, inference mode) and moved to the device.
        augmenter: makes the views; None where the images are seen as they are.
        device: where the prefix runs.
        precision: of the prefix: fp32, or autocast to bf16 or fp16; activations are fp32 in any case.
    """

    def __init__(
        self,
        pixels: Pixels,
        prefix: nn.Sequential,
        *,
        augmenter: Augmenter | None,
        device: torch.device,
        precision: str,
    ) -> None:
        if precision not in ("fp32", *AUTOCAST):
            raise ValueError(f"precision must be fp32, {' or '.join(AUTOCAST)}, got {precision!r}")
        self._pixels = pixels
        self._prefix = pin(prefix).to(device)
        self.augmenter = augmenter if augmenter is not None and augmenter.strength > 0 else None
        self.device = device
        self.precision = precision

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._pass(self._pixels[:1]).shape[1:])

    @property
    def varies(self) -> bool:
        return self.augmenter is not None

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        return self._pass(self.images(indices, view))

    def images(self, indices: np.ndarray, view: int) -> np.ndarray:
        """uint8 (len(indices), h, w, 3): what the prefix is given."""
        images = self._pixels[indices]
        return images if self.augmenter is None else self.augmenter(images, indices, view)

    @contextmanager
    def frozen(self) -> Iterator[nn.Sequential]:
        """The prefix, as it must be run: without gradients, in inference mode and in its precision."""
        # The classifier shares the prefix's modules: a train() called on it must not make BatchNorm here drift.
        self._prefix.eval()
        dtype = AUTOCAST.get(self.precision)
        with torch.no_grad(), torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            yield self._prefix

    def _pass(self, images: np.ndarray) -> Tensor:
        with self.frozen() as prefix:
            activations: Tensor = prefix(prepare(images, self.device))
        return activations.float()


class KeptActivations:
    """Activations that are the same in every view, computed once, at first use, and then read from memory.

    They are computed in index order and chunks of fixed size, never in the caller's batches: a process that starts
    again in the middle of a trial gets the same bits.
    """

    def __init__(self, source: Activations) -> None:
        if source.varies:
            raise ValueError("these activations differ from view to view: keeping one view would repeat it")
        self._source = source
        self._rows: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._source.shape

    @property
    def varies(self) -> bool:
        return False

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        if self._rows is None:
            self._rows = self._fill()
        places = torch.from_numpy(np.ascontiguousarray(indices))
        on_cuda = self._rows.device.type == "cuda"
        if on_cuda:  # from any other memory, each step would wait for the device
            places = places.pin_memory()
        return self._rows[places.to(self._rows.device, non_blocking=on_cuda)].movedim(-1, 1)

    def _fill(self) -> Tensor:
        """All activations, channels last, so that gathered feature maps come out as the prefix lays them out."""
        kept: Tensor | None = None
        for start in range(0, len(self), _CHUNK_IMAGES):
            indices = np.arange(start, min(start + _CHUNK_IMAGES, len(self)))
            chunk = self._source.batch(indices, 0).movedim(1, -1)
            if kept is None:
                kept = chunk.new_empty((len(self), *chunk.shape[1:]))
            kept[start : start + len(indices)] = chunk
        if kept is None:
            raise ValueError("there are no images to keep activations of")
        return kept


def size_bytes(activations: Activations) -> int:
    """Memory that one view of all images takes, in bytes."""
    return 4 * len(activations) * math.prod(activations.shape)


def keep(activations: Activations, limit_bytes: int) -> Activations:
    """The activations kept in memory if every view is the same and they fit in `limit_bytes`; else themselves."""
    if activations.varies or size_bytes(activations) > limit_bytes:
        return activations
    return KeptActivations(activations)

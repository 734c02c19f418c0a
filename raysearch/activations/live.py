"""Boundary activations computed when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.activations.base import MOST_AT_ONCE
from raysearch.models.boundary import pin, prepare
from raysearch.models.precision import PRECISIONS, autocast

if TYPE_CHECKING:
    from raysearch.data.augment import Augmenter
    from raysearch.data.selection import Pixels


_PIXELS_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 23, "mps": 1 << 21}


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
        if precision not in PRECISIONS:
            *most, last = PRECISIONS
            raise ValueError(f"precision must be {', '.join(most)} or {last}, got {precision!r}")
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

    @property
    def at_once(self) -> int:
        height, width = self._pixels.shape[1:3]
        return max(1, min(MOST_AT_ONCE, _PIXELS_AT_ONCE.get(self.device.type, 1 << 20) // (height * width)))

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
        with torch.no_grad(), autocast(self.device, self.precision):
            yield self._prefix

    def _pass(self, images: np.ndarray) -> Tensor:
        with self.frozen() as prefix:
            activations: Tensor = prefix(prepare(images, self.device))
        return activations.float()

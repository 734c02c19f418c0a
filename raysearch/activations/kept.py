"""Boundary activations in memory, on the device that reads them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from raysearch.activations.base import MOST_AT_ONCE, Activations, Derived, as_rows, from_rows
from raysearch.models.memory import within_memory
from raysearch.models.transfer import to_device


class TensorActivations:
    """The rows of a tensor, the same in every view.

    Args:
        rows: float32 on the device: (n, features), (n, tokens, channels), or feature maps with channels last,
            (n, height, width, channels), so that they come out as a network lays them out.
    """

    varies, at_once = False, MOST_AT_ONCE

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(from_rows(self._rows[:1]).shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        return from_rows(self._rows[to_device(indices, self._rows.device)])


class KeptActivations(Derived):
    """Activations that are the same in every view, computed once, at first use, and then read from memory.

    They are computed in index order and chunks of fixed size, smaller ones where memory runs out, never in the caller's
    batches: a process that starts again in the middle of a trial gets the same bits. Then their source is let go of: it
    holds a frozen prefix, most of a network on the device, and these outlive the trial that it was made for.
    """

    def __init__(self, source: Activations) -> None:
        if source.varies:
            raise ValueError("these activations differ from view to view: keeping one view would repeat it")
        super().__init__(source)

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        if not isinstance(self._source, TensorActivations):
            rows, _ = within_memory(self._fill, self.at_once)
            self._source = TensorActivations(rows)
        return self._source.batch(indices, view)

    def _fill(self, size: int) -> Tensor:
        """All activations, maps with channels last; `size` images at a time."""
        kept: Tensor | None = None
        for start in range(0, len(self), size):
            indices = np.arange(start, min(start + size, len(self)))
            chunk = as_rows(self._source.batch(indices, 0))
            if kept is None:
                kept = chunk.new_empty((len(self), *chunk.shape[1:]))
            kept[start : start + len(indices)] = chunk
        if kept is None:
            raise ValueError("there are no images to keep activations of")
        return kept

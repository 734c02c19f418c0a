"""Images chosen by index from arrays that stay where they are, most often memory maps of gigabytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Selection:
    """Images of one or more arrays in an order of their own; none is copied, and none read before it is asked for.

    It is indexed as an array is, along its first dimension: a number gives one image, a slice, indices or a mask give a
    new array of just these. `np.asarray` reads them all.

    Args:
        sources: uint8 arrays, (n, s, s, 3) each, of one image size.
        rows: which of their images, counted through all sources as if they were one array; integer (m,).
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, sources: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64]) -> None:
        if len(sizes := {source.shape[1:] for source in sources}) != 1:
            raise ValueError(f"images of one size can be joined, got {sorted(sizes)}")
        self._sources, self._rows = tuple(sources), rows
        self._starts = np.cumsum([0, *(len(source) for source in sources)])[:-1]

    @classmethod
    def of(cls, pixels: Pixels) -> Selection:
        """All images of an array, or a selection itself."""
        return pixels if isinstance(pixels, Selection) else cls((pixels,), np.arange(len(pixels)))

    @classmethod
    def join(cls, parts: Sequence[Pixels]) -> Selection:
        """All images of all parts, part after part."""
        selections = [cls.of(part) for part in parts]
        sizes = [sum(map(len, selection._sources)) for selection in selections]
        starts = np.cumsum([0, *sizes])
        rows = [selection._rows + start for selection, start in zip(selections, starts, strict=False)]
        return cls([source for selection in selections for source in selection._sources], np.concatenate(rows))

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, s, s, 3)."""
        return (len(self._rows), *self._sources[0].shape[1:])

    def take(self, indices: NDArray[np.integer]) -> Selection:
        """Some of these images, in this order; none is read."""
        return Selection(self._sources, self._rows[indices])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        rows = self._rows[key]
        homes = np.searchsorted(self._starts, rows, side="right") - 1
        if rows.ndim == 0:
            return self._sources[homes][rows - self._starts[homes]]
        if len(self._sources) == 1:
            return self._sources[0][rows]
        images = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        for number, source in enumerate(self._sources):
            if (here := homes == number).any():
                images[here] = source[rows[here] - self._starts[number]]
        return images

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a selection lies in no array of its own: to make one of it is to copy it")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """Places among `n` images (or other things), the first and the last one included; all, if there are at most `most`.

    >>> evenly_spaced(10, 4).tolist(), evenly_spaced(3, 4).tolist(), evenly_spaced(0, 4).tolist()
    ([0, 3, 6, 9], [0, 1, 2], [])
    """
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


Pixels = NDArray[np.uint8] | Selection
"""Images uint8 RGB, (n, s, s, 3), read by index: an array, a read-only memory map, or a selection of others."""

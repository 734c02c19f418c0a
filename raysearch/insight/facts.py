"""What can be said of an image without looking at what it shows: its file, its size, its brightness, its borders."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.decode import dimensions
from raysearch.data.listing import Listing
from raysearch.data.selection import Pixels

TINY = 16
"""Pixels of the shorter side below which an image is called tiny."""
BLANK = 2.0
"""Standard deviation of the grey values, of 255, below which an image is called blank."""
_CHUNK = 256
_BORDER = 16
"""Cells along a side of the image as borders and corners are taken from it."""


@dataclass(frozen=True, eq=False)
class Facts:
    """Of n images.

    Attributes:
        bytes: size of the file, shape (n,); 0 of images that are no files.
        width, height: pixels, as they came, shape (n,).
        brightness, contrast: mean and standard deviation of the grey values, of 255, shape (n,).
        borders: the outermost cells of the image, shape (n, cells).
        corners: the four corners, shape (n, cells).
    """

    bytes: NDArray[np.int64]
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    borders: NDArray[np.float32]
    corners: NDArray[np.float32]

    @property
    def tiny(self) -> NDArray[np.bool_]:
        """Which images came so small that little can be seen, shape (n,)."""
        return (self.width > 0) & (np.minimum(self.width, self.height) < TINY)

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Which images are of one shade, shape (n,)."""
        return self.contrast < BLANK


def look_at(
    listing: Listing, rows: NDArray[np.int64], pixels: Pixels, progress: Callable[[int], None] = lambda done: None
) -> Facts:
    """The facts of images.

    Args:
        listing: where they come from.
        rows: each image's row in it, shape (n,).
        pixels: the decoded images, uint8, shape (n, size, size, 3).
        progress: told of images that are done; each counts once.
    """
    n = len(rows)
    size = np.zeros((3, n), np.int64)
    seen = np.zeros((2, n), np.float32)
    cells = min(_BORDER, pixels.shape[1])
    edge, corner = _masks(cells)
    borders, corners = (np.zeros((n, int(mask.sum())), np.float32) for mask in (edge, corner))

    def look(start: int) -> int:
        places = np.arange(start, min(start + _CHUNK, n))
        for place in places.tolist():
            data = listing.reader.read(int(rows[place]))
            size[:, place] = (len(data) if isinstance(data, bytes) else 0, *dimensions(data))
        grey = np.asarray(pixels[places]).astype(np.float32).mean(axis=3)
        seen[:, places] = grey.mean((1, 2)), grey.std((1, 2))
        small = _shrink(grey, cells)
        borders[places], corners[places] = small[:, edge], small[:, corner]
        return len(places)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done in pool.map(look, range(0, n, _CHUNK)):
            progress(done)
    return Facts(size[0], size[1], size[2], seen[0], seen[1], borders, corners)


def _masks(cells: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The cells that are borders, and those that are corners, of cells x cells."""
    edge = np.ones((cells, cells), bool)
    edge[1:-1, 1:-1] = False
    near = np.zeros(cells, bool)
    reach = max(1, cells // 8)
    near[:reach] = near[-reach:] = True
    return edge, near[:, None] & near[None]


def _shrink(grey: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Means over cells x cells parts of images (n, size, size); what is left over at the far sides is left out."""
    step = grey.shape[1] // cells
    # The far border must be the image's: parts are counted from both sides.
    places = np.linspace(0, grey.shape[1] - step, cells).round().astype(int)
    rows = np.stack([grey[:, at : at + step].mean(axis=1) for at in places], axis=1)
    return np.stack([rows[:, :, at : at + step].mean(axis=2) for at in places], axis=2)

"""Decodes the images of one split into a memory map, in parallel; what needs the data set's range waits for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.decode import decode, several_frames
from raysearch.data.deep import channels
from raysearch.data.listing import Listing, Skipped
from raysearch.data.selection import Pixels
from raysearch.data.value_range import Extremes, PixelRange, RangeNeededError

_DIGEST_BYTES = 16
_CHUNK = 32
"""Images a task of the thread pool."""


def digest_of(pixels: NDArray[np.uint8]) -> bytes:
    """What tells a decoded image, (s, s, 3), from every other; copies have the same."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=_DIGEST_BYTES).digest()


def digests_of(pixels: Pixels) -> Iterator[bytes]:
    """The same of each image of some, in their order."""
    return (digest_of(pixels[place]) for place in range(len(pixels)))


class DecodedSplit:
    """The images of some rows of a listing, on their way into one .npy.

    Attributes:
        rows: the rows, in the order of the file.
        failed: the rows that cannot be read, and why.
        deep: the rows of more than eight bits, and their extremes.
        digests: of each row's pixels, as the network will see them: what makes it a copy of another.
        met: each row's pixel format, width and height, as it was opened.
        frames: rows whose files have several pictures.
        channels: how many channels a row's file has, where these are more than are read.
        dropped: the rows that are left out though they could be read.
    """

    def __init__(self, listing: Listing, rows: NDArray[np.int64], file: Path, size: int, fit: str) -> None:
        self.rows = rows
        self.failed: dict[int, Skipped] = {}
        self.deep: dict[int, Extremes] = {}
        self.digests: dict[int, bytes] = {}
        self.met: dict[int, tuple[str, int, int]] = {}
        self.frames: set[int] = set()
        self.channels: dict[int, int] = {}
        self.dropped: set[int] = set()
        self._listing, self._file, self._size, self._fit = listing, file, size, fit
        self._pixels = open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(rows), size, size, 3))

    def decode(self, advance: Callable[[int], None]) -> None:
        """Decode every image of eight bits, and look at the values of the others.

        Args:
            advance: called with the number of images that are done.
        """
        self._each(range(len(self.rows)), None, advance)

    def decode_deep(self, pixel_range: PixelRange) -> None:
        """Decode the images that wait for the range."""
        self._each([place for place, row in enumerate(self.rows.tolist()) if row in self.deep], pixel_range)

    def kept(self) -> list[int]:
        """The rows that could be read and are not dropped, in the order of the file."""
        return [row for row in self.rows.tolist() if row not in self.failed and row not in self.dropped]

    def finish(self) -> NDArray[np.uint8]:
        """Leave out what could not be read or is dropped, and write the file.

        Returns:
            what the file holds, uint8, shape (images, size, size, 3).
        """
        if self.failed or self.dropped:
            rows = set(self.kept())
            kept = [place for place, row in enumerate(self.rows.tolist()) if row in rows]
            whole = self._file.with_suffix(".part")
            compact = open_memmap(whole, mode="w+", dtype=np.uint8, shape=(len(kept), *self._pixels.shape[1:]))
            for place, source in enumerate(kept):
                compact[place] = self._pixels[source]
            compact.flush()
            whole.replace(self._file)
            self._pixels = compact
        self._pixels.flush()
        pixels: NDArray[np.uint8] = self._pixels
        return pixels

    def _each(
        self,
        places: Sequence[int],
        pixel_range: PixelRange | None,
        advance: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Pillow decodes and resizes without the interpreter's lock, so threads are enough."""

        def decode_some(start: int) -> None:
            some = places[start : start + _CHUNK]
            for place in some:
                self._one(place, pixel_range)
            advance(len(some))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for _ in pool.map(decode_some, range(0, len(places), _CHUNK)):
                pass

    def _one(self, place: int, pixel_range: PixelRange | None) -> None:
        row = int(self.rows[place])

        def meet(image: Image.Image) -> None:
            self.met[row] = (image.mode, *image.size)
            if several_frames(image):
                self.frames.add(row)
            if (found := channels(image)) > 4:
                self.channels[row] = found

        try:
            pixels = decode(self._listing.reader.read(row), self._size, self._fit, pixel_range, meet)
            self._pixels[place] = pixels
            # While the other threads decode: it takes a hundredth of what decoding does.
            self.digests[row] = digest_of(pixels)
        except RangeNeededError as needed:
            self.deep[row] = needed.extremes
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  Pillow's plugins raise nearly anything on a damaged file
            self.failed[row] = Skipped(self._listing.paths[row], f"{type(error).__name__}: {error}")

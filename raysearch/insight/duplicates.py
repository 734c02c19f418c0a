"""Images that show the same picture: the same pixels, or nearly, after new compression, a mirror or a crop.

Candidates come from perceptual hashes (of an image and of its mirror image) and from the nearest vectors of the frozen
network; a pair is taken as one picture only if its pixels say so, too: see `raysearch.insight.same_picture`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.dataset import Split
from raysearch.data.selection import Pixels
from raysearch.insight.same_picture import Small, how_alike

Kind = Literal["exact", "near", "mirrored", "cropped"]
_HASH_BITS = 10
"""Bits of 64 in which hashes of one picture may differ, before the pixels are asked."""
_CHUNK = 256
_MOST_OF_A_HASH = 20
"""Candidates of one image by its hash: of blank images all are alike, and say nothing."""


@dataclass(frozen=True)
class Duplicate:
    """A pair that shows one picture; `image` is the one that comes first in train, val, test, by its place."""

    image: int
    other: int
    kind: Kind
    likeness: float
    """How alike the two are, in [0, 1]; 1 for the same pixels."""


def find_duplicates(
    images: Split, neighbours: NDArray[np.int64], progress: Callable[[int], None] = lambda done: None
) -> list[Duplicate]:
    """Pairs of images that show one picture, in the order of the images.

    Of n images of the same pixels each is paired with the first of them; of the others, every pair that is found.

    Args:
        images: of all splits.
        neighbours: the nearest images of each by their vectors, shape (n, k).
        progress: told of images that are done; each counts once.
    """
    exact = list(_exact(images.pixels))
    copies = {pair.other for pair in exact}
    alone = np.array([place for place in range(len(images)) if place not in copies], np.int64)
    small, hashes, mirrored = _look_at(images.pixels, progress)
    pairs = dict.fromkeys(
        (*_by_hash(alone, hashes[alone], hashes[alone]), *_by_hash(alone, hashes[alone], mirrored[alone])), False
    )
    kept = set(alone.tolist())
    for place in alone.tolist():
        pairs |= {(min(place, near), max(place, near)): True for near in neighbours[place].tolist() if near in kept}
    return sorted([*exact, *_verified(pairs, small)], key=lambda pair: (pair.image, pair.other))


def _exact(pixels: Pixels) -> Iterator[Duplicate]:
    first: dict[bytes, int] = {}
    for start in range(0, len(pixels), _CHUNK):
        chunk = np.asarray(pixels[np.arange(start, min(start + _CHUNK, len(pixels)))])
        for place, image in enumerate(chunk, start):
            if (earlier := first.setdefault(hashlib.sha256(image.tobytes()).digest(), place)) != place:
                yield Duplicate(earlier, place, "exact", 1.0)


def _look_at(pixels: Pixels, progress: Callable[[int], None]) -> tuple[Small, NDArray[np.uint64], NDArray[np.uint64]]:
    """Every image small and grey, and the hashes of it and of its mirror image, shape (n,) each."""
    import imagehash

    small = Small(len(pixels), pixels.shape[1])
    hashes = np.zeros((2, len(pixels)), np.uint64)

    def look(start: int) -> int:
        places = np.arange(start, min(start + _CHUNK, len(pixels)))
        for place, image in zip(places.tolist(), np.asarray(pixels[places]), strict=True):
            grey = Image.fromarray(image).convert("L")
            small.put(place, grey)
            for row, seen in enumerate((grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
                bits = imagehash.phash(seen).hash.reshape(-1)
                hashes[row, place] = np.packbits(bits).view(">u8")[0]
        return len(places)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done in pool.map(look, range(0, len(pixels), _CHUNK)):
            progress(done)
    return small, hashes[0], hashes[1]


def _by_hash(
    places: NDArray[np.int64], hashes: NDArray[np.uint64], others: NDArray[np.uint64]
) -> Iterator[tuple[int, int]]:
    """Pairs of places whose hashes differ in few bits; every pair is looked at, some 10**8 a second."""
    for start in range(0, len(places), _CHUNK):
        apart = np.bitwise_count(hashes[start : start + _CHUNK, None] ^ others[None])
        rows, columns = np.nonzero(apart <= _HASH_BITS)
        rows += start
        for row in np.unique(rows[rows != columns]):
            near = columns[(rows == row) & (columns != row)]
            closest = near[np.argsort(apart[row - start, near], kind="stable")][:_MOST_OF_A_HASH]
            for column in closest.tolist():
                yield int(places[min(row, column)]), int(places[max(row, column)])


def _verified(candidates: Mapping[tuple[int, int], bool], small: Small) -> Iterator[Duplicate]:
    """Those of the pairs that show one picture.

    Args:
        candidates: pairs of places, and whether one may be a crop of the other: what has the hash of another is none.
        small: the images.
    """
    pairs = sorted(candidates.items())

    def ask(start: int) -> list[Duplicate]:
        found = []
        for (one, other), crops in pairs[start : start + _CHUNK]:
            kind, likeness = how_alike(small[one], small[other], crops=crops)
            if kind is not None:
                found.append(Duplicate(one, other, kind, likeness))
        return found

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for found in pool.map(ask, range(0, len(pairs), _CHUNK)):
            yield from found

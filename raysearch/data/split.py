"""Stratified, seeded splits: what a source does not give is split off its training images, class by class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysearch.data.listing import SPLITS

FRACTION = 0.15
"""Share of the images that are split that goes to validation, and to test, where they are missing."""


def missing_splits(splits: NDArray[np.str_]) -> tuple[str, ...]:
    """The names among val and test that no image has."""
    return tuple(name for name in SPLITS[1:] if not (splits == name).any())


def fill_splits(splits: NDArray[np.str_], labels: NDArray[np.int64], seed: int) -> NDArray[np.str_]:
    """Give every image a split.

    Images without one ("") and those in "train" are the pool; missing val and test are taken from it, `FRACTION` of
    each class and at least one image of it. Given val and test images stay where they are.

    Args:
        splits: "", train, val or test, shape (n,).
        labels: shape (n,).
        seed: of the shuffles, one a class.

    Returns:
        train, val or test, shape (n,).

    Raises:
        ValueError: a class has too few images in the pool to leave one in each split.
    """
    filled = np.where(splits == "", SPLITS[0], splits).astype("<U5")
    missing = missing_splits(splits)
    for label in np.unique(labels):
        pool = np.flatnonzero((filled == SPLITS[0]) & (labels == label))
        take = max(1, round(FRACTION * len(pool)))
        if missing and len(pool) <= len(missing):
            raise ValueError(f"label {label} has {len(pool)} images for {len(missing) + 1} splits")
        order = np.random.default_rng([seed, int(label)]).permutation(pool)
        for place, name in enumerate(missing):
            filled[order[place * take : (place + 1) * take]] = name
    return filled


def fill_if_enough(splits: NDArray[np.str_], labels: NDArray[np.int64], seed: int) -> NDArray[np.str_]:
    """Fills splits as `fill_splits` does; if a class has too few images for that, all without a split are in train."""
    try:
        return fill_splits(splits, labels, seed)
    except ValueError:
        return np.where(splits == "", SPLITS[0], splits).astype("<U5")


def parts(labels: NDArray[np.int64], n: int, seed: int, copies: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Cut images into `n` disjoint parts of about equal size, stratified by class.

    Args:
        labels: shape (images,).
        n: number of parts, from 1.
        seed: of the shuffle.
        copies: a number that images have in common whose pixels are the same, shape (images,); None: all differ.

    Returns:
        The part of each image, 0 to n - 1, shape (images,). Sizes differ by at most one, and so do the images of a
        class in each part, but for copies: they follow the first of them.
    """
    shuffled = np.random.default_rng([seed, n]).permutation(len(labels))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]  # class after class
    found = np.empty(len(labels), np.int64)
    found[dealt] = np.arange(len(labels)) % n  # like cards, each class going on where the last one ended
    return found if copies is None else together(found, copies)


def together(found: NDArray[np.int64], copies: NDArray[np.int64]) -> NDArray[np.int64]:
    """The parts `found` of images, shape (n,), with each copy in the part of the first image of its number."""
    _, first, place = np.unique(copies, return_index=True, return_inverse=True)
    return found[first[place]]

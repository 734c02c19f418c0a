"""Stratified, seeded splits: what a source does not give is split off its training images, class by class.

Images of one group (see `raysearch.data.groups`) are never parted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raysearch.data.listing import SPLITS

FRACTION = 0.15
"""Share of the images that are split that goes to validation, and to test, where they are missing."""


def missing_splits(splits: NDArray[np.str_]) -> tuple[str, ...]:
    """The names among val and test that no image has."""
    return tuple(name for name in SPLITS[1:] if not (splits == name).any())


def fill_splits(
    splits: NDArray[np.str_], labels: NDArray[np.int64], seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.str_]:
    """Give every image a split.

    Images without one ("") and those in "train" are the pool; missing val and test are taken from it, `FRACTION` of
    each class and at least one image of it. Given val and test images stay where they are.

    Args:
        splits: "", train, val or test, shape (n,).
        labels: shape (n,).
        seed: of the shuffles, one a class.
        groups: a number that images have in common which must not be parted, shape (n,); None: all differ. With groups
            the shares are as near as whole groups come.

    Returns:
        train, val or test, shape (n,).

    Raises:
        ValueError: a class has too few images (or groups) in the pool to leave one in each split.
    """
    filled = np.where(splits == "", SPLITS[0], splits).astype("<U5")
    missing = missing_splits(splits)
    for label in np.unique(labels):
        pool = np.flatnonzero((filled == SPLITS[0]) & (labels == label))
        what = pool if groups is None else np.unique(groups[pool])
        if missing and len(what) <= len(missing):
            kind = "images" if groups is None else "groups"
            raise ValueError(f"label {label} has {len(what)} {kind} for {len(missing) + 1} splits")
    if groups is not None:
        pool = np.flatnonzero(filled == SPLITS[0])
        shares = [1 - FRACTION * len(missing), *[FRACTION] * len(missing)]
        filled[pool] = np.array([SPLITS[0], *missing])[cut(labels[pool], groups[pool], shares, seed)]
        return filled
    for label in np.unique(labels):
        pool = np.flatnonzero((filled == SPLITS[0]) & (labels == label))
        take = max(1, round(FRACTION * len(pool)))
        order = np.random.default_rng([seed, int(label)]).permutation(pool)
        for place, name in enumerate(missing):
            filled[order[place * take : (place + 1) * take]] = name
    return filled


def fill_if_enough(
    splits: NDArray[np.str_], labels: NDArray[np.int64], seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.str_]:
    """Fills splits as `fill_splits` does; if a class has too few images for that, all without a split are in train."""
    try:
        return fill_splits(splits, labels, seed, groups)
    except ValueError:
        return np.where(splits == "", SPLITS[0], splits).astype("<U5")


def parts(labels: NDArray[np.int64], n: int, seed: int, groups: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Cut images into `n` disjoint parts of about equal size, stratified by class.

    Args:
        labels: shape (images,).
        n: number of parts, from 1.
        seed: of the shuffle.
        groups: a number that images have in common which must not be parted, shape (images,); None: all differ.

    Returns:
        The part of each image, 0 to n - 1, shape (images,). Without groups sizes differ by at most one, and so do the
        images of a class in each part; with groups as little as whole groups allow: see `cut`.
    """
    if has_groups(groups):
        assert groups is not None
        return cut(labels, groups, [1 / n] * n, seed)
    shuffled = np.random.default_rng([seed, n]).permutation(len(labels))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]  # class after class
    found = np.empty(len(labels), np.int64)
    found[dealt] = np.arange(len(labels)) % n  # like cards, each class going on where the last one ended
    return found


def has_groups(groups: NDArray[np.int64] | None) -> bool:
    """Whether any two images must stay together."""
    return groups is not None and len(np.unique(groups)) < len(groups)


def cut(labels: NDArray[np.int64], groups: NDArray[np.int64], shares: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Cut images into disjoint parts of these shares, no group in two, each class as near to its share as groups allow.

    Greedy: the largest groups first (equals in a shuffled order), each to the part whose images of its classes it
    brings nearest to what they should be, by the chi-square distance. Images that are groups of their own come last and
    fill up what is missing, class by class. A part that has no image of a class comes first for its last groups.

    Args:
        labels: shape (images,).
        groups: a number that images have in common, shape (images,).
        shares: of the parts; they add up to one.
        seed: of the shuffles.

    Returns:
        The part of each image, shape (images,).
    """
    _, label = np.unique(labels, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    counts, sizes = np.bincount(label), np.bincount(group)
    wanted, have = np.outer(shares, counts), np.zeros((len(shares), len(counts)))
    left = np.bincount(np.unique(np.stack([group, label]), axis=1)[1])  # groups of each class that have no part yet
    random = np.random.default_rng([seed, len(shares)])
    shuffled = random.permutation(len(sizes))
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    found = np.zeros(len(labels), np.int64)
    for one in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        if sizes[one] == 1:
            break
        there, n = np.unique(label[members[one]], return_counts=True)
        off, empty = have[:, there] - wanted[:, there], have[:, there] == 0
        worse = (((off + n) ** 2 - off**2) / wanted[:, there]).sum(axis=1)
        last = left[there] <= empty.sum(axis=0)
        part = np.lexsort([worse, (last & ~empty).sum(axis=1)])[0]
        found[members[one]] = part
        have[part, there] += n
        left[there] -= 1
    alone = sizes[group] == 1
    for one in range(len(counts)):
        images = random.permutation(np.flatnonzero(alone & (label == one)))
        found[images] = np.repeat(np.arange(len(shares)), _filling(have[:, one], wanted[:, one], len(images)))
    return found


def _filling(have: NDArray[np.float64], wanted: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """How many of `n` images each part gets: it comes near what is wanted, and none stays empty if that can be."""
    room = np.maximum(wanted - have, 0.0)
    ideal = room * (n / room.sum()) if room.sum() else np.full(len(have), n / len(have))
    given = np.floor(ideal).astype(np.int64)
    given[np.argsort(given - ideal, kind="stable")[: n - given.sum()]] += 1
    for part in np.flatnonzero(have + given == 0):
        donor = int(np.argmax(given))
        if given[donor] + have[donor] > 1 and given[donor]:
            given[donor] -= 1
            given[part] += 1
    return given

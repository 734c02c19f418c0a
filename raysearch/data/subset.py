"""A part of the training images, always the same one: a fraction, of which smaller ones are parts, or one of several
disjoint subsets.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.listing import Listing, Reader, some
from raysearch.data.split import parts
from raysearch.errors import InputError

_STREAM = 1_000_003  # of random numbers that no split uses


@dataclass(frozen=True)
class Thinning:
    """How many of the training images are taken.

    Attributes:
        fraction: of them, in (0, 1]: of every class, and whole groups.
        subsets: disjoint ones that they are cut into first, of which one is taken.
        subset: which, from 0.
    """

    fraction: float = 1.0
    subsets: int = 1
    subset: int = 0

    def __bool__(self) -> bool:
        return self.fraction < 1 or self.subsets > 1

    @staticmethod
    def of(fraction: float | None, subsets: int | None, subset: int | None) -> Thinning:
        """What --fraction, --subsets and --subset say.

        Raises:
            InputError: one is out of range, or one of the last two is missing; all problems together.
        """
        problems = []
        if fraction is not None and not 0 < fraction <= 1:
            hint = f"; {fraction:g} % is {fraction / 100:g}" if 1 < fraction <= 100 else ""
            problems.append(f"--fraction {fraction:g}: must be above 0, and at most 1{hint}")
        if (subsets is None) != (subset is None):
            given, other = ("--subsets", "--subset") if subset is None else ("--subset", "--subsets")
            problems.append(f"{given} needs {other}: --subsets 6 --subset 0 is the first of six")
        elif subsets is not None and subset is not None:
            if subsets < 1:
                problems.append(f"--subsets {subsets}: must be at least 1")
            elif not 0 <= subset < subsets:
                problems.append(f"--subset {subset}: of {subsets} there are 0 to {subsets - 1}")
        if problems:
            raise InputError(problems)
        return Thinning(1.0 if fraction is None else fraction, subsets or 1, subset or 0)

    def told(self) -> str:
        """Which part it is, e.g. "10 % of subset 2 of 6"."""
        share = f"{self.fraction:.10g}" if self.fraction < 0.001 else f"{100 * self.fraction:.4g} %"
        which = f"subset {self.subset} (from 0) of {self.subsets}"
        if self.subsets == 1:
            return share
        return which if self.fraction == 1 else f"{share} of {which}"


ALL = Thinning()


def taken(
    thin: Thinning, labels: NDArray[np.int64], seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Which training images are taken, shape (n,).

    A smaller fraction's are among a larger one's. Each class has its share to within one image, or as near as whole
    groups come, and at least one image (or group).

    Args:
        thin: how many.
        labels: of the training images, shape (n,).
        seed: of the shuffles.
        groups: a number that images have in common which must not be parted, shape (n,); None: all differ.
    """
    kept = np.ones(len(labels), bool)
    if thin.subsets > 1:
        kept = parts(labels, thin.subsets, seed, groups) == thin.subset
    here = np.flatnonzero(kept)
    if thin.fraction < 1 and len(here):
        numbers = np.arange(len(labels)) if groups is None else groups
        kept[here] = _moments(labels[here], numbers[here], seed) < thin.fraction
    return kept


def _moments(labels: NDArray[np.int64], groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """The fraction above which each image is taken, in [0, 1), shape (n,): groups in a shuffled order, class by class.

    A group counts to the class that it has most images of.
    """
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    pairs, n = np.unique(np.stack([group, labels]), axis=1, return_counts=True)
    order = np.lexsort([-n, pairs[0]])
    main = pairs[1][order][np.unique(pairs[0][order], return_index=True)[1]]
    moments = np.zeros(len(sizes))
    for label in np.unique(main):
        mine = np.random.default_rng([seed, _STREAM, int(label)]).permutation(np.flatnonzero(main == label))
        ends = np.cumsum(sizes[mine])
        moments[mine] = (ends - sizes[mine] / 2) / ends[-1]
    for label in np.unique(labels):  # none goes without
        of_label = pairs[0][pairs[1] == label]
        moments[of_label[np.argmin(moments[of_label])]] = 0.0
    return moments[group]


def thinned(listing: Listing, thin: Thinning, seed: int) -> Listing:
    """The listing with the part of its training images that is taken; the other splits are as they were.

    Raises:
        InputError: a class has no image in that part.
    """
    train = np.flatnonzero(listing.splits == "train")
    groups = None if listing.groups is None else listing.groups[train]
    kept = taken(thin, listing.labels[train], seed, groups)
    absent = [listing.classes[k] for k in np.setdiff1d(listing.labels[train], listing.labels[train[kept]])]
    if absent:
        raise InputError(
            f"{listing.source}: {thin.told()} has no training images of {some(absent)}; take fewer --subsets."
        )
    rows = np.setdiff1d(np.arange(len(listing)), train[~kept])
    note = (
        f"Of the training images {thin.told()} is taken, {kept.sum():,} of {len(train):,}, class by class"
        f"{' and in whole groups' * (groups is not None)} (seed {seed}); validation and test images are all there."
    )
    return replace(
        listing,
        paths=tuple(listing.paths[row] for row in rows),
        labels=listing.labels[rows],
        splits=listing.splits[rows],
        reader=ChosenReader(listing.reader, rows),
        account=listing.account.adding(notes=[note]),
        groups=None if listing.groups is None else listing.groups[rows],
        group_names=None if listing.group_names is None else tuple(listing.group_names[row] for row in rows),
    )


class ChosenReader:
    """Some of the images that another reader reads."""

    def __init__(self, reader: Reader, rows: NDArray[np.int64]) -> None:
        self._reader, self._rows = reader, rows

    def read(self, position: int) -> bytes | NDArray[np.generic] | Image.Image:
        """The image at a position among the chosen ones."""
        return self._reader.read(int(self._rows[position]))

    def fingerprint(self) -> str:
        """Digest of the whole and of what is chosen."""
        return hashlib.sha256(json.dumps([self._reader.fingerprint(), self._rows.tolist()]).encode()).hexdigest()

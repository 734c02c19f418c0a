"""Parts of a set of images with each class's share in each: what cross-validation holds out, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raysearch.data.split import together
from raysearch.errors import InputError


def check_folds(folds: int, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Refuses a number of folds that the training images (integer labels, shape (n,)) cannot be parted into.

    Raises:
        InputError: fewer than two folds, or a class with fewer images than folds.
    """
    if folds < 2:
        raise InputError(f"cross-validation needs at least 2 folds, got {folds=}")
    counts = np.bincount(np.asarray(labels), minlength=len(classes)).tolist()
    few = {name: count for name, count in zip(classes, counts, strict=True) if count < folds}
    if few:
        listed = ", ".join(f"{name} has {count}" for name, count in few.items())
        fewest = min(few.values())
        advice = f"give more images, or at most {fewest} folds" if fewest > 1 else "give more images, or no folds"
        raise InputError(f"{folds} folds need {folds} training images of every class, {listed}: {advice}")


def stratified_folds(
    folds: int, labels: np.ndarray, seed: int, copies: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The images (indices, ascending) that each fold trains on, and those that it holds out.

    Each image is held out once, and each fold has each class's share of it, to one image; but copies of an image are in
    the fold of the first, so that none is held out that was trained on.

    Args:
        folds: how many.
        labels: integer, shape (n,).
        seed: of the shuffle.
        copies: a number that images have in common whose pixels are the same, shape (n,); None: all differ.
    """
    from sklearn.model_selection import StratifiedKFold  # a second to import, and most searches have no folds

    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    found = list(splitter.split(np.zeros(len(labels)), labels))
    if copies is None or len(np.unique(copies)) == len(copies):
        return found
    home = np.empty(len(labels), np.int64)
    for number, (_, held_out) in enumerate(found):
        home[held_out] = number
    home = together(home, copies)
    return [(np.flatnonzero(home != number), np.flatnonzero(home == number)) for number in range(folds)]

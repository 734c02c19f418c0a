"""Parts of a set of images with each class's share in each: what cross-validation holds out, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raysearch.data.split import cut, has_groups
from raysearch.errors import InputError


def most_folds(labels: np.ndarray, classes: int, groups: np.ndarray | None = None) -> np.ndarray:
    """How many folds images of each class can be in, shape (classes,): as many as there are images, or groups.

    Args:
        labels: integer, shape (n,).
        classes: their number.
        groups: as of `stratified_folds`.
    """
    numbers = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    return np.bincount(np.unique(np.stack([np.asarray(labels), numbers]), axis=1)[0], minlength=classes)


def check_folds(folds: int, labels: np.ndarray, classes: Sequence[str], groups: np.ndarray | None = None) -> None:
    """Refuses a number of folds that the training images cannot be parted into.

    Args:
        folds: how many.
        labels: of the training images, integer, shape (n,).
        classes: their names.
        groups: as of `stratified_folds`.

    Raises:
        InputError: fewer than two folds, or a class with fewer images (or groups) than folds.
    """
    if folds < 2:
        raise InputError(f"cross-validation needs at least 2 folds, got {folds=}")
    counts = most_folds(labels, len(classes), groups).tolist()
    what = "groups" if has_groups(groups) else "images"
    few = {name: count for name, count in zip(classes, counts, strict=True) if count < folds}
    if few:
        listed = ", ".join(f"{name} has {count}" for name, count in few.items())
        fewest = min(few.values())
        advice = f"give more {what}, or at most {fewest} folds" if fewest > 1 else f"give more {what}, or no folds"
        raise InputError(f"{folds} folds need {folds} training {what} of every class, {listed}: {advice}")


def stratified_folds(
    folds: int, labels: np.ndarray, seed: int, groups: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The images (indices, ascending) that each fold trains on, and those that it holds out.

    Each image is held out once, and each fold has each class's share of it, to one image. With groups none is held out
    that was trained on, and the shares are as near as whole groups come.

    Args:
        folds: how many.
        labels: integer, shape (n,).
        seed: of the shuffle.
        groups: a number that images have in common which must not be parted, shape (n,); None: all differ.
    """
    if has_groups(groups):
        assert groups is not None
        home = cut(np.asarray(labels), groups, [1 / folds] * folds, seed)
        return [(np.flatnonzero(home != number), np.flatnonzero(home == number)) for number in range(folds)]
    from sklearn.model_selection import StratifiedKFold  # a second to import, and most searches have no folds

    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    return list(splitter.split(np.zeros(len(labels)), labels))

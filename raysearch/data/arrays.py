"""A MedMNIST-style .npz: train_images, train_labels, and the same for val and test where given.

Splits may be called as folders of splits are (`valid_images`), and the arrays as Keras does (`x_train`, `y_train`);
where nothing is split, `images` and `labels`, or `x` and `y`, will do.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.account import Account
from raysearch.data.files import digest_files
from raysearch.data.listing import SPLITS, Found, some
from raysearch.data.split_names import split_name
from raysearch.errors import InputError

_NAMES = "class_names"
"""Optional array of class names, by label number; MedMNIST has none, its classes are called 0, 1, …"""

_WHAT = {"images": "images", "image": "images", "x": "images", "labels": "labels", "label": "labels", "y": "labels"}
"""Words of arrays' names."""


class ArrayReader:
    """Images that are already pixels."""

    def __init__(self, images: list[NDArray[np.generic]], file: Path) -> None:
        self._images = images
        self._file = file
        self._starts = np.cumsum([0, *(len(part) for part in images)])

    def read(self, position: int) -> NDArray[np.generic]:
        """One image, shape (h, w) or (h, w, channels)."""
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        image: NDArray[np.generic] = self._images[part][position - self._starts[part]]
        return image

    def fingerprint(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(digest_files([self._file])[0].encode()).hexdigest()


def find_in_arrays(file: Path) -> Found:
    """The images of a .npz.

    Raises:
        InputError: missing arrays, shapes or types that are not images, lengths that differ, and targets that are not
            single labels: all of them together.
    """
    try:
        with np.load(file, allow_pickle=False) as opened:
            keys = _keys(file, opened.files)
            arrays = {meant: opened[name] for meant, name in keys.items()}
            others = [name for name in opened.files if name not in keys.values()]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} cannot be read as a .npz of plain arrays ({error}).") from error
    present = [split for split in SPLITS if f"{split}_images" in arrays or f"{split}_labels" in arrays]
    if "train" not in present:
        raise InputError(
            f"{file} must hold train_images and train_labels (and, if it has them, val_images, val_labels, "
            f"test_images, test_labels), got {', '.join([*arrays, *others]) or 'nothing'}."
        )
    problems: list[str] = []
    images, labels, splits, paths = [], [], [], []
    for split in present:
        pair = [arrays.get(f"{split}_{what}") for what in ("images", "labels")]
        if pair[0] is None or pair[1] is None:
            absent = "images" if pair[0] is None else "labels"
            problems.append(f"{file}: {split}_{absent} is missing beside its other half.")
            continue
        found = [*_image_problems(split, pair[0]), *_label_problems(split, pair[1])]
        if not found and len(pair[0]) != len(pair[1]):
            found = [f"{split} has {len(pair[0])} images but {len(pair[1])} labels."]
        problems += [f"{file}: {problem}" for problem in found]
        if not found:
            images.append(pair[0])
            labels += _as_classes(pair[1])
            splits += [split] * len(pair[0])
            paths += [f"{split}/{position}" for position in range(len(pair[0]))]
    if problems:
        raise InputError(problems)
    classes = None
    if _NAMES in arrays and not all(label.isdigit() for label in labels):
        others.append(_NAMES)  # the labels are names themselves
    elif _NAMES in arrays:
        classes = [str(name) for name in arrays[_NAMES].reshape(-1)]
        if max(map(int, labels)) >= len(classes):
            raise InputError(f"{file}: {_NAMES} has {len(classes)} names but labels go up to {max(map(int, labels))}.")
        labels = [classes[int(label)] for label in labels]
    account = Account(
        f"{len(set(labels))} classes in the arrays of {', '.join(present)} of {file.name}.",
        not_read=(f"the array{'s' * (len(others) > 1)} {some(others, 10)} of {file.name}",) if others else (),
    )
    return Found(paths, labels, splits, ArrayReader(images, file), classes, account=account)


def _keys(file: Path, names: Sequence[str]) -> dict[str, str]:
    """The name in the file of each array that is read, by the name that this program calls it, e.g. val_images.

    Raises:
        InputError: two arrays are the same one by their names.
    """
    found: dict[str, str] = {}
    for name in names:
        meant = _NAMES if name == _NAMES else _meant(name)
        if meant is None:
            continue
        if meant in found:
            raise InputError(f"{file} holds {found[meant]} and {name}, which are both {meant}: take one away.")
        found[meant] = name
    if not any(meant.endswith("_images") for meant in found):
        for images, labels in (("images", "labels"), ("x", "y")):
            bare = {name.lower(): name for name in names}
            if {images, labels} <= bare.keys():
                return found | {"train_images": bare[images], "train_labels": bare[labels]}
    return found


def _meant(name: str) -> str | None:
    """val_images for `valid_images`, `x_val` and `images_val`, test_labels for `y_test`, …; None for other names."""
    first, _, last = name.lower().rpartition("_")
    for what, where in ((last, first), (first, last)):
        if what in _WHAT and (split := split_name(where)):
            return f"{split}_{_WHAT[what]}"
    return None


def _image_problems(split: str, images: NDArray[np.generic]) -> list[str]:
    problems = []
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3, 4))):
        first = images.ndim == 4 and images.shape[1] in (1, 3, 4)
        why = (
            "its channels come first: turn it by images.transpose(0, 2, 3, 1)"
            if first
            else "volumes and video are not supported"
        )
        problems.append(
            f"{split}_images must have the shape (n, h, w) or (n, h, w, 1, 3 or 4), got {images.shape}; {why}."
        )
    if images.dtype.kind not in "buif":
        problems.append(f"{split}_images must be whole numbers (such as uint8) or fractions, got {images.dtype}.")
    return problems


def _is_one_hot(labels: NDArray[np.generic]) -> bool:
    """Whether each row has a single 1, and nothing but zeros beside it."""
    return (
        labels.ndim == 2
        and labels.shape[1] > 1
        and labels.dtype.kind in "biuf"
        and bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())
    )


def _as_classes(labels: NDArray[np.generic]) -> list[str]:
    """The class of each image: a word, a number, or the place of the single 1 in its row."""
    if labels.dtype.kind == "U":
        return [str(label).strip() for label in labels]
    numbers = labels.argmax(axis=1) if _is_one_hot(labels) else labels.reshape(-1)
    return [str(int(label)) for label in numbers]


def _label_problems(split: str, labels: NDArray[np.generic]) -> list[str]:
    if labels.dtype.kind == "U" and labels.ndim == 1:
        return [f"{split}_labels has {count} empty labels."] if (count := int((labels == "").sum())) else []
    if labels.ndim > 2 or (labels.ndim == 2 and labels.shape[1] > 1 and not _is_one_hot(labels)):
        return [
            f"{split}_labels is multi-label, shape {labels.shape}: only single-label classification is supported, "
            "shape (n,) or (n, 1)."
        ]
    if labels.dtype.kind not in "biuf":
        return [f"{split}_labels must be numbers, got {labels.dtype}."]
    values = labels.astype(np.float64)
    if labels.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        return [
            f"{split}_labels looks like regression, {labels.dtype} with fractions: only classification is supported, "
            "whole numbers from 0."
        ]
    if values.size and values.min() < 0:
        return [f"{split}_labels must be whole numbers from 0, got {int(values.min())}."]
    return []

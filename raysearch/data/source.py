"""From what a person types as SOURCE to a checked listing of images, labels and splits."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.arrays import find_in_arrays
from raysearch.data.folders import find_in_folder, find_in_zip
from raysearch.data.listing import SPLITS, Found, Listing, class_order, some
from raysearch.data.manifest import find_in_manifest
from raysearch.data.named import BUNDLED, TORCHVISION, canonical_name, find_named
from raysearch.data.split import fill_splits, missing_splits
from raysearch.errors import InputError

log = logging.getLogger(__name__)

_FILES = {".zip": find_in_zip, ".csv": find_in_manifest, ".npz": find_in_arrays}


def list_source(source: str, *, seed: int = 0) -> Listing:
    """List and check a source: a folder, .zip, .csv or .npz, or a name (`cifar10-mini` is bundled).

    Args:
        source: a path, which wins, or a name.
        seed: of the splits that the source does not give.

    Returns:
        every image with its label and split.

    Raises:
        InputError: the source cannot be used; every problem found, together.
    """
    found = _find(source)
    if found.skipped:
        log.warning("%s: %d images are not in a class folder and are left out", source, len(found.skipped))
    given = np.asarray(found.splits, dtype="<U5")
    classes = class_order(found.labels) if found.classes is None else tuple(found.classes)
    number = {name: position for position, name in enumerate(classes)}
    labels = np.array([number[label] for label in found.labels], dtype=np.int64)
    problems = _problems(source, classes, labels, given)
    if problems:
        raise InputError(problems)
    splits = fill_splits(given, labels, seed)
    return Listing(source, classes, tuple(found.paths), labels, splits, found.reader, found.skipped)


def _find(source: str) -> Found:
    path = Path(source).expanduser()
    if not source.strip():
        raise InputError("The source of the images is empty: give a folder, .zip, .csv, .npz or a name.")
    if path.is_dir():
        return find_in_folder(path)
    if path.is_file():
        find = _FILES.get(path.suffix.lower())
        if find is None:
            raise InputError(f"{source} is a file of no known kind: give a folder, .zip, .csv or .npz.")
        return find(path)
    name = canonical_name(source)
    if name is not None:
        return find_named(name)
    known = [*BUNDLED, *TORCHVISION]
    near = difflib.get_close_matches(source.lower(), known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Names are: {', '.join(known)}."
    raise InputError(f"{source} is no folder, no file and no known name. {hint}")


def _problems(source: str, classes: tuple[str, ...], labels: NDArray[np.int64], splits: NDArray[np.str_]) -> list[str]:
    """Everything that keeps labelled images from being split and learnt."""
    counts = {name: np.bincount(labels[splits == name], minlength=len(classes)) for name in ("", *SPLITS)}
    problems = []
    present = np.unique(labels)
    if len(present) < 2:
        only = f"only the class {classes[int(present[0])]}" if len(present) else "no images"
        problems.append(f"{source} has {only}: at least two classes are needed.")
    given = [name for name in SPLITS if counts[name].any()]
    pool = counts[""] + counts["train"]
    if not pool.any():
        problems.append(f"{source} has {' and '.join(given) or 'nothing'} but no training images.")
        return problems
    for name in given:
        if name != "train":
            problems += _difference(source, classes, pool, counts[name], name)
    empty = [classes[k] for k in np.flatnonzero(~np.isin(np.arange(len(classes)), present))]
    if empty:
        problems.append(f"{source} has no images of {some(empty)}.")
    missing = missing_splits(splits)
    few = [f"{classes[k]} ({pool[k]})" for k in np.flatnonzero((pool > 0) & (pool <= len(missing)))]
    if missing and few:
        problems.append(
            f"{source}: {some(few)} has fewer images than the {len(missing) + 1} splits that they must fill "
            f"(train, {', '.join(missing)})."
        )
    return problems


def _difference(
    source: str, classes: tuple[str, ...], train: NDArray[np.int64], other: NDArray[np.int64], name: str
) -> list[str]:
    absent = [classes[k] for k in np.flatnonzero((train > 0) & (other == 0))]
    extra = [classes[k] for k in np.flatnonzero((train == 0) & (other > 0))]
    parts = [f"{name} lacks {some(absent)}"] * bool(absent) + [f"only {name} has {some(extra)}"] * bool(extra)
    return [f"{source}: the labels of train and {name} differ: {'; '.join(parts)}."] if parts else []

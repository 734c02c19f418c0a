"""Makes a checked listing of images, labels and splits of what a person types as SOURCE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.account import Account, Doubt
from raysearch.data.finders import find
from raysearch.data.groups import leaks, names_in_paths, numbered, told
from raysearch.data.labels import unify
from raysearch.data.listing import SPLITS, Grouping, Listing, class_order, some
from raysearch.data.reading import AS_IT_IS, Reading
from raysearch.data.shards import is_pattern
from raysearch.data.split import FRACTION, fill_if_enough, fill_splits, missing_splits
from raysearch.data.subset import thinned
from raysearch.data.suspected_groups import suspicions
from raysearch.errors import InputError


def list_source(source: str, *, seed: int = 0, measuring: bool = False, reading: Reading = AS_IT_IS) -> Listing:
    """List and check a source: see `raysearch.data.finders.KINDS`; of the names, `cifar10-mini` is bundled.

    Args:
        source: a path, which wins, a pattern of paths, or a name.
        seed: of the splits that the source does not give.
        measuring: whether a finished classifier is measured on it, which asks for less: one class will do, and so will
            test images alone. Images that are too few to be split are all in train.
        reading: the columns of a table, and where its images lie, if it does not say them itself; which images belong
            together; how many of the training images are taken (all of them where it is measured).

    Returns:
        every image with its label and split.

    Raises:
        InputError: the source cannot be used; every problem found, together.
    """
    found = find(source, reading)
    given = np.asarray(found.splits, dtype="<U5")
    spelt, doubts = (found.labels, []) if found.classes is not None else unify(found.labels, found.splits)
    classes = class_order(spelt) if found.classes is None else tuple(found.classes)
    number = {name: position for position, name in enumerate(classes)}
    labels = np.array([number[label] for label in spelt], dtype=np.int64)
    account = _recounted(found.account, found.labels, spelt).adding(doubts=doubts)
    grouping = found.groups
    if reading.group_by is not None:
        names = names_in_paths(reading.group_by, found.paths, must_match=not measuring)
        grouping = Grouping(f"--group-by {reading.group_by}", names)
    if grouping is not None and not any(grouping.names):
        grouping = None
    groups = None if grouping is None else numbered(grouping.names)
    if not measuring:
        problems, odd = _problems(source, classes, labels, given, groups)
        if problems:
            raise InputError([*problems, *(doubt.line() for doubt in found.account.doubts)])
        account = account.adding(doubts=odd, notes=_cut(given, seed))
        splits = fill_splits(given, labels, seed, groups)
        if grouping is not None:
            notes, odd = _of_groups(source, grouping, classes, labels, given, splits)
            account = account.adding(doubts=odd, notes=notes)
        else:
            account = account.adding(doubts=suspicions(found, labels, splits))
    else:
        splits = fill_if_enough(given, labels, seed, groups)
    listing = Listing(
        source,
        classes,
        tuple(found.paths),
        labels,
        splits,
        found.reader,
        found.skipped,
        account,
        groups,
        None if grouping is None else tuple(grouping.names),
    )
    return listing if measuring or not reading.thin else thinned(listing, reading.thin, seed)


def _of_groups(
    source: str,
    grouping: Grouping,
    classes: tuple[str, ...],
    labels: NDArray[np.int64],
    given: NDArray[np.str_],
    splits: NDArray[np.str_],
) -> tuple[list[str], list[Doubt]]:
    """What is said of groups: how many, how near the splits came to their shares, and which were parted before.

    Raises:
        InputError: whole groups leave a class without training images.
    """
    odd = leaks(grouping.what, grouping.names, given)
    for name in ("train", *missing_splits(given)):
        absent = [classes[k] for k in np.setdiff1d(labels, labels[splits == name])]
        if absent and name == "train":
            raise InputError(
                f"{source}: with groups whole ({grouping.what}) no image of {some(absent)} is left to train on. Give "
                "more groups of that class, or leave the groups out."
            )
        if absent:
            odd.append(_lacking(name, absent))
    return told(grouping.what, grouping.names, given, splits, labels), odd


def _recounted(account: Account, labels: Sequence[str], spelt: Sequence[str]) -> Account:
    """The account, whose reading says how many classes there are, when their spellings have been joined."""
    told, now = (f"{len(set(one))} classes" for one in (labels, spelt))
    if told == now or not account.reading.startswith(told):
        return account
    return replace(account, reading=account.reading.replace(told, now, 1))


def in_full(source: str) -> str:
    """What names the same source from anywhere: the whole path of folders or files, any other name as it is."""
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() or is_pattern(source) else source


def _cut(splits: NDArray[np.str_], seed: int) -> list[str]:
    """What is said of splits that the source does not give."""
    missing = missing_splits(splits)
    if not missing:
        return []
    told = " and ".join(f"{FRACTION:.0%} {name}" for name in missing)
    return [f"Not given, so cut from the training images, class by class: {told} (seed {seed})."]


def _problems(
    source: str,
    classes: tuple[str, ...],
    labels: NDArray[np.int64],
    splits: NDArray[np.str_],
    groups: NDArray[np.int64] | None = None,
) -> tuple[list[str], list[Doubt]]:
    """Everything that keeps labelled images from being split and learnt; and what is odd, but can be."""
    counts = {name: np.bincount(labels[splits == name], minlength=len(classes)) for name in ("", *SPLITS)}
    problems: list[str] = []
    doubts: list[Doubt] = []
    present = np.unique(labels)
    if len(present) < 2:
        only = f"only the class {classes[int(present[0])]}" if len(present) else "no images"
        problems.append(f"{source} has {only}: at least two classes are needed.")
    given = [name for name in SPLITS if counts[name].any()]
    pool = counts[""] + counts["train"]
    if not pool.any():
        problems.append(f"{source} has {' and '.join(given) or 'nothing'} but no training images.")
        return problems, doubts
    for name in given:
        if name != "train":
            extra = [classes[k] for k in np.flatnonzero((pool == 0) & (counts[name] > 0))]
            absent = [classes[k] for k in np.flatnonzero((pool > 0) & (counts[name] == 0))]
            if extra:
                problems.append(
                    f"{source}: the labels of train and {name} differ: only {name} has {some(extra)}. Add training "
                    f"images of that class, or take its images out of {name}."
                )
            if absent:
                doubts.append(_lacking(name, absent))
    empty = [classes[k] for k in np.flatnonzero(~np.isin(np.arange(len(classes)), present))]
    if empty:
        problems.append(f"{source} has no images of {some(empty)}.")
    missing = missing_splits(splits)
    what, counted = "images", pool
    if groups is not None:
        free = (splits == "") | (splits == "train")
        what, counted = "groups", np.array([len(np.unique(groups[free & (labels == k)])) for k in range(len(classes))])
    few = [f"{classes[k]} ({counted[k]})" for k in np.flatnonzero((pool > 0) & (counted <= len(missing)))]
    if missing and few:
        have = "has" if len(few) == 1 else "have"
        problems.append(
            f"{source}: {some(few)} {have} fewer {what} than the {len(missing) + 1} splits that they must fill "
            f"(train, {', '.join(missing)})."
        )
    return problems, doubts


def _lacking(split: str, absent: list[str]) -> Doubt:
    """A split that the source gives, without images of some classes."""
    told = "nothing is known of how well it does on them" if split == "test" else "they have no say in what is chosen"
    return Doubt(
        f"{split} lacks {some(absent)}: {told}.",
        f"Put images of that class into {split}, or take {split} away to have it cut from train.",
    )

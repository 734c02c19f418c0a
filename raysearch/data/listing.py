"""What a SOURCE holds, before any pixel is read: image names, labels, splits, and a reader for the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.account import Account

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    path: str
    reason: str


class Reader(Protocol):
    """Reads a source's images; safe to call from several threads."""

    def read(self, position: int) -> bytes | NDArray[np.generic] | Image.Image:
        """The image at a position of the listing, as `decode` takes it."""
        ...

    def fingerprint(self) -> str:
        """A digest of every image's content, in the listing's order."""
        ...


@dataclass(frozen=True)
class Listing:
    """A source's images in a fixed order.

    Attributes:
        source: as it was given.
        classes: label number to class name.
        paths: each image's name within the source, shape (n,).
        labels: int64, shape (n,).
        splits: train, val or test, shape (n,).
        reader: position to image.
        skipped: files that are not part of it, with reasons.
        account: what the source was taken as, and what looks odd in it.
        groups: a number that images have in common which belong together, shape (n,); None: all stand alone.
        group_names: what the source calls their groups, "" for none, shape (n,); None: all stand alone.
    """

    source: str
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    reader: Reader
    skipped: tuple[Skipped, ...] = ()
    account: Account = field(default_factory=Account)
    groups: NDArray[np.int64] | None = None
    group_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per split and class."""
        return {
            split: dict(
                zip(
                    self.classes,
                    np.bincount(self.labels[self.splits == split], minlength=len(self.classes)).tolist(),
                    strict=True,
                )
            )
            for split in SPLITS
        }


@dataclass(frozen=True)
class Grouping:
    """Which images belong together."""

    what: str
    """That says it, e.g. "the column patient_id of scans.csv"."""
    names: Sequence[str]
    """Of each image's group; "" for none."""


@dataclass(frozen=True)
class Found:
    """What one kind of source found: class names per image, and splits where the source says them ("" where not)."""

    paths: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[str]
    reader: Reader
    classes: Sequence[str] | None = None
    """The order of the classes where the source defines it; else natural order of the labels."""
    skipped: tuple[Skipped, ...] = ()
    account: Account = field(default_factory=Account)
    groups: Grouping | None = None
    """The images that the person keeps together."""
    suspected: Grouping | None = None
    """Images that may belong together, by a column or folders that nobody named."""


def class_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Distinct labels, sorted; as numbers if all of them are whole numbers."""
    distinct = set(labels)
    if all(label.isascii() and label.isdigit() for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are, for a message."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"

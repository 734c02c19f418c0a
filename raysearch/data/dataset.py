"""A decoded source as arrays: what `load` returns and every trial maps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.account import Account
from raysearch.data.listing import SPLITS, Skipped
from raysearch.data.pixel_notes import PixelNotes
from raysearch.data.selection import Pixels, Selection
from raysearch.data.split import parts
from raysearch.errors import InputError

BETWEEN_PLACES = "\0"
"""What stands between the folders of one dataset in several sizes; no path has it."""


@dataclass(frozen=True, eq=False)
class Split:
    """Some images in an order: what is trained on, or validated on, or a fold of either.

    `take` and `join` give splits whose pixels stay where they are: they are views by index, which cost a few bytes an
    image, and reading a batch from one touches the images of that batch alone.
    """

    pixels: Pixels
    """uint8 RGB (n, s, s, 3): of a split that was loaded, a read-only memory map."""
    labels: NDArray[np.int64]
    """Classes by number, (n,)."""
    paths: tuple[str, ...]
    """Each image's name within its source, n of them."""
    groups: NDArray[np.int64] | None = None
    """A number that images have in common which must not be parted, (n,): those that a person's groups tie together, or
    the same pixels; None: nobody has looked."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.integer]) -> Split:
        """The images of these indices, in this order, as a view.

        Raises:
            IndexError: there is no such image.
        """
        chosen = Selection.of(self.pixels).take(indices)
        groups = None if self.groups is None else self.groups[indices]
        return Split(chosen, self.labels[indices], tuple(self.paths[i] for i in indices), groups)

    @staticmethod
    def join(*splits: Split) -> Split:
        """The images of all splits, split after split, as a view.

        Raises:
            ValueError: the images differ in size.
        """
        groups = [split.groups for split in splits if split.groups is not None]
        return Split(
            Selection.join([split.pixels for split in splits]),
            np.concatenate([split.labels for split in splits]),
            tuple(path for split in splits for path in split.paths),
            np.concatenate(groups) if len(groups) == len(splits) else None,
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A source, decoded and split. `fingerprint` identifies every pixel, label and split; `folder` holds the files."""

    source: str
    classes: tuple[str, ...]
    image_size: int
    fit: str
    fingerprint: str
    train: Split
    val: Split
    test: Split
    skipped: tuple[Skipped, ...]
    folder: Path
    notes: PixelNotes = field(default_factory=PixelNotes)
    account: Account = field(default_factory=Account)
    others: Mapping[int, Dataset] = field(default_factory=dict)
    """The same images in other sizes, by pixels."""

    def at(self, size: int) -> Dataset:
        """The images in one of the sizes that there are.

        Raises:
            InputError: they were not decoded in that size.
        """
        if size not in self.sizes:
            sizes = ", ".join(map(str, self.sizes))
            raise InputError(f"there are no images of {size} px: the data was loaded at {sizes} px")
        return self.sizes[size]

    @property
    def sizes(self) -> dict[int, Dataset]:
        """The images in every size that there is, by pixels, its own first."""
        return {self.image_size: self, **self.others}

    @property
    def place(self) -> str:
        """Where the images are, in all sizes, as `open_all` takes it."""
        return BETWEEN_PLACES.join(str(one.folder) for one in self.sizes.values())

    def with_sizes(self, others: Iterable[Dataset]) -> Dataset:
        """The dataset with its own images in other sizes.

        Args:
            others: the source in other sizes, with copies of test images: which of them leave is told by pixels.

        Raises:
            InputError: another size lacks some of the images.
        """
        return replace(self, others={one.image_size: self._aligned(one) for one in others})

    def _aligned(self, other: Dataset) -> Dataset:
        """Another size with these very images, in this order."""
        found: list[Split] = []
        for name, split in self.splits.items():
            row = {path: number for number, path in enumerate(other.splits[name].paths)}
            if lacking := [path for path in split.paths if path not in row]:
                raise InputError(
                    f"{self.source}: {len(lacking)} images that are there at {self.image_size} px are not at "
                    f"{other.image_size} px, e.g. {lacking[0]}"
                )
            taken = other.splits[name].take(np.array([row[path] for path in split.paths], np.int64))
            found.append(replace(taken, groups=split.groups))
        train, val, test = found
        return replace(other, train=train, val=val, test=test)

    def with_val_trained(self) -> Dataset:
        """The dataset with its validation images among the training images too, behind them."""
        others = {size: one.with_val_trained() for size, one in self.others.items()}
        return replace(self, train=Split.join(self.train, self.val), others=others)

    @property
    def splits(self) -> dict[str, Split]:
        """Training, validation and test images by name, in this order."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def halved(self, seed: int) -> tuple[Dataset, Split]:
        """The dataset with half of its validation images, and the other half: stratified, and always the same.

        No group is in both, and no two copies of an image are. Both halves are views of the validation images.
        """
        half = parts(self.val.labels, 2, seed, self.val.groups)
        kept, other = (self.val.take(np.flatnonzero(half == which)) for which in (0, 1))
        return replace(self, val=kept, others={size: one.halved(seed)[0] for size, one in self.others.items()}), other

    @staticmethod
    def open_all(place: str) -> Dataset:
        """The images in all sizes, from their `place`.

        Raises:
            InputError: as `open`.
        """
        first, *others = (Dataset.open(Path(folder)) for folder in place.split(BETWEEN_PLACES))
        return first.with_sizes(others)

    @staticmethod
    def open(folder: Path) -> Dataset:
        """Map what `load` wrote; cheap, nothing is read but labels and names.

        Raises:
            InputError: the folder is not one that `load` wrote whole.
        """
        try:
            header = json.loads((folder / "dataset.json").read_text())
            splits = {
                name: Split(
                    np.load(folder / f"{name}.npy", mmap_mode="r"),
                    np.load(folder / f"{name}_labels.npy"),
                    tuple(header["paths"][name]),
                    np.load(folder / f"{name}_groups.npy"),
                )
                for name in SPLITS
            }
            return Dataset(
                header["source"],
                tuple(header["classes"]),
                header["image_size"],
                header["fit"],
                header["fingerprint"],
                splits["train"],
                splits["val"],
                splits["test"],
                tuple(Skipped(**one) for one in header["skipped"]),
                folder,
                PixelNotes.from_json(header["pixels"]),
                Account.from_json(header["account"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} does not hold decoded images ({error}); delete it, it is made again."
            ) from error

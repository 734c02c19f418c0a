"""A decoded source as arrays: what `load` returns and every trial maps."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.listing import SPLITS, Skipped
from raysearch.data.split import parts
from raysearch.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """One split's images: pixels uint8 RGB, a read-only memory map (n, s, s, 3); labels int64 (n,); paths (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """Some of the images, in this order; their pixels are copied."""
        return Split(self.pixels[indices], self.labels[indices], tuple(self.paths[i] for i in indices))


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

    def halved(self, seed: int) -> tuple[Dataset, Split]:
        """The dataset with half of its validation images, and the other half: stratified, and always the same."""
        half = parts(self.val.labels, 2, seed)
        kept, other = (self.val.take(np.flatnonzero(half == which)) for which in (0, 1))
        return replace(self, val=kept), other

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
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} does not hold decoded images ({error}); delete it, it is made again."
            ) from error

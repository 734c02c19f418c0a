"""A decoded source as arrays: what `load` returns and every trial maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.data.listing import SPLITS, Skipped
from raysearch.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """One split's images: pixels uint8 RGB, a read-only memory map (n, s, s, 3); labels int64 (n,); paths (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


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

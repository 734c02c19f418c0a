"""Augmented copies of images on the disk, for trainers that cannot augment: the very pixels of a search's views.

DIR/train/<class>/000012-cat7.png           training image 12 as a search decodes it
DIR/train/<class>/000012-cat7-view1.png     as the search sees it in its first epoch
DIR/val/…, DIR/test/…                       as they are
DIR/augmented.png                           a few of them, to look at
DIR/augment.json                            what was asked for: the same command goes on where it stopped
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Dataset, Split
from raysearch.data.names import readable
from raysearch.data.selection import evenly_spaced
from raysearch.data.sheet import sheet
from raysearch.errors import InputError
from raysearch.recipe import Augmentation
from raysearch.storage.files import replace_json, replace_with

SETTINGS, PREVIEW = "augment.json", "augmented.png"
_CHUNK = 16
_PREVIEW_IMAGES, _PREVIEW_VIEWS = 6, 7


@dataclass(frozen=True)
class Asked:
    """What decides the files, so that a folder holds those of one command.

    Attributes:
        fingerprint: of the images.
        copies: augmented copies of each training image.
        strength: in [0, 1].
        seed: of the views.
    """

    fingerprint: str
    copies: int
    strength: float
    seed: int


def check_folder(folder: Path, asked: Asked) -> None:
    """A folder may be new, empty, or have been begun with the same settings.

    Raises:
        InputError: it holds something else.
    """
    file = folder / SETTINGS
    if not file.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"--out {folder} is not empty, and no raysearch augment began it: give a new folder")
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}): give a new folder") from error
    differing = [name for name, value in asdict(asked).items() if before.get(name) != value]
    if differing:
        told = ", ".join(
            "the images" if name == "fingerprint" else f"{name} was {before.get(name)} and is {getattr(asked, name)}"
            for name in differing
        )
        raise InputError(f"--out {folder} holds copies made otherwise ({told}): give a new folder")


def write_copies(
    dataset: Dataset, folder: Path, asked: Asked, progress: Callable[[int], None] = lambda images: None
) -> int:
    """Write every image and the copies of the training images; what is there already is not made again.

    Args:
        dataset: as a search loads it.
        folder: as `check_folder` lets it pass.
        asked: copy k is view k - 1, which is what a search's first stage sees in its epoch k.
        progress: told of images that are done, each with its copies.

    Returns:
        how many files were written.

    Raises:
        OSError: the disk is full.
    """
    replace_json(folder / SETTINGS, asdict(asked))
    augment = Augmenter(Augmentation(), asked.strength, asked.seed)
    works = [
        (name, split, np.arange(at, min(at + _CHUNK, len(split))))
        for name, split in dataset.splits.items()
        for at in range(0, len(split), _CHUNK)
    ]
    folders = _folders(dataset.classes)

    def work(one: tuple[str, Split, NDArray[np.int64]]) -> tuple[int, int]:
        name, split, places = one
        files = [
            folder / name / folders[split.labels[place]] / f"{place:06d}-{_stem(split.paths[place])}"
            for place in places.tolist()
        ]
        views = range(asked.copies) if name == "train" else range(0)
        return sum(_write(split, places, files, view, augment) for view in (None, *views)), len(places)

    written = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for files, images in pool.map(work, works):
                written += files
                progress(images)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _write_preview(dataset, folder / PREVIEW, asked, augment)
    return written


def _write(split: Split, places: NDArray[np.int64], stems: list[Path], view: int | None, augment: Augmenter) -> int:
    """Write images as they are (view None) or in one view; how many were not there."""
    files = [stem.with_name(stem.name + ("" if view is None else f"-view{view + 1}") + ".png") for stem in stems]
    absent = np.array([not file.exists() for file in files])
    if not absent.any():
        return 0
    chosen = places[absent]
    pixels = np.asarray(split.pixels[chosen])
    if view is not None:
        pixels = augment(pixels, chosen, view)
    for file, image in zip((file for file, new in zip(files, absent, strict=True) if new), pixels, strict=True):
        replace_with(file, Image.fromarray(image).save)
    return len(chosen)


def _write_preview(dataset: Dataset, file: Path, asked: Asked, augment: Augmenter) -> None:
    """Rows of one training image each, as it is and in its first views."""
    train = dataset.train
    chosen = evenly_spaced(len(train), _PREVIEW_IMAGES)
    views = min(asked.copies, _PREVIEW_VIEWS)
    pixels = np.asarray(train.pixels[chosen])
    columns = [pixels, *(augment(pixels, chosen, view) for view in range(views))]
    rows = np.stack(columns, axis=1).reshape(-1, *pixels.shape[1:])
    names = [
        said
        for label in train.labels[chosen]
        for said in (dataset.classes[label], *(f"view {v + 1}" for v in range(views)))
    ]
    replace_with(file, sheet(rows, names, columns=views + 1).save)


def _folders(classes: tuple[str, ...]) -> list[str]:
    """A folder's name for each class: its own, as far as a folder may be called so."""
    made: list[str] = []
    for name in classes:
        safe = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", readable(name)).strip(". ") or "_"
        made.append(safe if safe not in made else f"{safe}_{len(made)}")
    return made


def _stem(path: str) -> str:
    """The last part of an image's name within its source, without its ending."""
    stem = PurePosixPath(readable(path).replace("\\", "/")).stem
    return re.sub(r"[^\w.\-]", "_", stem)[:80]

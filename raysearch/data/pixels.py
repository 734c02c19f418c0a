"""Images decoded and resized once into uint8 memory maps, kept in the cache by content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from raysearch.data.dataset import Dataset
from raysearch.data.decode import FITS, shorter_side
from raysearch.data.listing import Listing
from raysearch.data.reading import AS_IT_IS, Reading
from raysearch.data.selection import evenly_spaced
from raysearch.data.source import list_source
from raysearch.data.store import write
from raysearch.data.value_range import PixelRange
from raysearch.errors import FULL, InputError
from raysearch.storage.cache import cache_root

_FORMAT = 1
"""The version of the pixels, and so of the fingerprint; raise it when images of eight bits are decoded to others."""
_FOLDER = 3
"""The version of what is written beside the pixels: raise it, and what an older version wrote is made anew."""
_SAMPLE = 64
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 8, 4096


def load(
    source: str,
    *,
    image_size: int | None = None,
    fit: str = "squash",
    seed: int = 0,
    cache: Path | None = None,
    progress: bool = True,
    pixel_range: PixelRange | None = None,
    keep_copies: bool = False,
    measuring: bool = False,
    reading: Reading = AS_IT_IS,
) -> Dataset:
    """List, check, split and decode a source; what is in the cache already is only mapped.

    Args:
        source: see `list_source`.
        image_size: height and width, pixels; None: the median shorter side of a sample of the images, in [32, 224].
        fit: squash, crop or pad, for images that are not square.
        seed: of the splits that the source does not give.
        cache: folder for decoded images; None: `cache_root()`.
        progress: show a bar while decoding, on stderr.
        pixel_range: which values are black and white in images of more than eight bits; None: the source's own range.
        keep_copies: whether images of train and val stay that val or test has too.
        measuring: whether a finished classifier is measured on it: see `list_source`.
        reading: how its table is to be read: see `list_source`.

    Raises:
        InputError: bad source or settings, too many unreadable images, values without a range in common, or a cache
            that cannot be written or has too little space; all problems together.
        OSError: the disk became full on the way.
    """
    problems = []
    if image_size is not None and not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        problems.append(f"image size must be {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels, got {image_size}.")
    if fit not in FITS:
        problems.append(f"fit must be one of {', '.join(FITS)}, got {fit!r}.")
    try:
        listing = list_source(source, seed=seed, measuring=measuring, reading=reading)
    except InputError as error:
        raise InputError([*problems, *error.problems]) from error
    if problems:
        raise InputError(problems)
    dataset = decoded(
        listing,
        _natural_size(listing) if image_size is None else image_size,
        fit,
        cache=cache,
        progress=progress,
        pixel_range=pixel_range,
        keep_copies=keep_copies,
        measuring=measuring,
    )
    return replace(dataset, source=source, account=listing.account.with_decoded(dataset.account))


def decoded(
    listing: Listing,
    size: int,
    fit: str,
    *,
    cache: Path | None,
    progress: bool,
    pixel_range: PixelRange | None,
    keep_copies: bool = False,
    measuring: bool = False,
) -> Dataset:
    """Decode what is listed; what is in the cache already is only mapped. Arguments and errors as of `load`."""
    root = (cache_root() if cache is None else cache) / "pixels"
    try:
        root.mkdir(parents=True, exist_ok=True)
        fingerprint = _fingerprint(listing, size, fit)
        key = [_FOLDER, keep_copies, measuring, fingerprint, None if pixel_range is None else pixel_range.as_json()]
        folder = root / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        # The lock file stays: deleting it would let two processes hold two locks of the same name.
        with FileLock(root / f"{folder.name}.lock"):
            if not (folder / "dataset.json").exists():
                options = {"keep_copies": keep_copies, "measuring": measuring}
                write(listing, size, fit, fingerprint, folder, progress, pixel_range, **options)
    except OSError as error:
        if error.errno in FULL:
            raise
        reason = error.strerror or str(error)
        raise InputError(
            f"The cache {root.parent} cannot be written ({reason}); set RAYSEARCH_CACHE to a folder that can be."
        ) from error
    return Dataset.open(folder)


def _natural_size(listing: Listing) -> int:
    """The median shorter side of a sample, in [32, 224]; headers only."""
    sides = []
    for position in evenly_spaced(len(listing), _SAMPLE):
        try:
            sides.append(shorter_side(listing.reader.read(int(position))))
        except Exception:  # noqa: BLE001  unreadable in any of Pillow's many ways: decoding will record it
            continue
    return min(224, max(32, int(np.median(sides)))) if sides else 224


def _fingerprint(listing: Listing, size: int, fit: str) -> str:
    identity = {
        "format": _FORMAT,
        "content": listing.reader.fingerprint(),
        "classes": listing.classes,
        "paths": listing.paths,
        "labels": listing.labels.tolist(),
        "splits": listing.splits.tolist(),
        "size": size,
        "fit": fit,
        **({} if listing.groups is None else {"groups": listing.groups.tolist()}),
    }
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

"""Images decoded and resized once into uint8 memory maps, kept in the cache by content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from raysearch.data.dataset import Dataset
from raysearch.data.decode import FITS, needs_range, shorter_side
from raysearch.data.listing import Listing
from raysearch.data.pixel_notes import PixelNotes
from raysearch.data.source import list_source
from raysearch.data.store import deep_folder, with_range, write
from raysearch.data.value_range import PixelRange
from raysearch.errors import InputError
from raysearch.storage.cache import cache_root
from raysearch.storage.files import replace_text

log = logging.getLogger(__name__)

_FORMAT = 1
"""The version of the cache folder; raise it when what is written, or how images are decoded, changes."""
_EIGHT_BITS = (".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp")
"""Endings of formats that never have more than eight bits a channel."""
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

    Raises:
        InputError: bad source or settings, too many unreadable images, values without a range in common, or a cache
            without space; all problems together.
    """
    problems = []
    if image_size is not None and not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        problems.append(f"image size must be {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels, got {image_size}.")
    if fit not in FITS:
        problems.append(f"fit must be one of {', '.join(FITS)}, got {fit!r}.")
    try:
        listing = list_source(source, seed=seed)
    except InputError as error:
        raise InputError([*problems, *error.problems]) from error
    if problems:
        raise InputError(problems)
    size = _natural_size(listing) if image_size is None else image_size
    fingerprint = _fingerprint(listing, size, fit)
    root = (cache_root() if cache is None else cache) / "pixels"
    key = fingerprint if pixel_range is None else with_range(fingerprint, pixel_range)
    folder = root / key[:32]
    try:
        root.mkdir(parents=True, exist_ok=True)
        # The lock file stays: deleting it would let two processes hold two locks of the same name.
        with FileLock(root / f"{folder.name}.lock"):
            decoded = _decoded(folder, listing)
            if decoded is None:
                decoded = write(listing, size, fit, fingerprint, folder, progress, pixel_range)
    except OSError as error:
        raise InputError(f"The cache {root} cannot be written ({error}); set RAYSEARCH_CACHE to a folder.") from error
    dataset = replace(Dataset.open(decoded), source=source)
    for sentence in dataset.notes.warnings():
        log.warning("%s: %s", source, sentence)
    return dataset


def _decoded(folder: Path, listing: Listing) -> Path | None:
    """Where the images are decoded already: in `folder`, or next to it if some have more than eight bits."""
    for known in (deep_folder(folder), folder):
        if (known / "dataset.json").exists() and (known != folder or _is_sound(folder, listing)):
            return known
    return None


def _is_sound(folder: Path, listing: Listing) -> bool:
    """Whether images decoded by an older version, which gave each image a range of its own, needed none.

    Their headers are read once; dataset.json then says so.
    """
    try:
        header = json.loads((folder / "dataset.json").read_text())
    except ValueError:  # `Dataset.open` says what to do
        return True
    if "pixels" in header:
        return True
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        if any(pool.map(lambda row: _is_deep(listing, row), range(len(listing)))):
            return False
    replace_text(folder / "dataset.json", json.dumps(header | {"pixels": PixelNotes().as_json()}))
    return True


def _is_deep(listing: Listing, row: int) -> bool:
    if listing.paths[row].lower().endswith(_EIGHT_BITS):
        return False
    try:
        return needs_range(listing.reader.read(row))
    except Exception:  # noqa: BLE001  unreadable in any of Pillow's many ways: it was left out then
        return False


def _natural_size(listing: Listing) -> int:
    """The median shorter side of a sample, in [32, 224]; headers only."""
    sides = []
    for position in np.unique(np.linspace(0, len(listing) - 1, _SAMPLE).astype(int)):
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
    }
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

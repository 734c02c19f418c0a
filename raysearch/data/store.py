"""Decodes a listing into a folder of memory maps: in parallel, once, and whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raysearch.data.decode import decode
from raysearch.data.listing import SPLITS, Listing, Skipped, some
from raysearch.errors import InputError

_MAX_UNREADABLE = 0.1
"""A larger share of unreadable images is an error: the source is not what it was taken for."""
_CHUNK = 32
"""Images a task of the thread pool."""


def write(listing: Listing, size: int, fit: str, fingerprint: str, folder: Path, progress: bool) -> None:
    """Decode every image into `folder`, which `Dataset.open` maps. The caller holds the folder's lock.

    Everything is written into a temporary folder that is renamed at the end, so that the final one is always whole.

    Raises:
        InputError: too little disk space, or too many unreadable images.
    """
    needed = len(listing) * size * size * 3
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise InputError(
            f"Decoding {len(listing)} images at {size} px takes {needed / 2**30:.1f} GiB and {folder.parent} has "
            f"{free / 2**30:.1f} GiB free: set RAYSEARCH_CACHE to another disk, or choose a smaller image size."
        )
    temporary = folder.with_name(f".{folder.name}.tmp")
    for leftover in (temporary, folder):  # of a process that was killed; the lock says that it no longer writes
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    try:
        failures: dict[int, Skipped] = {}
        paths: dict[str, tuple[str, ...]] = {}
        with _progress_bar(progress) as bar:
            task = bar.add_task(f"Decoding {listing.source}", total=len(listing))
            for name in SPLITS:
                rows = np.flatnonzero(listing.splits == name)
                failed = _decode_split(
                    listing, rows, temporary / f"{name}.npy", size, fit, lambda done: bar.advance(task, done)
                )
                kept = np.array([row for row in rows.tolist() if row not in failed], dtype=np.int64)
                np.save(temporary / f"{name}_labels.npy", listing.labels[kept])
                paths[name] = tuple(listing.paths[row] for row in kept)
                failures |= failed
        _check_failures(listing, failures)
        header = {
            "source": listing.source,
            "classes": listing.classes,
            "image_size": size,
            "fit": fit,
            "fingerprint": fingerprint,
            "paths": paths,
            "skipped": [asdict(one) for one in (*listing.skipped, *(failures[row] for row in sorted(failures)))],
        }
        (temporary / "dataset.json").write_text(json.dumps(header))
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _decode_split(
    listing: Listing, rows: NDArray[np.int64], file: Path, size: int, fit: str, advance: Callable[[int], None]
) -> dict[int, Skipped]:
    """Decode some rows of a listing into one .npy; Pillow decodes and resizes without the interpreter's lock.

    Returns:
        the rows that could not be read, which the file leaves out.
    """
    pixels = open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(rows), size, size, 3))

    def decode_one(place: int) -> Skipped | None:
        row = int(rows[place])
        try:
            pixels[place] = decode(listing.reader.read(row), size, fit)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  Pillow's plugins raise nearly anything on a damaged file
            return Skipped(listing.paths[row], f"{type(error).__name__}: {error}")
        return None

    def decode_some(start: int) -> list[Skipped | None]:
        done = [decode_one(place) for place in range(start, min(start + _CHUNK, len(rows)))]
        advance(len(done))
        return done

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = [result for part in pool.map(decode_some, range(0, len(rows), _CHUNK)) for result in part]
    failed = {int(rows[place]): result for place, result in enumerate(results) if result is not None}
    if failed:
        kept = [place for place, result in enumerate(results) if result is None]
        whole = file.with_suffix(".part")
        compact = open_memmap(whole, mode="w+", dtype=np.uint8, shape=(len(kept), size, size, 3))
        for place, source in enumerate(kept):
            compact[place] = pixels[source]
        compact.flush()
        whole.replace(file)
    pixels.flush()
    return failed


def _check_failures(listing: Listing, failures: dict[int, Skipped]) -> None:
    """Unreadable images are left out unless they are many, or all that a class has in a split."""
    if not failures:
        return
    shown = some([f"{one.path} ({one.reason})" for one in failures.values()])
    problems = []
    if len(failures) > _MAX_UNREADABLE * len(listing):
        problems.append(f"{len(failures)} of {len(listing)} images of {listing.source} cannot be read: {shown}.")
    readable = np.ones(len(listing), dtype=bool)
    readable[list(failures)] = False
    for name in SPLITS:
        in_split = listing.splits == name
        lost = np.setdiff1d(listing.labels[in_split], listing.labels[in_split & readable])
        if lost.size:
            classes = some([listing.classes[label] for label in lost])
            problems.append(f"{listing.source}: no image of {classes} in {name} can be read: {shown}.")
    if problems:
        raise InputError(problems)


def _progress_bar(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),  # elsewhere it would leave an empty line
    )

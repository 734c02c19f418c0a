"""Decodes a listing into a folder of memory maps: in parallel, once, and whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raysearch.data.account import EXAMPLES, Account, Copies, Doubt, Look, Tally
from raysearch.data.copies import check_left, find_copies, numbered
from raysearch.data.decoding import DecodedSplit
from raysearch.data.groups import joined
from raysearch.data.listing import SPLITS, Listing, Skipped, some
from raysearch.data.pixel_notes import PixelNotes, dark_and_bright
from raysearch.data.value_range import Extremes, PixelRange, common_range
from raysearch.errors import InputError
from raysearch.storage.files import replaced_folder

_MAX_UNREADABLE = 0.1
"""A larger share of unreadable images is an error: the source is not what it was taken for."""


def write(
    listing: Listing,
    size: int,
    fit: str,
    fingerprint: str,
    folder: Path,
    progress: bool,
    pixel_range: PixelRange | None = None,
    *,
    keep_copies: bool = False,
    measuring: bool = False,
) -> None:
    """Decode every image into `folder`, which `Dataset.open` maps. The caller holds the folder's lock.

    Args:
        listing: the images.
        size: height and width, pixels.
        fit: as of `decode`.
        fingerprint: of the source and the settings; what they do not tell is added to it: a range that the images
            needed, and copies that are left out.
        folder: where they go.
        progress: show a bar.
        pixel_range: of the images that have more than eight bits; None: it is found in their values.
        keep_copies: whether copies of images in other splits stay.
        measuring: as of `list_source`.

    Raises:
        InputError: too little disk space, too many unreadable images, values without a range in common, or a class
            that has nothing but copies.
    """
    needed = len(listing) * size * size * 3
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise InputError(
            f"Decoding {len(listing)} images at {size} px takes {needed / 2**30:.1f} GiB and {folder.parent} has "
            f"{free / 2**30:.1f} GiB free: set RAYSEARCH_CACHE to another disk, or choose a smaller image size."
        )
    with replaced_folder(folder) as temporary:
        splits = _decode(listing, size, fit, temporary, progress)
        used = _decode_deep(listing.source, splits, pixel_range)
        failures = {row: one for split in splits.values() for row, one in split.failed.items()}
        _check_failures(listing, failures, measuring)
        digests = {row: digest for split in splits.values() for row, digest in split.digests.items()}
        copies, leaving = find_copies(listing, digests, keep=keep_copies)
        check_left(listing, leaving)
        for split in splits.values():
            split.dropped = leaving
        _write_numbers(listing, splits, digests, temporary)
        notes = _notes(listing, splits, used, pixel_range)
        header = {
            "source": listing.source,
            "classes": listing.classes,
            "image_size": size,
            "fit": fit,
            "fingerprint": _without(fingerprint if used is None else with_range(fingerprint, used), listing, leaving),
            "paths": {name: [listing.paths[row] for row in split.kept()] for name, split in splits.items()},
            "skipped": [asdict(one) for one in (*listing.skipped, *(failures[row] for row in sorted(failures)))],
            "pixels": notes.as_json(),
            "account": _account(listing, splits, notes, copies).as_json(),
        }
        (temporary / "dataset.json").write_text(json.dumps(header))


def _write_numbers(listing: Listing, splits: dict[str, DecodedSplit], digests: dict[int, bytes], folder: Path) -> None:
    """Each split's labels; and the numbers that groups and copies have in common, over all splits."""
    groups = numbered(digests)
    if listing.groups is not None:
        rows = np.array(sorted(digests), dtype=np.int64)
        ties = joined(listing.groups[rows], np.array([groups[row] for row in rows.tolist()], dtype=np.int64))
        groups = dict(zip(rows.tolist(), ties.tolist(), strict=True))
    for name, split in splits.items():
        kept = split.kept()
        np.save(folder / f"{name}_labels.npy", listing.labels[kept])
        np.save(folder / f"{name}_groups.npy", np.array([groups[row] for row in kept], dtype=np.int64))


def _account(listing: Listing, splits: dict[str, DecodedSplit], notes: PixelNotes, copies: Copies) -> Account:
    """What decoding found out."""
    met = {row: one for split in splits.values() for row, one in split.met.items()}
    by_area = sorted({(width, height) for _, width, height in met.values()}, key=lambda size: size[0] * size[1])
    areas = sorted(((width, height) for _, width, height in met.values()), key=lambda size: size[0] * size[1])
    failed = [one.path for split in splits.values() for one in split.failed.values()]
    framed = sorted(listing.paths[row] for split in splits.values() for row in split.frames)
    wide = {listing.paths[row]: n for split in splits.values() for row, n in split.channels.items()}
    doubts = [*copies.doubts(), *notes.doubts()]
    if framed:
        told = f"{len(framed):,} images have several frames or pages, of which the first is read ({some(framed)})."
        doubts.append(Doubt(told, "If another one is meant, save it as an image of its own."))
    if wide:
        told = f"{len(wide):,} images have more than four channels (up to {max(wide.values())}; {some(sorted(wide))})."
        doubts.append(Doubt(told, "The first three are read as red, green and blue: save the three that are meant."))
    return Account(
        notes=tuple(notes.told()),
        passed_over=(Tally("images that cannot be read", len(failed), tuple(failed[:EXAMPLES])),) if failed else (),
        doubts=tuple(doubts),
        counts={
            name: dict(
                zip(
                    listing.classes,
                    np.bincount(listing.labels[split.kept()], minlength=len(listing.classes)).tolist(),
                    strict=True,
                )
            )
            for name, split in splits.items()
        },
        copies=copies,
        look=Look(
            dict(Counter(mode for mode, _, _ in met.values())),
            (by_area[0], areas[len(areas) // 2], by_area[-1]) if met else (),
        ),
    )


def _without(fingerprint: str, listing: Listing, leaving: set[int]) -> str:
    """The fingerprint of the images that are left when copies have gone; the same one where none has."""
    if not leaving:
        return fingerprint
    gone = [listing.paths[row] for row in sorted(leaving)]
    return hashlib.sha256(json.dumps([fingerprint, "without", gone]).encode()).hexdigest()


def with_range(fingerprint: str, pixel_range: PixelRange) -> str:
    """The fingerprint of images that were made with this range."""
    return hashlib.sha256(json.dumps([fingerprint, pixel_range.as_json()]).encode()).hexdigest()


def _decode(listing: Listing, size: int, fit: str, folder: Path, progress: bool) -> dict[str, DecodedSplit]:
    splits = {}
    with _progress_bar(progress) as bar:
        task = bar.add_task(f"Decoding {listing.source}", total=len(listing))
        for name in SPLITS:
            rows = np.flatnonzero(listing.splits == name)
            splits[name] = DecodedSplit(listing, rows, folder / f"{name}.npy", size, fit)
            splits[name].decode(lambda done: bar.advance(task, done))
    return splits


def _decode_deep(source: str, splits: dict[str, DecodedSplit], given: PixelRange | None) -> PixelRange | None:
    """Decode what has more than eight bits, by the given range or that of all their values; None: nothing has."""
    found = {name: list(split.deep.values()) for name, split in splits.items()}
    if not any(found.values()):
        return None
    pixel_range = given or common_range(source, found)
    for split in splits.values():
        split.decode_deep(pixel_range)
    return pixel_range


def _notes(
    listing: Listing, splits: dict[str, DecodedSplit], used: PixelRange | None, given: PixelRange | None
) -> PixelNotes:
    """Writes the pixels, and says what is to be known of them."""
    looked = kept = 0
    dark: list[str] = []
    bright: list[str] = []
    deep: dict[int, Extremes] = {}
    for split in splits.values():
        deep |= split.deep
        paths = [listing.paths[row] for row in split.kept()]
        kept += len(paths)
        *found, seen = dark_and_bright(split.finish())
        looked += seen
        for images, places in zip((dark, bright), found, strict=True):
            images += [paths[place] for place in places]
    largest = listing.paths[max(deep, key=lambda row: deep[row].high)] if deep and given is None else ""
    return PixelNotes(used, len(deep), kept - len(deep), largest, looked, tuple(dark), tuple(bright))


def _check_failures(listing: Listing, failures: dict[int, Skipped], measuring: bool) -> None:
    """Unreadable images are left out unless they are many, or all that a class has in a split to be trained on."""
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
        if lost.size and not measuring:
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

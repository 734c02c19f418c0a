"""What a person may do with the activation cache: look at it, check it, empty it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from raysearch.activations.store import SUFFIX, CacheEntry, Store, counting, read_header, remove

_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True)
class Cleared:
    """What `clear` did."""

    files: int
    bytes: int
    in_use: int
    """Files that a running search is reading, which stay."""


def list_entries(root: Path | None = None) -> list[CacheEntry]:
    """Every whole file of the cache, last used first; what cannot be read is `verify`'s to find.

    Args:
        root: the cache's folder; None: the user's own.
    """
    entries = []
    for path in _files(root):
        try:
            with path.open("rb") as file:
                about = read_header(file)
            stat = path.stat()
        except (OSError, ValueError, KeyError, TypeError):
            continue
        entries.append(CacheEntry(path, about, stat.st_size, stat.st_mtime))
    return sorted(entries, key=lambda entry: entry.used, reverse=True)


@dataclass(frozen=True)
class Group:
    """Entries that are views of the same."""

    what: tuple[str, ...]
    """Backbone, boundary, images, strength, precision: as people read them."""
    views: int
    bytes: int
    used: float
    """The time at which one of them was last opened, seconds since 1970."""


def grouped(entries: Iterable[CacheEntry]) -> list[Group]:
    """Entries by what they are, all views together; the order of the first of each."""
    groups: dict[str, list[CacheEntry]] = {}
    for entry in entries:
        same = {**entry.about["key"], "view": None, "boundary": entry.about["boundary"]}
        groups.setdefault(json.dumps(same, sort_keys=True), []).append(entry)
    return [
        Group(_names(views[0]), len(views), sum(one.bytes for one in views), max(one.used for one in views))
        for views in groups.values()
    ]


def _names(entry: CacheEntry) -> tuple[str, ...]:
    key = entry.about["key"]
    augmentation = key.get("augmentation") or {}
    return (
        str(key.get("backbone", "?")),
        str(entry.about["boundary"]),
        f"{key.get('images', '?')} {key.get('split', '')} {key.get('image_size', '?')} px",
        f"{augmentation.get('strength', 0):g}",
        f"{key.get('precision', '?')} as {entry.about['dtype']}",
    )


def verify(root: Path | None = None) -> list[tuple[Path, str]]:
    """Reads every file and deletes those that are not what they say, which are then made again when needed.

    Returns: their paths, and what is wrong with each.
    """
    damaged = []
    for path in _files(root):
        try:
            with path.open("rb") as file:
                about, sha = read_header(file), hashlib.sha256()
                while block := file.read(_BLOCK_BYTES):
                    sha.update(block)
            if sha.hexdigest() != about["sha256"]:
                raise ValueError("its rows are not those that were written")
        except FileNotFoundError:  # gone meanwhile
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append((path, str(error)))
            path.unlink(missing_ok=True)  # even in use: nobody should read on
    return damaged


def clear(root: Path | None = None) -> Cleared:
    """Deletes every file that is not in use, and what killed processes left."""
    files = freed = kept = 0
    store = Store(root)
    if not store.root.is_dir():
        return Cleared(0, 0, 0)
    with counting(store.root):
        for path in _files(root):
            size = path.stat().st_size
            if remove(path):
                files, freed = files + 1, freed + size
            else:
                kept += 1
    return Cleared(files, freed, kept)


def _files(root: Path | None) -> list[Path]:
    return sorted(Store(root).root.glob(f"*/*{SUFFIX}"))

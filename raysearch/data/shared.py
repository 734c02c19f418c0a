"""Decoded images in a storage: put there once, by content, and brought to every machine that lacks them."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from filelock import FileLock

from raysearch.data.dataset import BETWEEN_PLACES
from raysearch.storage.cache import cache_root
from raysearch.storage.remote import SHARED, Storage

_KIND = "pixels"
_LAST = "dataset.json"  # the file that says that the others are there


def put_images(storage: Storage, folder: Path) -> None:
    """Puts the folder of a `Dataset` there, unless it is there already."""
    place = storage / SHARED / _KIND / folder.name
    if not place.exists(_LAST):
        for path in sorted(folder.iterdir(), key=lambda one: one.name == _LAST):
            place.put(path, path.name)


def put_all(storage: Storage, place: str) -> None:
    """`put_images` for a dataset in all its sizes: see `Dataset.place`."""
    for folder in place.split(BETWEEN_PLACES):
        put_images(storage, Path(folder))


def bring_all(storage: Storage, place: str) -> str:
    """`bring_images` for a dataset in all its sizes: see `Dataset.place`."""
    return BETWEEN_PLACES.join(str(bring_images(storage, Path(folder))) for folder in place.split(BETWEEN_PLACES))


def bring_images(storage: Storage, folder: Path) -> Path:
    """The folder of a `Dataset` on this machine: the given one, if it is here, else a copy in this machine's cache.

    Raises:
        FileNotFoundError: nobody has put it there.
    """
    root = cache_root() / _KIND
    here = root / folder.name
    for known in (folder, here):
        if (known / _LAST).exists():
            return known
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{folder.name}.lock"):
        if not (here / _LAST).exists():
            place = storage / SHARED / _KIND / folder.name
            temporary = root / f".{folder.name}-{os.getpid()}-{secrets.token_hex(4)}"
            try:
                for name in sorted({*place.files(), _LAST}):
                    place.get(name, temporary / name)
                temporary.replace(here)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return here

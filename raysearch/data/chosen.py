"""Tables that choose among the images of another source, such as a .zip or .npz, whose images are no files.

    path,label,split,raysearch_source
    train/17,cat,train,photos.npz

The column `raysearch_source` names the source, one for all rows: a path, relative to the table's folder, or a name;
`path` is what an image is called within it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.account import Account
from raysearch.data.listing import Found, Grouping, Reader, some
from raysearch.data.names import readable
from raysearch.data.reading import Reading
from raysearch.data.roles import read_rows
from raysearch.data.shards import is_pattern
from raysearch.data.table import Table
from raysearch.errors import InputError

COLUMN = "raysearch_source"
"""A name that no table of somebody else has."""


class ChosenReader:
    """Some images of another reader, by their positions there."""

    def __init__(self, reader: Reader, positions: Sequence[int]) -> None:
        self._reader, self._positions = reader, tuple(positions)

    def read(self, position: int) -> bytes | NDArray[np.generic] | Image.Image:
        """One image."""
        return self._reader.read(self._positions[position])

    def fingerprint(self) -> str:
        """Digest of the other source's, and of what is chosen."""
        return hashlib.sha256(f"{self._reader.fingerprint()} {self._positions}".encode()).hexdigest()


def chooses(table: Table) -> bool:
    """Whether a table is one of these."""
    return COLUMN in table.columns


def find_chosen(table: Table, manifest: Path, reading: Reading, find: Callable[[str], Found]) -> Found:
    """The images that a table chooses, with the labels and splits that it gives them.

    Args:
        table: what `manifest` holds.
        manifest: its file.
        reading: names neither columns nor a folder; the table says these itself.
        find: the images of a source.

    Raises:
        InputError: there are several sources or none, it cannot be read, or it lacks images of the table.
    """
    if reading.of_a_table:
        flag = "--columns" if reading.columns else "--images"
        raise InputError(f"{flag}: {manifest} says itself where its images are; leave the flag out.")
    sources = sorted(set(table.columns[COLUMN]))
    if len(sources) != 1 or not sources[0]:
        raise InputError(f"{manifest}: {COLUMN} must name one source, the same in every row, got {some(sources)}.")
    source = _from_here(manifest.parent, sources[0])
    rows = read_rows(str(manifest), {name: values for name, values in table.columns.items() if name != COLUMN}, reading)
    inner = find(source)
    places: dict[str, int] = {}
    for place, path in enumerate(inner.paths):
        places.setdefault(readable(path), place)
    if absent := [path for path in rows.paths if path not in places]:
        raise InputError(f"{manifest} lists {len(absent)} images that {source} does not have: {some(absent)}.")
    positions = [places[path] for path in rows.paths]
    account = Account(
        f"{len(positions):,} of the {len(inner.paths):,} images of {source}, which {manifest.name} chooses.",
        notes=inner.account.notes,
        not_read=rows.not_read,
        doubts=(*table.doubts, *inner.account.doubts),
    )
    known = inner.classes is not None and set(rows.labels) == set(inner.classes)
    return Found(
        [inner.paths[position] for position in positions],
        rows.labels,
        rows.splits,
        ChosenReader(inner.reader, positions),
        inner.classes if known else None,
        inner.skipped,
        account,
        rows.groups or _at(inner.groups, positions),
        rows.suspected or _at(inner.suspected, positions),
    )


def _at(groups: Grouping | None, positions: Sequence[int]) -> Grouping | None:
    """What the other source says of the images that are chosen; manifests written earlier say nothing of it."""
    return groups and Grouping(groups.what, [groups.names[position] for position in positions])


def named_from(folder: Path, source: str) -> str:
    """What names `source` in a table that lies in `folder`."""
    path = Path(source).expanduser()
    if path.exists() or is_pattern(source):
        return readable(os.path.relpath(path.absolute(), folder.absolute())).replace("\\", "/")
    return source


def _from_here(folder: Path, named: str) -> str:
    beside = folder / named
    return str(beside) if beside.exists() or is_pattern(named) else named

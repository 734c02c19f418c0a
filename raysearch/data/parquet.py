"""Parquet files that hold images as bytes beside their labels, as Hugging Face's `datasets` writes them, and others."""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from raysearch.data.account import Account, Tallies
from raysearch.data.columns import label_doubts, label_problems, not_read
from raysearch.data.files import digest_files
from raysearch.data.listing import Found, Grouping, some
from raysearch.data.reading import Reading
from raysearch.data.roles import LABELS, PATHS, plain_name, read_rows
from raysearch.data.shards import names_within, splits_of
from raysearch.data.table import as_text
from raysearch.errors import InputError

_HELD_BYTES = 256 << 20
"""Of images that a reader holds, one row group at least."""


class ParquetReader:
    """Images in columns of bytes: a row group is read at a time, and the latest few are held."""

    def __init__(self, files: Sequence[Path], column: str, rows: Sequence[tuple[int, int]]) -> None:
        """Takes the (file, row) of each image, in the listing's order."""
        self._files, self._column, self._rows = tuple(files), column, tuple(rows)
        self._opened: dict[int, tuple[pq.ParquetFile, list[int]]] = {}
        self._held: OrderedDict[tuple[int, int], pyarrow.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, position: int) -> bytes:
        """The bytes of one image.

        Raises:
            ValueError: the row has none.
        """
        file, row = self._rows[position]
        with self._lock:  # or several threads would read the same row group
            group, start = self._group_of(file, row)
            value = self._images(file, group)[row - start].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise ValueError("the row holds no bytes of an image; a .csv of paths is read where images are files")
        return bytes(data)

    def fingerprint(self) -> str:
        """Digest of the files and of the rows that are used."""
        whole = [*digest_files(self._files), self._column, json.dumps(self._rows)]
        return hashlib.sha256("\0".join(whole).encode()).hexdigest()

    def _group_of(self, file: int, row: int) -> tuple[int, int]:
        """The row group of a row, and the group's first row."""
        if file not in self._opened:
            opened = pq.ParquetFile(self._files[file])
            starts = [0]
            for group in range(opened.metadata.num_row_groups):
                starts.append(starts[-1] + opened.metadata.row_group(group).num_rows)
            self._opened[file] = opened, starts
        starts = self._opened[file][1]
        group = bisect_right(starts, row) - 1
        return group, starts[group]

    def _images(self, file: int, group: int) -> pyarrow.ChunkedArray:
        """The image column of a row group."""
        if (file, group) not in self._held:
            while self._held and sum(images.nbytes for images in self._held.values()) > _HELD_BYTES:
                self._held.popitem(last=False)
            table = self._opened[file][0].read_row_group(group, columns=[self._column])
            self._held[file, group] = table.column(0)
        self._held.move_to_end((file, group))
        return self._held[file, group]


@dataclass(frozen=True)
class _Columns:
    """What a parquet's schema says.

    Attributes:
        image: the column of images.
        single: columns of one value a row, of which some say the class and the split.
        rest: all other columns.
        names: the names of each column of class numbers.
    """

    image: str
    single: tuple[str, ...]
    rest: tuple[str, ...]
    names: dict[str, list[str]]


def find_in_parquet(files: Sequence[Path], source: str, reading: Reading) -> Found:
    """The images of parquet files; of the columns of bytes nothing is read yet.

    Args:
        files: of one schema; words such as train and test in their names say the splits.
        source: for messages.
        reading: its columns, where the files do not say them; `path` is that of the images.

    Raises:
        InputError: files that cannot be read, no column of images, and targets that are not single labels.
    """
    try:
        schemas = [pq.read_schema(file) for file in files]
        columns = _columns(source, schemas[0], reading)
        tables = [pq.read_table(file, columns=list(columns.single)) for file in files]
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{source} cannot be read as parquet ({error}).") from error
    names = names_within(files)
    rows = [(file, row) for file, table in enumerate(tables) for row in range(table.num_rows)]
    path = columns.image if "path" in columns.single else "path"  # which needs no word in the account
    values: dict[str, list[str]] = {path: [f"{names[file]}/{row}" for file, row in rows]}
    for name in columns.single:
        values[name] = [
            _text(value, columns.names.get(name)) for table in tables for value in table.column(name).to_pylist()
        ]
    named = {role: name for role, name in reading.columns.items() if role != "path"}
    read = read_rows(source, values, Reading({"path": path, **named}, group_by=reading.group_by))
    splits = read.splits
    by_name = splits_of(source, names)
    if not any(splits):
        splits = [by_name[file] for file, _ in rows]
    passed = Tallies()
    kept = []
    for place, label in enumerate(read.labels):
        if label:
            kept.append(place)
        else:
            passed.add("rows without a label", read.paths[place])
    labels = [read.labels[place] for place in kept]
    if problems := [f"{source} holds no labelled images."] * (not kept) + label_problems(source, labels):
        raise InputError(problems)
    chosen = [rows[place] for place in kept]
    account = Account(
        f"{len(set(labels))} classes in {len(files)} parquet file{'s' * (len(files) > 1)}"
        + (", whose names say the splits." if any(by_name) and not any(read.splits) else "."),
        notes=read.notes,
        passed_over=passed.result(),
        not_read=(*read.not_read, *not_read(source, columns.rest)),
        doubts=tuple(label_doubts(source, labels)),
    )
    reader = ParquetReader(files, columns.image, chosen)

    def of_kept(groups: Grouping | None) -> Grouping | None:
        return groups and Grouping(groups.what, [groups.names[place] for place in kept])

    return Found(
        [read.paths[place] for place in kept],
        labels,
        [splits[place] for place in kept],
        reader,
        account=account,
        groups=of_kept(read.groups),
        suspected=of_kept(read.suspected),
    )


def _columns(source: str, schema: pyarrow.Schema, reading: Reading) -> _Columns:
    names = _class_names(schema)
    images = [field.name for field in schema if _holds_bytes(field.type)]
    named = reading.columns.get("path")
    if named is not None and named not in images:
        raise InputError(
            f"--columns path={named}: {source} has no column of that name that holds bytes of images, but "
            f"{some(schema.names, 20)}."
        )
    if not images:
        raise InputError(
            f"{source} has no column of images, which holds bytes, or a struct of bytes and path; it has "
            f"{some(schema.names, 20)}. Where it has paths of files, save it as a .csv."
        )
    known = {plain_name(name): name for name in reversed(images)}
    image = named or next((known[word] for word in PATHS if word in known), images[0])
    if named is None and len(images) > 1 and plain_name(image) not in PATHS:
        raise InputError(
            f"{source} has several columns of images: {some(images, 10)}. Say which one, e.g. by --columns "
            f"path={images[0]}."
        )
    others = [field for field in schema if field.name != image and field.name not in images]
    lists = [field.name for field in others if _is_list(field.type) and plain_name(field.name) in LABELS]
    if lists and "label" not in reading.columns:
        raise InputError(
            f"{source} looks multi-label: {some(lists)} holds lists; only single-label classification is supported. "
            "Choose one label an image, and name its column by --columns label=NAME."
        )
    single = tuple(field.name for field in others if not pyarrow.types.is_nested(field.type))
    return _Columns(image, single, tuple(name for name in schema.names if name not in (image, *single)), names)


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _is_list(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)


def _class_names(schema: pyarrow.Schema) -> dict[str, list[str]]:
    """The names of ClassLabel columns, which `datasets` keeps in the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: [str(label) for label in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _text(value: Any, names: Sequence[str] | None) -> str:
    """A value as a .csv would have it; of a class number its name, of -1, which says that there is none, nothing."""
    if names is None or not isinstance(value, int):
        return as_text(value)
    return names[value] if 0 <= value < len(names) else ""

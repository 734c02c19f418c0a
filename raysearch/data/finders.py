"""Which kind of source a SOURCE is, and the finder that reads it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from raysearch.data.account import Doubt
from raysearch.data.arrays import find_in_arrays
from raysearch.data.chosen import chooses, find_chosen
from raysearch.data.folders import find_in_folder, find_in_zip
from raysearch.data.kinds import remedy_for
from raysearch.data.listing import Found
from raysearch.data.manifest import found_in_table, read_table
from raysearch.data.metadata import find_by_metadata, metadata_in, says_labels
from raysearch.data.named import BUNDLED, TORCHVISION, canonical_name, find_named
from raysearch.data.parquet import find_in_parquet
from raysearch.data.reading import AS_IT_IS, Reading
from raysearch.data.roles import plain_name
from raysearch.data.shards import expand, is_pattern, shards_below
from raysearch.data.tars import find_in_tars
from raysearch.errors import InputError

KINDS = "a folder, .zip, .csv, .jsonl, .npz, .parquet, WebDataset shards (.tar) or a name"
"""What a source may be, for messages."""

_PLAIN: dict[str, Callable[[Path], Found]] = {".zip": find_in_zip, ".npz": find_in_arrays}
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of tables of paths and labels."""
_SHARDS: dict[str, Callable[[Sequence[Path], str, Reading], Found]] = {
    ".tar": find_in_tars,
    ".parquet": find_in_parquet,
}


def find(source: str, reading: Reading) -> Found:
    """The images that a source names.

    Args:
        source: a path, which wins, a pattern of paths, or a name.
        reading: what is said of its table.

    Raises:
        InputError: it is none of these, cannot be read, or `reading` speaks of a table that it does not have.
    """
    if not source.strip():
        raise InputError(f"The source of the images is empty: give {KINDS}.")
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path, reading)
    if path.is_file():
        ending = path.suffix.lower()
        if ending in _TABLES:
            table = read_table(path)
            if chooses(table):
                return find_chosen(table, path, reading, lambda inner: find(inner, AS_IT_IS))
            return found_in_table(table, path, reading)
        if ending in _SHARDS:
            return _in_files([path], source, reading)
        if ending in _PLAIN:
            _refuse(reading, source)
            return _PLAIN[ending](path)
        remedy = remedy_for(path.name)
        way_out = f": {remedy}, or give" if remedy else ": give"
        raise InputError(f"{source} is a file of no known kind{way_out} {KINDS}.")
    if is_pattern(source):
        return _in_files(expand(source), source, reading)
    return _by_name(source, reading)


def _in_folder(folder: Path, reading: Reading) -> Found:
    tables = metadata_in(folder)
    if tables and any(says_labels(read_table(table), reading) for table in tables):
        _refuse_images(reading, str(folder))
        return find_by_metadata(folder, tables, reading)
    if shards := shards_below(folder):
        return _in_files(shards, str(folder), reading)
    _refuse(reading, str(folder))
    found = find_in_folder(folder)
    if not tables:
        return found
    names = [table.relative_to(folder).as_posix() for table in tables]
    doubts = [
        Doubt(f"{name} has a column split, and is not read, for it says no class.", "Add the class as a column label.")
        for name, table in zip(names, tables, strict=True)
        if any(plain_name(column) == "split" for column in read_table(table).columns)
    ]
    unread = [f"{name}, which says no class" for name in names]
    return replace(found, account=found.account.adding(not_read=unread, doubts=doubts))


def _in_files(files: Sequence[Path], source: str, reading: Reading) -> Found:
    """Shards, all of one kind."""
    endings = {file.suffix.lower() for file in files}
    if len(endings) != 1 or not endings <= _SHARDS.keys():
        named = ", ".join(sorted(endings))
        raise InputError(f"{source} names files that end in {named}: give shards of one kind, .tar or .parquet.")
    _refuse_images(reading, source)
    return _SHARDS[endings.pop()](files, source, reading)


def _by_name(source: str, reading: Reading) -> Found:
    name = canonical_name(source)
    if name is not None:
        _refuse(reading, source)
        return find_named(name)
    known = [*BUNDLED, *TORCHVISION]
    near = difflib.get_close_matches(source.lower(), known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Names are: {', '.join(known)}."
    raise InputError(f"{source} is no folder, no file and no known name. {hint}")


def _refuse(reading: Reading, source: str) -> None:
    if reading.of_a_table:
        flag = "--columns" if reading.columns else "--images"
        raise InputError(f"{flag}: {source} has no table of images, for which alone it is; give it with a .csv.")


def _refuse_images(reading: Reading, source: str) -> None:
    if reading.images is not None:
        raise InputError(f"--images: the images of {source} lie where it says itself; leave the flag out.")

"""Tables of images: a .csv or .jsonl of paths and labels, with the images beside it or in a folder that is named."""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from raysearch.data.account import Account
from raysearch.data.columns import label_doubts, label_problems
from raysearch.data.files import FileReader
from raysearch.data.listing import Found, some
from raysearch.data.lookup import located
from raysearch.data.names import same_form
from raysearch.data.reading import Reading
from raysearch.data.roles import KNOWN, read_rows
from raysearch.data.table import Table, parse_csv, parse_jsonl, read_csv, read_jsonl
from raysearch.errors import InputError

_OBJECTS = (".jsonl", ".ndjson")
"""Endings of tables of JSON."""


def read_table(file: Path) -> Table:
    """The table in a file, by its ending.

    Raises:
        InputError: it cannot be read.
    """
    return read_jsonl(file) if file.suffix.lower() in _OBJECTS else read_csv(file, tuple(KNOWN))


def parse_table(data: bytes, file: Path) -> Table:
    """The table in bytes, by the ending of the file that they are from.

    Raises:
        InputError: it cannot be read.
    """
    if file.suffix.lower() in _OBJECTS:
        return parse_jsonl(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig"), file)
    return parse_csv(data, file, tuple(KNOWN))


def found_in_table(table: Table, manifest: Path, reading: Reading) -> Found:
    """The images that a table lists, the paths relative to its own folder or to that which is named.

    Args:
        table: what `manifest` holds.
        manifest: its file, a .csv, .tsv, .txt or .jsonl.
        reading: its columns, and the folder of the images, where the table does not say them.

    Raises:
        InputError: missing columns, empty labels, unknown splits, files that are not there, an image listed twice, and
            targets that are not single labels: all of them together.
    """
    rows = read_rows(str(manifest), table.columns, reading)
    if not rows.paths:
        raise InputError(f"{manifest} lists no images.")
    folder = reading.images or manifest.parent
    problems: list[str] = []
    files: list[Path | None] = [None] * len(rows.paths)
    try:
        files = located(folder, rows.paths, table.encoding, search=reading.images is not None)
        problems += _missing(manifest, folder, rows.paths, files, reading)
    except InputError as error:
        problems += error.problems
    problems += [*_twice(manifest, rows.paths, rows.labels), *label_problems(str(manifest), rows.labels)]
    if problems:
        raise InputError(problems)
    given = ", which gives the splits" if any(rows.splits) else ""
    account = Account(
        f"{len(set(rows.labels))} classes in {manifest.name}{given}.",
        notes=(*table.notes, *rows.notes),
        not_read=rows.not_read,
        doubts=(*table.doubts, *label_doubts(manifest.name, rows.labels)),
    )
    reader = FileReader([file for file in files if file is not None])
    return Found(
        rows.paths, rows.labels, rows.splits, reader, account=account, groups=rows.groups, suspected=rows.suspected
    )


def _missing(
    manifest: Path, folder: Path, paths: Sequence[str], files: Sequence[Path | None], reading: Reading
) -> list[str]:
    absent = [path or "(empty path)" for path, file in zip(paths, files, strict=True) if file is None]
    if not absent:
        return []
    way_out = ""
    if any("://" in path for path in absent):
        way_out = " Nothing is downloaded: save the images, and write the paths of the files into the table."
    elif len(absent) == len(paths) and reading.images is None:
        beside = sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
        named = f", e.g. --images {folder / beside[0]}" if beside else ""
        way_out = f" Give the folder that they are in by --images DIR{named}."
    where = "" if reading.images is None else f" below {folder}"
    return [f"{manifest} lists {len(absent)} files that are not there{where}: {some(absent)}.{way_out}"]


def _twice(manifest: Path, paths: list[str], labels: list[str]) -> list[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for path, label in zip(paths, labels, strict=True):
        found[os.path.normpath(same_form(path).replace("\\", "/"))].append(label)
    several = [path for path, given in found.items() if len(set(given)) > 1]
    twice = [path for path, given in found.items() if len(given) > len(set(given))]
    problems = []
    if several:
        problems.append(
            f"{manifest} is multi-label: {len(several)} images have more than one label ({some(several)}); only "
            "single-label classification is supported."
        )
    if twice:
        problems.append(f"{manifest} lists {len(twice)} images more than once: {some(twice)}. List each once.")
    return problems

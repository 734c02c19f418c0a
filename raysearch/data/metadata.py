"""Hugging Face's `imagefolder`: images with a metadata.csv or metadata.jsonl beside them that has their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from raysearch.data.account import Account, Doubt, Tallies
from raysearch.data.columns import label_doubts, label_problems
from raysearch.data.files import FileReader
from raysearch.data.listing import Found, Grouping, some
from raysearch.data.lookup import located
from raysearch.data.manifest import read_table
from raysearch.data.names import readable
from raysearch.data.reading import Reading
from raysearch.data.roles import LABELS, plain_name, read_rows
from raysearch.data.split_names import split_folders
from raysearch.data.walk import walk_folder
from raysearch.errors import InputError

_MOST_FOLDERS = 16
"""Folders that are looked into for others: those of splits are few, those of classes may be thousands."""
_NAMES = ("metadata.csv", "metadata.jsonl")


def metadata_in(folder: Path) -> list[Path]:
    """The metadata files of a folder, of the folders in it, and of those in these."""
    first = _folders_in(folder)
    places = [folder, *first, *(second for one in first[:_MOST_FOLDERS] for second in _folders_in(one))]
    return [path for place in places for name in _NAMES if (path := place / name).is_file()]


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / name for name in sorted(entry.name for entry in entries if entry.is_dir())]
    except OSError:
        return []


def says_labels(file: Path, reading: Reading) -> bool:
    """Whether a metadata file says each image's class: else it has captions or the like, and folders say it."""
    names = {plain_name(name) for name in read_table(file).columns}
    return "label" in reading.columns or bool(names & set(LABELS))


def _splits_of_folders(paths: Sequence[str]) -> list[str]:
    """train, val or test by the outermost folders that say it; "" where none does."""
    parts = [path.split("/")[:-1] for path in paths]
    for depth in range(max(map(len, parts), default=0)):
        known = split_folders({one[depth] for one in parts if len(one) > depth})
        if known:
            return [known.get(one[depth], "") if len(one) > depth else "" for one in parts]
    return [""] * len(paths)


def find_by_metadata(folder: Path, files: list[Path], reading: Reading) -> Found:
    """The images that metadata files list; a column, or the folders that they lie in, say the splits.

    Args:
        folder: the source.
        files: of `metadata_in`; their paths start from their own folders.
        reading: its columns, where they do not say them.

    Raises:
        InputError: as of `raysearch.data.manifest.found_in_table`.
    """
    paths: list[str] = []
    labels: list[str] = []
    splits: list[str] = []
    found: list[Path] = []
    problems: list[str] = []
    account = Account()
    doubts: list[Doubt] = []
    groups: list[str] = []
    what: dict[str, None] = {}
    for file in files:
        table = read_table(file)
        inside = file.parent.relative_to(folder)
        try:
            rows = read_rows(str(file), table.columns, reading)
            at = located(file.parent, rows.paths, table.encoding)
        except InputError as error:
            problems += error.problems
            continue
        absent = [path for path, one in zip(rows.paths, at, strict=True) if one is None]
        if absent:
            problems.append(f"{file} lists {len(absent)} files that are not there: {some(absent)}.")
        paths += [(inside / path.replace("\\", "/")).as_posix() for path in rows.paths]
        labels, splits = labels + rows.labels, splits + rows.splits
        found += [one for one in at if one is not None]
        account = account.adding(notes=(*table.notes, *rows.notes), not_read=rows.not_read)
        doubts += table.doubts
        groups += rows.groups.names if rows.groups is not None else [""] * len(rows.paths)
        what |= {rows.groups.what: None} if rows.groups is not None else {}
    twice = sorted({path for path in paths if paths.count(path) > 1}) if len(set(paths)) < len(paths) else []
    if twice:
        problems.append(f"{folder}: the metadata list {len(twice)} images more than once: {some(twice)}.")
    problems += label_problems(str(folder), labels)
    if problems:
        raise InputError(problems)
    if not any(splits):
        splits = _splits_of_folders(paths)
    unlisted = Tallies()
    listed = set(paths)
    for name in walk_folder(folder).images:
        if readable(name) not in listed:
            unlisted.add("images that the metadata do not list", readable(name))
    account = Account(
        f"{len(set(labels))} classes in {some([str(file.relative_to(folder)) for file in files])}"
        + (", in folders that say the splits." if any(splits) else "."),
        notes=account.notes,
        passed_over=unlisted.result(),
        not_read=account.not_read,
        doubts=(*doubts, *label_doubts(str(folder), labels)),
    )
    grouping = Grouping(some(list(what)), groups) if what else None
    return Found(paths, labels, splits, FileReader(found), account=account, groups=grouping)

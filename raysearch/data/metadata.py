"""Hugging Face's `imagefolder`: images with a metadata.csv or metadata.jsonl beside them that has their labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Generic, TypeVar

from raysearch.data.account import Account, Doubt, Tallies
from raysearch.data.columns import label_doubts, label_problems
from raysearch.data.files import FileReader
from raysearch.data.listing import Found, Grouping, Reader, some
from raysearch.data.lookup import located
from raysearch.data.manifest import parse_table, read_table
from raysearch.data.names import readable, same_form
from raysearch.data.reading import Reading
from raysearch.data.roles import LABELS, Rows, label_among, plain_name, read_rows
from raysearch.data.split_names import split_folders, split_name
from raysearch.data.table import Table
from raysearch.data.walk import walk_folder
from raysearch.errors import InputError

_MOST_FOLDERS = 16
"""Folders that are looked into for others: those of splits are few, those of classes may be thousands."""
_ABOUT_ANYTHING = frozenset({"type", "level", "grade", "y"})
"""Columns that may be the class, as their names do not tell."""
_NAMES = ("metadata.csv", "metadata.jsonl")

Place = TypeVar("Place")
"""Where an image lies: a file, or a member of an archive."""


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


@dataclass(frozen=True)
class Metadata(Generic[Place]):
    """A metadata file that was read.

    Attributes:
        name: within the source.
        table: what it holds.
        locate: the place of each path of it, or None where there is none.
    """

    name: str
    table: Table
    locate: Callable[[Sequence[str]], list[Place | None]]


def says_labels(table: Table, reading: Reading) -> bool:
    """Whether a metadata file says each image's class: else it has captions or the like, and folders say it."""
    names = {plain_name(name) for name in table.columns}
    return "label" in reading.columns or bool(names & set(LABELS))


def find_by_metadata(folder: Path, files: Sequence[Path], reading: Reading) -> Found:
    """The images that metadata files list; a column, or the folders that they lie in, say the splits.

    Args:
        folder: the source.
        files: of `metadata_in`; their paths start from their own folders.
        reading: its columns, where they do not say them.

    Raises:
        InputError: as of `raysearch.data.manifest.found_in_table`.
    """
    tables = {file: read_table(file) for file in files}
    told = [
        Metadata(file.relative_to(folder).as_posix(), table, partial(located, file.parent, encoding=table.encoding))
        for file, table in tables.items()
    ]
    return found_by_metadata(str(folder), told, reading, FileReader, walk_folder(folder).images)


def metadata_in_zip(
    names: Sequence[str], read: Callable[[str], bytes], members: Mapping[str, str]
) -> list[Metadata[str]]:
    """The metadata files in a zip.

    Args:
        names: of tables, within the source.
        read: a table by its name.
        members: the member's own name for each name within the source.
    """
    known = {same_form(name): member for name, member in members.items()}

    def locate(paths: Sequence[str], inside: str) -> list[str | None]:
        return [known.get(same_form(normpath(f"{inside}/{path}".replace("\\", "/")).lstrip("/"))) for path in paths]

    found = []
    for name in names:
        inside, _, own = name.rpartition("/")
        if own in _NAMES:
            table = parse_table(read(name), Path(name))
            found.append(Metadata(name, table, partial(locate, inside=inside)))
    return found


def found_by_metadata(
    source: str,
    told: Sequence[Metadata[Place]],
    reading: Reading,
    reader: Callable[[Sequence[Place]], Reader],
    images: Iterable[str],
) -> Found:
    """The images that metadata list, wherever these lie.

    Args:
        source: for messages.
        told: what was read.
        reading: of its columns.
        reader: makes one of the images' places.
        images: all that are there, by their names within the source.

    Raises:
        InputError: as of `find_by_metadata`.
    """
    paths, labels, splits = list[str](), list[str](), list[str]()
    found: list[Place] = []
    problems: list[str] = []
    account, read = Account(), list[Rows]()
    for one in told:
        try:
            rows = read_rows(one.name, one.table.columns, reading)
            at = one.locate(rows.paths)
        except InputError as error:
            problems += error.problems
            continue
        absent = [path for path, place in zip(rows.paths, at, strict=True) if place is None]
        if absent:
            problems.append(f"{source}: {one.name} lists {len(absent)} files that are not there: {some(absent)}.")
        inside = PurePosixPath(one.name).parent
        paths += [(inside / path.replace("\\", "/")).as_posix() for path in rows.paths]
        labels, splits = labels + rows.labels, splits + rows.splits
        read.append(rows)
        found += [place for place in at if place is not None]
        account = account.adding(notes=(*one.table.notes, *rows.notes), not_read=rows.not_read, doubts=one.table.doubts)
    twice = sorted(path for path, times in Counter(paths).items() if times > 1)
    if twice:
        problems.append(f"{source}: the metadata list {len(twice)} images more than once: {some(twice)}.")
    problems += label_problems(source, labels)
    if problems:
        raise InputError(problems)
    if not any(splits):
        splits = _splits_of_folders(paths)
    unlisted = Tallies()
    listed = set(paths)
    for name in images:
        if readable(name) not in listed:
            unlisted.add("images that the metadata do not list", readable(name))
    account = Account(
        f"{len(set(labels))} classes in {some([one.name for one in told])}"
        + (", in folders that say the splits." if any(splits) else "."),
        notes=tuple(dict.fromkeys(account.notes)),
        passed_over=unlisted.result(),
        not_read=tuple(dict.fromkeys(account.not_read)),
        doubts=(*account.doubts, *label_doubts(source, labels), *_other_classes(told, reading, paths, labels)),
    )
    return Found(
        paths,
        labels,
        splits,
        reader(found),
        account=account,
        groups=_joined([(rows.groups, len(rows.paths)) for rows in read]),
        suspected=_joined([(rows.suspected, len(rows.paths)) for rows in read]),
    )


def _joined(groupings: Sequence[tuple[Grouping | None, int]]) -> Grouping | None:
    """The groupings of several tables, each with its number of images, as one; None: no table has any."""
    what = dict.fromkeys(one.what for one, _ in groupings if one is not None)
    names = [name for one, images in groupings for name in (one.names if one is not None else [""] * images)]
    return Grouping(some(list(what)), names) if what else None


def _other_classes(
    told: Sequence[Metadata[Place]], reading: Reading, paths: Sequence[str], labels: Sequence[str]
) -> list[Doubt]:
    """What is said where a column is taken for the class that may be about anything, and folders say something else."""
    chosen = {label_among(one.name, one.table.columns) for one in told} if "label" not in reading.columns else set()
    if not (weak := sorted(name for name in chosen if name is not None and plain_name(name) in _ABOUT_ANYTHING)):
        return []
    pairs = {(PurePosixPath(path).parent.name, label) for path, label in zip(paths, labels, strict=True)}
    folders = {folder for folder, _ in pairs}
    if len(folders) < 2 or len(pairs) == len(folders) == len(set(labels)) or all(map(split_name, folders)):
        return []
    return [
        Doubt(
            f"The column {weak[0]} is taken for the class, and the images lie in folders that say something else: "
            f"{some(sorted(folders))}.",
            "If the folders are right, rename the column; if it is, name it by --columns label=" + weak[0] + ".",
        )
    ]


def _splits_of_folders(paths: Sequence[str]) -> list[str]:
    """train, val or test by the outermost folders that say it; "" where none does."""
    parts = [path.split("/")[:-1] for path in paths]
    for depth in range(max(map(len, parts), default=0)):
        known = split_folders({one[depth] for one in parts if len(one) > depth})
        if known:
            return [known.get(one[depth], "") if len(one) > depth else "" for one in parts]
    return [""] * len(paths)

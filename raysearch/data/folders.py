"""Folders of class folders, on disk or in a zip: from names alone to labels and splits."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from raysearch.data.account import EXAMPLES, Account, Doubt, Tallies
from raysearch.data.beside import call_of, folder_doubts, says_otherwise, split_doubts, tables_beside, way_out
from raysearch.data.decode import EXTENSIONS
from raysearch.data.files import FileReader, ZipReader
from raysearch.data.layout import Layout, read_layout
from raysearch.data.listing import Found, Grouping, Reader, Skipped, some
from raysearch.data.metadata import found_by_metadata, metadata_in_zip, says_labels
from raysearch.data.names import readable
from raysearch.data.reading import AS_IT_IS
from raysearch.data.split_names import split_name
from raysearch.data.walk import Walked, is_run, walk_folder, walk_zip
from raysearch.errors import InputError

OUTSIDE = "not in a class folder"


def find_in_folder(folder: Path) -> Found:
    """`train/ [val/] test/` of class folders, class folders with splits in each, or class folders alone.

    Raises:
        InputError: no images, or a layout that says no classes, or that can be read in several ways.
    """
    if is_run(folder):
        raise InputError(f"{folder} is the folder of a run, not one of images.")
    walked = walk_folder(folder)
    tables = tables_beside(
        walked.tables,
        lambda name: (folder / name).stat().st_size,
        lambda name: (folder / name).read_bytes(),
        walked.images,
    )
    try:
        layout = _layout(walked, str(folder))
    except InputError as error:
        named = way_out(folder, tables)
        raise InputError([*error.problems, *([named] if named else [])]) from error
    names, labels = list(layout.images), [label for label, _ in layout.images.values()]
    layout.doubts += folder_doubts(folder, tables, names, labels)
    splits = [split for _, split in layout.images.values()]
    layout.doubts += split_doubts(tables, splits, lambda table: f"Give {call_of(folder, table.name)}.")
    return _found(walked, layout, FileReader([folder / name for name in names]), str(folder))


def find_in_zip(archive: Path) -> Found:
    """The same layouts inside a zip.

    Raises:
        InputError: not a zip, an encrypted one, no images, or a layout that says no classes, or several.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            if any(member.flag_bits & 1 for member in opened.infolist()):
                raise InputError(f"{archive} is encrypted; unpack it and give the folder.")
            walked, members = walk_zip(opened)
            told = metadata_in_zip(walked.tables, lambda name: opened.read(members[name]), members)
            tables = tables_beside(
                walked.tables,
                lambda name: opened.getinfo(members[name]).file_size,
                lambda name: opened.read(members[name]),
                walked.images,
            )
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{archive} cannot be read as a zip ({error}).") from error
    if any(says_labels(one.table, AS_IT_IS) for one in told):
        return found_by_metadata(str(archive), told, AS_IT_IS, partial(ZipReader, archive), walked.images)
    unpack = "such a table in a zip is not read: unpack it, and give the folder or the table"
    try:
        layout = _layout(walked, str(archive))
    except InputError as error:
        named = some([table.name for table in tables])
        raise InputError(
            [*error.problems, *([f"{named} in it says classes, but {unpack}."] if tables else [])]
        ) from error
    names, labels = list(layout.images), [label for label, _ in layout.images.values()]
    if other := says_otherwise(tables, names, labels):
        raise InputError(f"{archive}: {other[0][1]}. If the table is right: {unpack}; if it is not, take it out.")
    splits = [split for _, split in layout.images.values()]
    layout.doubts += split_doubts(tables, splits, lambda _: f"If it is right: {unpack}.")
    return _found(walked, layout, ZipReader(archive, [members[name] for name in names]), str(archive))


def found_among(walked: Walked, source: str, reader: Callable[[Sequence[str]], Reader]) -> Found:
    """The same layouts among what was met in any other archive.

    Args:
        walked: what was met.
        source: for messages.
        reader: makes one of the names of images.

    Raises:
        InputError: no images, or a layout that says no classes, or several.
    """
    layout = _layout(walked, source)
    return _found(walked, layout, reader(list(layout.images)), source)


def _layout(walked: Walked, source: str) -> Layout:
    """The reading of what was met, its images in the order of their names.

    Raises:
        InputError: no images, no reading, or a class folder without images.
    """
    if not walked.images:
        unread = " ".join(f"There are {tally.line()}." for tally in walked.passed.result() if tally.remedy)
        raise InputError(f"{source} holds no images (files ending in {', '.join(EXTENSIONS)}). {unread}".strip())
    layout = read_layout(walked.images, source)
    layout.images = dict(sorted(layout.images.items()))
    _check_empty(walked, layout, source)
    return layout


def _check_empty(walked: Walked, layout: Layout, source: str) -> None:
    """Folders that stand where classes do must hold images; such that hold other files may lie beside them."""
    holding = _folders_of(layout.images)
    labels = {label for label, _ in layout.images.values()}
    trained = {label for label, split in layout.images.values() if split in ("", "train")}
    empty, others = [], Tallies()
    for folder, filled in walked.folders.items():
        above, _, own = folder.rpartition("/")
        if above not in layout.places or folder in holding:
            continue
        if layout.places[above] in ("val", "test") and own in trained and not filled:
            continue  # as if it were not there, which is told elsewhere
        unread = [
            kind for place, kinds in walked.unread.items() if f"{place}/".startswith(f"{folder}/") for kind in kinds
        ]
        if unread:
            empty.append(f"{readable(folder)} ({len(unread)} {unread[0]} are in it)")
        elif not filled or own in labels:
            empty.append(readable(folder))
        else:
            others.add("folders without images", readable(folder))
    if empty:
        raise InputError(f"{source} has class folders without images: {some(empty)}. Fill them or take them away.")
    layout.passed_over += others.result()
    tops = {place.rpartition("/")[0] for place, split in layout.places.items() if split}
    for folder, filled in walked.folders.items():
        above, _, own = folder.rpartition("/")
        if above in tops and not filled and split_name(own):
            told = f"{readable(folder)}/ is empty, so its images are cut from the training images."
            layout.doubts.append(Doubt(told, "Fill it, or take it away."))


def _folders_of(images: Iterable[str]) -> set[str]:
    """The folders that images lie in, and those above."""
    found: set[str] = set()
    for folder in {image.rpartition("/")[0] for image in images}:
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _found(walked: Walked, layout: Layout, reader: Reader, source: str) -> Found:
    names, strays = list(layout.images), [readable(name) for name in sorted(layout.strays)]
    doubts = [*_unread_doubts(walked), *layout.doubts, *walked.doubts]
    if strays:
        told = f"{len(strays):,} images of {source} lie in no class folder and are left out ({some(strays)})."
        doubts.append(Doubt(told, "Put them into the folders of their classes, or take them away."))
    notes = []
    if walked.by_content:
        named = some(walked.by_content, EXAMPLES)
        notes.append(f"{len(walked.by_content):,} images are known by their content, not by their ending ({named}).")
    passed_over = (*layout.passed_over, *walked.passed.result())
    account = Account(layout.reading, notes=tuple(notes), passed_over=passed_over, doubts=tuple(doubts))
    return Found(
        [readable(name) for name in names],
        [readable(label) for label, _ in layout.images.values()],
        [split for _, split in layout.images.values()],
        reader,
        skipped=tuple(Skipped(name, OUTSIDE) for name in strays),
        account=account,
        suspected=_within_classes(layout, names) if layout.groups else None,
    )


def _within_classes(layout: Layout, names: Sequence[str]) -> Grouping:
    folders = [readable(layout.groups.get(name, "")) for name in names]
    return Grouping("the folders within the class folders", folders)


def _unread_doubts(walked: Walked) -> list[Doubt]:
    """Files that may have been meant as images."""
    meant = {kind for kinds in walked.unread.values() for kind in kinds}
    return [
        Doubt(
            f"{tally.count:,} {tally.what} are not read ({', '.join(tally.examples)}).",
            f"To have them used, {tally.remedy}.",
        )
        for tally in walked.passed.result()
        if tally.what in meant
    ]

"""Tables that lie beside images in a folder or a zip, and say other classes than the folders do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from raysearch.data.account import Doubt
from raysearch.data.listing import some
from raysearch.data.lookup import NamedPlaces
from raysearch.data.names import readable
from raysearch.data.reading import AS_IT_IS
from raysearch.data.roles import KNOWN, read_rows
from raysearch.data.table import parse_csv
from raysearch.errors import InputError

_ENDINGS = (".csv", ".tsv")
_MOST_BYTES, _MOST_TABLES = 16 << 20, 8
"""Larger tables, and more of them, are not looked into: they are a help, and must not take minutes."""
_SHARE = 0.5
"""Of the images, which a table must name to be one of them."""


@dataclass(frozen=True)
class Beside:
    """A table that names images that lie beside it.

    Attributes:
        name: within the source.
        labels: what it says of images, by their names within the source.
        splits: whether it says splits, too.
    """

    name: str
    labels: Mapping[str, str]
    splits: bool


def tables_beside(
    names: Sequence[str], size: Callable[[str], int], read: Callable[[str], bytes], images: Sequence[str]
) -> list[Beside]:
    """The tables that say classes of images: of at least half of those that lie in the table's folder, or below it.

    Args:
        names: of tables, within the source.
        size: of a table, in bytes.
        read: a table.
        images: names within the source.
    """
    if not names:
        return []
    places, found = NamedPlaces(_stem), []
    for image in images:
        places.add(image)
    for name in [name for name in names if name[-4:].lower() in _ENDINGS and size(name) <= _MOST_BYTES][:_MOST_TABLES]:
        try:
            table = parse_csv(read(name), Path(name), tuple(KNOWN))
            rows = read_rows(name, table.columns, AS_IT_IS)
        except (InputError, OSError):
            continue  # it is none of images, or says no class: nothing that anybody asked for
        labels, inside = {}, PurePosixPath(name).parent
        for path, label in zip(rows.paths, rows.labels, strict=True):
            named = places.of(str(inside / path.replace("\\", "/")))
            if len(named) == 1:
                labels[named[0]] = label
        # Of images beside it, or below; a table in a folder without images is about all of them.
        near = sum(image.startswith(f"{inside}/") for image in images) or len(images)
        if labels and len(labels) >= _SHARE * near and len(set(labels.values())) > 1:
            found.append(Beside(name, labels, any(rows.splits)))
    return found


def says_otherwise(tables: Iterable[Beside], images: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str]]:
    """The tables that do not say the classes that the folders say, and what they say of some image.

    Names of classes may differ, if each stands for one of the other's.

    Args:
        tables: of this source.
        images: names within it, shape (n,).
        labels: by the folders, shape (n,).
    """
    found = []
    for table in tables:
        told = [(table.labels[image], label, image) for image, label in zip(images, labels, strict=True)
                if image in table.labels]  # fmt: skip
        pairs = {(said, label) for said, label, _ in told}
        if not len(pairs) == len({said for said, _ in pairs}) == len({label for _, label in pairs}):
            said, label, image = next((one for one in told if one[0] != one[1]), told[0])
            found.append((table.name, f"{table.name} says {said} of {readable(image)}, its folder {label}"))
    return found


def split_doubts(tables: Iterable[Beside], splits: Iterable[str], remedy: Callable[[Beside], str]) -> list[Doubt]:
    """What is said of tables that say splits where nothing that is read does.

    Args:
        tables: of this source.
        splits: of its images, "" where nothing says one.
        remedy: what to do if the table is right.
    """
    if any(splits):
        return []
    return [
        Doubt(f"{table.name} says splits, and is not read: val and test are cut from all images.", remedy(table))
        for table in tables
        if table.splits
    ]


def folder_doubts(folder: Path, tables: Sequence[Beside], images: Sequence[str], labels: Sequence[str]) -> list[Doubt]:
    """What is said of tables in a folder that say other classes than the folders that are read."""
    return [
        Doubt(
            f"{what}: the folders are taken for the classes.", f"If the table is right, give {call_of(folder, name)}."
        )
        for name, what in says_otherwise(tables, images, labels)
    ]


def way_out(folder: Path, tables: Sequence[Beside]) -> str:
    """What is said of tables that name the images of a folder which cannot be read by itself; "" without any."""
    if not tables:
        return ""
    told = some([f"{table.name} ({len(set(table.labels.values()))} classes)" for table in tables])
    if len(tables) > 1:
        return (
            f"Tables say classes of its images: {told}. Join them to one .csv, with a column split if each is of one."
        )
    return f"A table says classes of its images: {told}; give {call_of(folder, tables[0].name)}."


def call_of(folder: Path, name: str) -> str:
    """What to type to have a table in a folder read."""
    return f"--data {folder / name} --images {folder}"


def _stem(image: str) -> str:
    return PurePosixPath(image).stem if "." in PurePosixPath(image).name else PurePosixPath(image).name

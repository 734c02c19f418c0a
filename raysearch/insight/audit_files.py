"""What an audit writes beside its page: tables of what was found, and the manifest of what is left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raysearch.data.chosen import COLUMN, named_from
from raysearch.data.files import FileReader
from raysearch.data.listing import Listing, some
from raysearch.data.names import one_line, readable
from raysearch.data.table import read_csv
from raysearch.errors import InputError
from raysearch.insight.audit import Audit
from raysearch.storage.files import replace_with

DIGITS = 4


def write_tables(audit: Audit, folder: Path) -> None:
    """Write each of `TABLES`.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, table in TABLES.items():
        replace_with(folder / name, partial(table(audit).to_csv, index=False))


def label_errors(audit: Audit) -> pd.DataFrame:
    """Labels that are probably wrong, the surest first: path, label, suggested, confidence, split."""
    places, errors, classes = audit.errors.places, audit.errors, np.array(audit.of.classes)
    return pd.DataFrame(
        {
            "path": _paths(audit, places),
            "label": classes[audit.of.images.labels[places]],
            "suggested": classes[errors.suggested[places]],
            "confidence": errors.confidence[places].round(DIGITS),
            "split": audit.of.splits[places],
        }
    )


def duplicates(audit: Audit) -> pd.DataFrame:
    """Pairs that show one picture: path, other, kind, across_splits, across_classes, likeness."""
    pairs = audit.duplicates
    return pd.DataFrame(
        {
            "path": _paths(audit, [pair.image for pair in pairs]),
            "other": _paths(audit, [pair.other for pair in pairs]),
            "kind": [pair.kind for pair in pairs],
            "across_splits": [audit.across_splits(pair) for pair in pairs],
            "across_classes": [audit.across_classes(pair) for pair in pairs],
            "likeness": [round(pair.likeness, DIGITS) for pair in pairs],
        }
    )


def images(audit: Audit) -> pd.DataFrame:
    """Every image, those that cannot be read behind the others, with a reason."""
    of, facts, n = audit.of, audit.facts, len(audit.of)
    wrong = np.zeros(n, bool)
    wrong[audit.errors.places] = True
    outlier = np.zeros(n, bool)
    outlier[audit.outliers.places] = True
    classes = np.array(of.classes)
    table = pd.DataFrame(
        {
            "path": _paths(audit, range(n)),
            "split": of.splits,
            "label": classes[of.images.labels],
            "suggested": classes[audit.errors.suggested],
            "confidence": audit.errors.confidence.round(DIGITS),
            "label_error": wrong,
            "outlier_score": audit.outliers.score.round(2),
            "outlier": outlier,
            "width": facts.width,
            "height": facts.height,
            "bytes": facts.bytes,
            "brightness": facts.brightness.round(1),
            "contrast": facts.contrast.round(1),
            "tiny": facts.tiny,
            "blank": facts.blank,
            "unreadable": "",
        }
    )
    unread = pd.DataFrame(
        {
            "path": [readable(one.path) for one in of.skipped],
            "unreadable": [readable(one.reason) for one in of.skipped],
        }
    )
    return pd.concat([table, unread], ignore_index=True) if len(unread) else table


TABLES = {"label_errors.csv": label_errors, "duplicates.csv": duplicates, "images.csv": images}
"""What the folder of an audit gets beside its page."""


def read_drop_list(file: Path) -> list[str]:
    """The paths in a list of images to leave out: a .csv with a column path, as the audit's page gives it.

    Raises:
        InputError: it cannot be read, or has no such column.
    """
    columns = read_csv(file, ("path",)).columns
    if "path" not in columns:
        raise InputError(f"--drop {file}: its first line must have the column path, got {some(list(columns), 10)}")
    return [path for path in columns["path"] if path]


def rows_named(listing: Listing, paths: Sequence[str], file: Path) -> NDArray[np.int64]:
    """The rows of images by their paths within the source.

    Raises:
        InputError: the source has no such image.
    """
    rows = {spelt: row for row, path in enumerate(listing.paths) for spelt in (one_line(path), readable(path))}
    if absent := [path for path in paths if path not in rows]:
        raise InputError(
            f"--drop {file} names {len(absent)} images that {listing.source} does not have: {some(absent)}. Paths are "
            "those of the audit's own files."
        )
    return np.array([rows[path] for path in paths], np.int64)


def write_manifest(file: Path, listing: Listing, dropped: Iterable[int]) -> tuple[int, int]:
    """Write the images that are left as a .csv that is a source itself; validation and test images all stay.

    Images that the source keeps together have the same name in a column `group`, which a source reads by itself.

    Paths of files are relative to the manifest's folder. Where images are no files, the manifest names the source too:
    see `raysearch.data.chosen`.

    Args:
        file: ends in .csv.
        listing: every image.
        dropped: rows that are left out, if they are training images.

    Returns:
        how many training images were left out, and how many others were named and stay.

    Raises:
        InputError: a class would have no training image.
    """
    train = listing.splits == "train"
    gone = np.zeros(len(listing), bool)
    gone[list(dropped)] = True
    left = ~(gone & train)
    counts = (np.bincount(listing.labels[which & train], minlength=len(listing.classes)) for which in (train, left))
    before, after = counts
    if empty := [listing.classes[label] for label in np.flatnonzero((before > 0) & (after == 0))]:
        raise InputError(f"--write {file}: no training image of {some(empty)} would be left; drop fewer images")
    rows = np.flatnonzero(left)
    table = pd.DataFrame(
        {
            "path": [_named(listing, int(row), file.parent) for row in rows],
            "label": np.array(listing.classes)[listing.labels[rows]],
            "split": listing.splits[rows],
        }
    )
    if listing.group_names is not None:
        table["group"] = [readable(listing.group_names[row]) for row in rows]
    if not isinstance(listing.reader, FileReader):
        table[COLUMN] = named_from(file.parent, listing.source)
    replace_with(file, partial(table.to_csv, index=False))
    return int((~left).sum()), int((gone & ~train).sum())


def _named(listing: Listing, row: int, folder: Path) -> str:
    if isinstance(listing.reader, FileReader):
        path = os.path.relpath(listing.reader.file(row).absolute(), folder.absolute())
        return readable(path).replace("\\", "/") if os.sep == "\\" else readable(path)
    return readable(listing.paths[row])


def _paths(audit: Audit, places: Iterable[int]) -> list[str]:
    return [readable(audit.of.images.paths[place]) for place in places]

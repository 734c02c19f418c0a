"""A .csv manifest: path,label[,split], paths relative to the manifest."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from raysearch.data.account import Account
from raysearch.data.columns import label_doubts, not_read, split_values
from raysearch.data.files import FileReader
from raysearch.data.listing import Found, some
from raysearch.data.names import same_form
from raysearch.data.split_names import split_name
from raysearch.errors import InputError

_SEPARATORS = "|;"


def find_in_manifest(manifest: Path) -> Found:
    """The images that a manifest lists.

    Raises:
        InputError: missing columns, empty labels, unknown splits, files that are not there, an image listed twice, and
            targets that are not single labels: all of them together.
    """
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = tuple(name.strip().lower() for name in reader.fieldnames or ())
            reader.fieldnames = columns
            rows = [{key: (value or "").strip() for key, value in row.items() if key in columns} for row in reader]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{manifest} cannot be read as a .csv in UTF-8 ({error}).") from error
    absent = [name for name in ("path", "label") if name not in columns]
    if absent:
        raise InputError(
            f"{manifest} lacks the column{'s' * (len(absent) > 1)} {' and '.join(absent)}: its first line must be "
            f"path,label or path,label,split, got {','.join(columns) or 'nothing'}."
        )
    if not rows:
        raise InputError(f"{manifest} lists no images.")
    paths = [row["path"] for row in rows]
    labels = [row["label"] for row in rows]
    files = located(manifest.parent, paths)
    problems = [*_missing(manifest, paths, files), *_twice(manifest, paths, labels)]
    problems += label_problems(str(manifest), labels)
    splits = [""] * len(rows)
    others = {name: [row[name] for row in rows] for name in columns if name and name not in ("path", "label", "split")}
    notes = []
    if "split" in columns:
        splits = [split_name(row["split"]) or "" for row in rows]
        wrong = sorted({row["split"] or "(empty)" for row in rows if split_name(row["split"]) is None})
        if wrong:
            problems.append(f"{manifest}: split must be train, val or test, got {some(wrong)}.")
    else:
        try:
            if (said := split_values(str(manifest), others)) is not None:
                notes.append(f"The column {said[0]} says the splits.")
                splits = said[1]
                del others[said[0]]
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    account = Account(
        f"{len(set(labels))} classes in {manifest.name}" + (", which gives the splits." if any(splits) else "."),
        notes=tuple(notes),
        not_read=tuple(not_read(manifest.name, list(others))),
        doubts=tuple(label_doubts(manifest.name, labels)),
    )
    return Found(paths, labels, splits, FileReader([file for file in files if file is not None]), account=account)


def located(folder: Path, paths: Sequence[str]) -> list[Path | None]:
    """The file of each path, relative to `folder`; None where there is none.

    A path that is not there as it stands is looked for with Windows' separators turned round, and in the other form of
    Unicode: tables are written on other machines than those that hold the images.
    """

    def find(path: str) -> Path | None:
        turned = path.replace("\\", "/")
        for one in dict.fromkeys(
            (path, turned, unicodedata.normalize("NFC", turned), unicodedata.normalize("NFD", turned))
        ):
            if one and (whole := folder / one).is_file():
                return whole
        return None

    return [find(path) for path in paths]


def label_problems(source: str, labels: list[str]) -> list[str]:
    """What makes labels something other than one class an image."""
    problems = []
    empty = sum(not label for label in labels)
    if empty:
        problems.append(f"{source}: {empty} images have no label.")
    distinct = {label for label in labels if label}
    several = sorted(label for label in distinct if any(mark in label for mark in _SEPARATORS))
    if several:
        problems.append(
            f"{source} looks multi-label (labels such as {some(several)}): only single-label classification is "
            "supported. Choose one label an image."
        )
    numbers = [_number(label) for label in distinct]
    if distinct and all(number is not None for number in numbers):
        broken = sorted(label for label in distinct if not float(label).is_integer())
        if broken:
            problems.append(
                f"{source} looks like regression (targets such as {some(broken)}): only classification is supported. "
                "Give class names or whole numbers as labels."
            )
    return problems


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _missing(manifest: Path, paths: Sequence[str], files: Sequence[Path | None]) -> list[str]:
    absent = [path or "(empty path)" for path, file in zip(paths, files, strict=True) if file is None]
    return [f"{manifest} lists {len(absent)} files that are not there: {some(absent)}."] if absent else []


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

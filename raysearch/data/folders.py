"""Folders of class folders, on disk or in a zip: from names alone to labels and splits."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from raysearch.data.decode import EXTENSIONS
from raysearch.data.files import FileReader, ZipReader
from raysearch.data.listing import Found, Skipped, some, split_name
from raysearch.errors import InputError

_OUTSIDE = "not in a class folder"


def find_in_folder(folder: Path) -> Found:
    """`train/ [val/] test/` of class folders, or class folders alone.

    Raises:
        InputError: no images, or a layout that says no classes.
    """
    names = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(root).relative_to(folder)
        names += [f"{(inside / name).as_posix()}/" for name in folders] + [(inside / name).as_posix() for name in files]
    kept, labels, splits, skipped = arrange(names, str(folder))
    return Found(kept, labels, splits, FileReader([folder / name for name in kept]), skipped=skipped)


def find_in_zip(archive: Path) -> Found:
    """The same layouts inside a zip.

    Raises:
        InputError: not a zip, an encrypted one, no images, or a layout that says no classes.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{archive} cannot be read as a zip ({error}).") from error
    if any(member.flag_bits & 1 for member in members):
        raise InputError(f"{archive} is encrypted; unpack it and give the folder.")
    names = [member.filename for member in members]
    kept, labels, splits, skipped = arrange(names, str(archive))
    return Found(kept, labels, splits, ZipReader(archive, kept), skipped=skipped)


def arrange(names: Sequence[str], source: str) -> tuple[list[str], list[str], list[str], tuple[Skipped, ...]]:
    """Labels and splits from image names like `train/cat/1.jpg`, `cat/1.jpg` or `photos/cat/1.jpg`.

    Files that are not images, and hidden ones, are passed over; images outside class folders are skipped and recorded.
    Names that end in a slash are folders: one in the place of a class must hold images.

    Returns:
        the images' names, sorted; their labels; their splits ("" where the layout says none); the skipped ones.
    """
    images = sorted(name for name in names if _is_image(name))
    if not images:
        raise InputError(f"{source} holds no images (files ending in {', '.join(EXTENSIONS)}).")
    parts = {name: name.split("/") for name in images}
    strip = _wrapper_depth(list(parts.values()))
    tops = {split_name(part[strip]) for part in parts.values() if len(part) > strip + 1}
    split_layout = bool(tops - {None})
    if split_layout and None in tops:
        others = sorted({p[strip] for p in parts.values() if len(p) > strip + 1 and split_name(p[strip]) is None})
        raise InputError(
            f"{source} has class folders beside its train, val or test folders: {some(others)}. "
            "Put them into one of the splits, or take them away."
        )
    level = strip + split_layout
    inside = [name for name in images if len(parts[name]) > level + 1]
    if not inside:
        raise InputError(
            f"{source} has {len(images)} images but no class folders: put each class's images into a folder of its "
            "name, or give a .csv manifest with the columns path,label."
        )
    classes = {tuple(parts[name][: level + 1]) for name in inside}
    folders = {tuple(name[:-1].split("/")) for name in names if name.endswith("/") and not _is_hidden(name)}
    empty = sorted("/".join(folder) for folder in folders if len(folder) == level + 1 and folder not in classes)
    if empty:
        raise InputError(f"{source} has class folders without images: {some(empty)}. Fill them or take them away.")
    skipped = tuple(Skipped(name, _OUTSIDE) for name in images if len(parts[name]) <= level + 1)
    labels = [parts[name][level] for name in inside]
    splits = [(split_name(parts[name][strip]) or "") if split_layout else "" for name in inside]
    return inside, labels, splits, skipped


def _is_image(name: str) -> bool:
    return not _is_hidden(name) and name.lower().endswith(EXTENSIONS)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _wrapper_depth(paths: Sequence[Sequence[str]]) -> int:
    """How many leading folders hold everything and mean nothing, as `archive/` in `archive/train/cat/1.jpg`.

    The deepest folder is never one: in `cat/1.jpg` it is the class.
    """
    depth = 0
    while len({path[depth] for path in paths}) == 1 and split_name(paths[0][depth]) is None:
        if any(len(path) < depth + 3 for path in paths):
            break
        depth += 1
    return depth

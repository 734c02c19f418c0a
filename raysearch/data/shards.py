"""Data sets that lie in several files of one kind: their names, which may be a pattern, and the splits these say."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from raysearch.data.decode import EXTENSIONS
from raysearch.data.extras import readable_endings
from raysearch.data.kinds import junk_folder
from raysearch.data.listing import some
from raysearch.data.split_names import split_name, words_of
from raysearch.errors import InputError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
ENDINGS = (".tar", ".parquet")
"""Of the kinds of shards."""
_DEPTH = 3
"""Folders below the named one in which shards are looked for."""


def is_pattern(source: str) -> bool:
    """Whether a source names files by braces or wildcards."""
    return any(mark in source for mark in "{*?[")


def expand(pattern: str) -> list[Path]:
    """The files of a pattern: `{0000..0009}` counts, `{a,b}` is either, `*`, `?` and `[…]` are wildcards.

    Raises:
        InputError: a name that braces give is not there, or wildcards find nothing.
    """
    names = [str(Path(name).expanduser()) for name in _without_braces(pattern)]
    found: list[Path] = []
    absent = []
    for name in names:
        paths = _matching(name) if is_pattern(name) else [Path(name)]
        files = [path for path in paths if path.is_file()]
        found += files
        absent += [name] * (not files)
    if absent:
        raise InputError(f"{pattern} names files that are not there: {some(absent)}.")
    return list(dict.fromkeys(found))


def _matching(pattern: str) -> list[Path]:
    whole = Path(pattern)
    return sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))


def _without_braces(pattern: str) -> list[str]:
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    counted = _RANGE.fullmatch(found[1])
    if counted is None:
        inside = found[1].split(",")
    else:
        first, last = int(counted[1]), int(counted[2])
        inside = [f"{number:0{len(counted[1])}}" for number in range(first, last + 1)]
    return [
        whole for one in inside for whole in _without_braces(f"{pattern[: found.start()]}{one}{pattern[found.end() :]}")
    ]


def shards_below(folder: Path) -> list[Path]:
    """The shards of a folder and of the folders in it, sorted by path; none where folders of images lie in it.

    Where there are several kinds, the kind of which there are more is taken.
    """
    found: dict[str, list[Path]] = {ending: [] for ending in ENDINGS}
    images = (*EXTENSIONS, *readable_endings())
    for root, folders, files in os.walk(folder):
        inside = Path(root).relative_to(folder)
        folders[:] = sorted(name for name in folders if junk_folder(name) is None)
        for name in files:
            lower = name.lower()
            if inside.parts and lower.endswith(images):
                return []
            if lower.endswith(ENDINGS) and not name.startswith(".") and len(inside.parts) < _DEPTH:
                found[Path(lower).suffix].append(Path(root, name))
    most = max(found, key=lambda ending: len(found[ending]))
    return sorted(found[most])


def names_within(files: Sequence[Path]) -> list[str]:
    """Each file's name from the folder that all of them lie in."""
    common = Path(*_common([file.absolute().parts[:-1] for file in files]))
    return [file.absolute().relative_to(common).as_posix() for file in files]


def _common(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    shortest = min(parts, key=len)
    same = [all(one[place] == shortest[place] for one in parts) for place in range(len(shortest))]
    return shortest[: same.index(False)] if False in same else shortest


def splits_of(source: str, names: Sequence[str]) -> list[str]:
    """train, val or test for each file by a word of its name, or else of its folder's; "" where none says it.

    Where there is a test split already, what is called `eval` is for validation.

    Args:
        source: for messages.
        names: of the files, such as train-00000-of-00002.parquet or val/0000.tar.

    Raises:
        InputError: a name says two splits.
    """
    said = [_split_words(name) for name in names]
    wrong = [name for name, words in zip(names, said, strict=True) if len(set(words.values())) > 1]
    if wrong:
        raise InputError(f"{source}: the names of {some(wrong)} say more than one split. Rename them.")
    evals = {"eval", "evaluation"}
    tested = any("test" in words.values() and not words.keys() & evals for words in said)
    return ["val" if tested and words.keys() & evals else next(iter(words.values()), "") for words in said]


def _split_words(name: str) -> dict[str, str]:
    """The words of a name that say a split, and the split."""
    for part in (PurePosixPath(name).stem, *reversed(PurePosixPath(name).parts[:-1])):
        words = {word: split for word in words_of(part) if (split := split_name(word)) is not None}
        if words:
            return words
    return {}

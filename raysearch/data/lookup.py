"""Finds the file of an image by what a table calls it."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from raysearch.data.decode import EXTENSIONS
from raysearch.data.extras import readable_endings
from raysearch.data.kinds import junk_folder
from raysearch.data.listing import some
from raysearch.data.names import readable, same_form
from raysearch.errors import InputError


def located(folder: Path, paths: Sequence[str], encoding: str = "utf-8", *, search: bool = False) -> list[Path | None]:
    """The file of each path, relative to `folder`; None where there is none.

    A path that is not there as it stands is looked for with Windows' separators turned round, in the other form of
    Unicode, as the bytes that the table has it in, and with an ending: tables are written on other machines than those
    that hold the images. With `search` it is last looked for anywhere below the folder, by its name without an
    ending, and of several files by the folders that they lie in: see `NamedPlaces`.

    Args:
        folder: that the paths start from.
        paths: as the table has them.
        encoding: of the table.
        search: whether the folder is searched to the bottom.

    Raises:
        InputError: a name is found in several places.
    """
    several: dict[str, list[Path]] = {}
    found = []
    for path in paths:
        files = _at(folder, path, encoding)
        found.append(files[0] if len(files) == 1 else None)
        if len(files) > 1:
            several[path] = files
    if several:
        raise _ambiguous(several, folder)
    if not search or None not in found:
        return found
    below = _below(folder)
    for place, path in enumerate(paths):
        if found[place] is None and path:
            names = below.of(path)
            if len(names) == 1:
                found[place] = folder / names[0]
            elif names:
                several[path] = [folder / one for one in names]
    if several:
        raise _ambiguous(several, folder)
    return found


class NamedPlaces:
    """Finds the place of an image within a source by the path that a table has for it.

    A table may be of another machine, so the folders need not be the same: of images that are called alike those are
    taken whose folders end in most of the folders that the path says. But where images lie in a folder of the last name
    that the path says, none of another folder is meant.

    Args:
        stem: what of a file's name must be the same.
    """

    def __init__(self, stem: Callable[[str], str]) -> None:
        self._stem = stem
        self._alike: dict[str, list[str]] = defaultdict(list)
        self._inside: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._folders: set[str] = set()

    def add(self, place: str) -> None:
        """An image that is there: its place, with slashes, from the source's folder on."""
        parents, name = _split(readable(place))
        for called in dict.fromkeys((name, self._stem(name))):
            self._alike[called].append(place)
            if parents:
                self._inside[parents[-1], called].append(place)
        self._folders.update(parents[-1:])

    def of(self, path: str) -> Sequence[str]:
        """The places of a path: one, or none, or several that it does not tell apart."""
        parents, name = _split(path.replace("\\", "/"))
        called = dict.fromkeys((name, self._stem(name)))
        if parents and (inside := next((self._inside[parents[-1], one] for one in called
                                        if (parents[-1], one) in self._inside), None)):  # fmt: skip
            alike = [_in_common(parents, _split(readable(place))[0]) for place in inside]
            return [place for place, depth in zip(inside, alike, strict=True) if depth == max(alike)]
        if parents and parents[-1] in self._folders:
            return []
        return next((self._alike[one] for one in called if one in self._alike), [])


def _split(path: str) -> tuple[tuple[str, ...], str]:
    """The folders of a path, as they are compared, and the name of its file."""
    *parents, name = PurePosixPath(path).parts or ("",)
    return tuple(map(same_form, parents)), name


def _in_common(ones: Sequence[str], others: Sequence[str]) -> int:
    """How many folders, from the last on, are the same."""
    pairs = zip(reversed(ones), reversed(others), strict=False)
    return next((depth for depth, (one, other) in enumerate(pairs) if one != other), min(len(ones), len(others)))


def _ambiguous(several: Mapping[str, Sequence[Path]], folder: Path) -> InputError:
    path, files = next(iter(several.items()))
    return InputError(
        f"{len(several)} names of images are found in several places below {folder}: {path} as "
        f"{some([str(file.relative_to(folder)) for file in files])}. Give the folder that holds the right ones by "
        "--images, or write paths into the table."
    )


def _at(folder: Path, path: str, encoding: str) -> list[Path]:
    """The file of one path where it says, in one of its spellings; several where it has no ending and they have."""
    if not path:
        return []
    turned = path.replace("\\", "/")
    spellings = [path, turned, unicodedata.normalize("NFC", turned), unicodedata.normalize("NFD", turned)]
    if encoding not in ("utf-8", "utf-8-sig") and not path.isascii():
        spellings.append(os.fsdecode(turned.encode(encoding, "replace")))
    if "\\x" in path:  # as `readable` writes bytes that are no UTF-8
        spellings.append(_with_bytes(turned))
    for one in dict.fromkeys(spellings):
        if (whole := folder / one).is_file():
            return [whole]
    endings = (*EXTENSIONS, *readable_endings())
    stem, given = turned, ""
    if turned.lower().endswith(endings):  # Windows and most Macs do not care how it is spelt
        stem, _, given = turned.rpartition(".")
    wanted = (f".{given.lower()}",) if given else endings
    ended = [folder / f"{stem}{spelt}" for ending in wanted for spelt in (ending, ending.upper())]
    files = {(stat.st_dev, stat.st_ino): whole for whole in ended if whole.is_file() and (stat := whole.stat())}
    return list(files.values())


def _with_bytes(path: str) -> str:
    """A path in which bytes are written as the name of a file has them."""
    return os.fsdecode(path.encode("utf-8").decode("unicode_escape").encode("latin-1", "replace"))


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if name.lower().endswith((*EXTENSIONS, *readable_endings())) else name


def _below(folder: Path) -> NamedPlaces:
    """The images below a folder; folders that no person made for images are passed over."""
    found = NamedPlaces(_stem)
    endings = (*EXTENSIONS, *readable_endings())
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if junk_folder(name) is None)
        for name in files:
            if name.lower().endswith(endings) and not name.startswith("."):
                found.add(Path(root, name).relative_to(folder).as_posix())
    return found

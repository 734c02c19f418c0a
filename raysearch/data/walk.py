"""Everything that lies in a folder or a zip, sorted by kind: images, folders, and what is passed over."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from raysearch.data.account import Doubt, Tallies
from raysearch.data.encodings import looks_chinese
from raysearch.data.kinds import HEAD_BYTES, IMAGE, IMAGE_BY_CONTENT, junk_folder, kind_of, meant_as_image
from raysearch.data.names import readable
from raysearch.storage.cache import cache_root

_RUN = ("run.json", frozenset(("log.jsonl", "space.py")))
"""A folder that holds the first and one of the others is a run's."""
_TABLES, _DEPTH = (".csv", ".tsv", ".jsonl"), 2
_OWN_PICTURES = ("plan.png", "augmented.png")


@dataclass
class Walked:
    """What was met below a source.

    Attributes:
        images: names within the source, folders separated by "/", as the file system has them.
        folders: every folder that may be part of a layout, by name; whether files lie in it or below.
        unread: files that may have been meant as images but are not read, by the folder that they lie in.
        by_content: images that are called otherwise than images are.
        passed: what was passed over, by kind.
        tables: of text, which may say what the images are; not those that lie deep.
        doubts: what is probably wrong.
    """

    images: list[str] = field(default_factory=list)
    folders: dict[str, bool] = field(default_factory=dict)
    unread: dict[str, list[str]] = field(default_factory=dict)
    by_content: list[str] = field(default_factory=list)
    passed: Tallies = field(default_factory=Tallies)
    tables: list[str] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)

    def meet(self, name: str, head: Callable[[], bytes]) -> None:
        """Take in one file, by its name within the source."""
        inside, _, own = name.rpartition("/")
        if own in _OWN_PICTURES and not inside:
            self.passed.add("pictures of raysearch's own", own)
            return
        kind, remedy = kind_of(own, head)
        if kind in (IMAGE, IMAGE_BY_CONTENT):
            self.images.append(name)
            if kind == IMAGE_BY_CONTENT:
                self.by_content.append(readable(name))
        elif kind:
            if own.lower().endswith(_TABLES) and inside.count("/") < _DEPTH:
                self.tables.append(name)
            self.passed.add(kind, readable(name), remedy)
            if meant_as_image(kind):
                self.unread.setdefault(inside, []).append(kind)
        self.fill(inside)

    def odd(self) -> list[str]:
        """What a person should hear of: what is not read but could be, and what is probably wrong."""
        passed = [f"passed over are {tally.line()}" for tally in self.passed.result() if tally.remedy]
        return [*passed, *(doubt.line() for doubt in self.doubts)]

    def fill(self, inside: str) -> None:
        """Note that something lies in a folder, and so in those above it."""
        while inside and not self.folders.get(inside):
            self.folders[inside] = True
            inside = inside.rpartition("/")[0]

    def pass_over(self, what: str, folder: str) -> None:
        """Leave out a whole folder."""
        self.passed.add(what, readable(folder))
        self.folders.pop(folder, None)
        self.fill(folder.rpartition("/")[0])


def walk_folder(folder: Path) -> Walked:
    """Everything below a folder; links are followed, and each real folder is entered once.

    Folders that no person put there for their images (thumbnails of a NAS, recycle bins, runs and caches of this
    program) are passed over.
    """
    walked, root = Walked(), str(folder)
    seen, cache = {_identity(root)}, _identity(str(cache_root()))
    waiting, links = deque([""]), deque[str]()
    while waiting or links:
        # What is linked to comes after everything that is really there: a folder keeps its own name, if it has one.
        if not waiting:
            link = links.popleft()
            if _once(walked, root, link, seen):
                waiting.append(link)
            continue
        inside = waiting.popleft()
        where = f"{root}/{inside}" if inside else root
        try:
            with os.scandir(where) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            told = f"The folder {readable(inside) or root} cannot be opened ({error.strerror})."
            walked.doubts.append(Doubt(told, "Nothing of it is read: see who may open it."))
            continue
        if inside and (own := _ours(entry.name for entry in entries)):
            walked.pass_over(own, inside)
            continue
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if not entry.is_dir():
                if entry.is_file() or not Path(entry.path).exists():  # a link to nothing is told when it cannot be read
                    walked.meet(name, partial(_head, entry.path))
                else:
                    walked.passed.add("pipes, sockets and devices", readable(name))
            elif junk := junk_folder(entry.name):
                walked.pass_over(junk, name)
            elif entry.is_symlink():
                links.append(name)
            elif (there := _identity(entry.path)) == cache:
                walked.pass_over("caches of raysearch", name)
            elif there not in seen:
                seen.add(there)
                walked.folders.setdefault(name, False)
                waiting.append(name)
    walked.images.sort()
    return walked


def walk_zip(archive: zipfile.ZipFile) -> tuple[Walked, dict[str, str]]:
    """Everything in a zip, and the member's own name for each image's."""
    walked = Walked()
    members = {}
    encoding = _encoding_of_names(archive, walked)
    for member in archive.infolist():
        name = _member_name(member, encoding)
        if name:
            members[name + "/" * member.is_dir()] = member.filename
    holds: dict[str, set[str]] = {}
    for name in members:
        inside, _, own = name.rpartition("/")
        holds.setdefault(inside, set()).add(own)
    left_out = {inside: made for inside, names in holds.items() if inside and (made := _ours(names))}
    for inside in holds:
        for folder in _with_parents(inside):
            if junk := junk_folder(folder.rpartition("/")[2]):
                left_out.setdefault(folder, junk)
    out = {folder: any(above in left_out for above in _with_parents(folder)) for folder in holds}
    for folder, what in left_out.items():
        if not any(above in left_out for above in _with_parents(folder)[:-1]):
            walked.pass_over(what, folder)
    for name, member_name in members.items():
        inside, _, own = name.rpartition("/")
        if not out[inside]:
            for folder in _with_parents(inside):
                walked.folders.setdefault(folder, False)
            if own:
                walked.meet(name, partial(_member_head, archive, member_name))
    walked.images.sort()
    return walked, members


def _with_parents(folder: str) -> list[str]:
    """a, a/b, a/b/c for a/b/c."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _encoding_of_names(archive: zipfile.ZipFile, walked: Walked) -> str:
    """What names that are no UTF-8 are in, which is told: the code page of DOS, as the format has it, or GBK."""
    unflagged = [member.filename for member in archive.infolist() if not member.flag_bits & 0x800]
    names = [name.encode("cp437") for name in unflagged if not name.isascii()]
    odd = [name for name in names if not _is_utf8(name)]
    if not odd:
        return "cp437"
    encoding = "gb18030" if looks_chinese(b"\n".join(odd)) else "cp437"
    told = f"{len(odd):,} names in the zip are not in UTF-8; they were read as {encoding}: {odd[0].decode(encoding)!r}."
    walked.doubts.append(Doubt(told, "If they look wrong, unpack it by unzip -O CODEPAGE, and give the folder."))
    return encoding


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _member_name(member: zipfile.ZipInfo, encoding: str) -> str:
    """The name of a member without "./" and "../", and with "/" between folders.

    It is in UTF-8 where its bytes are, flagged or not, and in `encoding` elsewhere.
    """
    name = member.filename.replace("\\", "/")
    if not member.flag_bits & 0x800:  # not said to be UTF-8, so zipfile took it for code page 437
        with contextlib.suppress(UnicodeError):
            data = name.encode("cp437")
            name = data.decode("utf-8" if _is_utf8(data) else encoding)
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


_WANDB_RUN = re.compile(r"(offline-)?run-20\d{6}_\d{6}-\w+")  # run-20240131_120000-1a2b3c4d


def _ours(names: Iterable[str]) -> str | None:
    """What a folder that holds these names is, if a program for training made it."""
    held = set(names)
    if _RUN[0] in held and held & _RUN[1]:
        return "run folders"
    if {"dataset.json", "train.npy"} <= held:
        return "caches of raysearch"
    if {"labels.json", "model.safetensors"} <= held:
        return "folders of a trained classifier"
    if "args.yaml" in held and held & {"weights", "results.csv"}:
        return "runs of ultralytics"
    if {"meta.yaml", "artifacts"} <= held:
        return "runs of MLflow"
    if "latest-run" in held or any(map(_WANDB_RUN.fullmatch, held)):
        return "folders of Weights & Biases"
    return None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, and none of images."""
    return (folder / _RUN[0]).is_file() and any((folder / name).is_file() for name in _RUN[1])


def _once(walked: Walked, root: str, link: str, seen: set[tuple[int, int]]) -> bool:
    """Whether a linked folder is to be entered: it is not above the link, nor has it been entered; else it is noted."""
    where = Path(root, link)
    target, there = where.resolve(), _identity(str(where))
    if where.parent.resolve().is_relative_to(target):
        walked.pass_over("links to a folder above them", link)
    elif there in seen:
        told = f"{readable(link)} links to a folder that is read already ({readable(str(target))}); it is read once."
        walked.doubts.append(Doubt(told, "Take the link away, or put other images there."))
        walked.fill(link.rpartition("/")[0])
    else:
        seen.add(there)
        walked.folders.setdefault(link, False)
        return True
    return False


def _identity(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return -1, hash(path)
    return status.st_dev, status.st_ino


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def _member_head(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as file:
            return file.read(HEAD_BYTES)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return b""

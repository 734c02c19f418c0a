"""Writes files and folders wholly or not at all, files patiently if asked; turns what Python holds into strict JSON."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

from raysearch.errors import StorageError

T = TypeVar("T")

PATIENCE_SECONDS = 300.0
"""How long a search waits for storage that refuses: a full disk, a bucket that is away."""
_PAUSE_SECONDS = 1.0
_NOT_REFUSED = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""The OSErrors that waiting does not mend."""


@dataclass
class _Patience:
    seconds: float
    tell: Callable[[str], None]
    spent: bool = False


_patience: ContextVar[_Patience | None] = ContextVar("patience", default=None)


@contextmanager
def patient(tell: Callable[[str], None], seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """What is written here, within the `with`, is tried again while the storage refuses; see `insist`.

    Args:
        tell: called when something is refused, and when it is taken again.
        seconds: of one refusal.
    """
    before = _patience.set(_Patience(seconds, tell))
    try:
        yield
    finally:
        _patience.reset(before)


def insist(work: Callable[[], T]) -> T:
    """Does `work`, which writes and can be done again; within `patient`, until it succeeds.

    Raises:
        StorageError: the patience is at its end, or that of a storage was. What follows is tried once, or the end would
            take as long again.
        OSError: as of `work`, outside of `patient`, or where waiting does not help.
    """
    patience = _patience.get()
    if patience is None:
        return work()
    until, refused = time.monotonic() + (0.0 if patience.spent else patience.seconds), False
    while True:
        try:
            done = work()
        except (StorageError, *_NOT_REFUSED):
            raise
        except OSError as error:
            if time.monotonic() >= until:
                patience.spent = True
                raise StorageError(f"the storage refuses to be written to: {error}") from error
            if not refused:
                again = f"trying again for {patience.seconds:.0f} s"
                patience.tell(f"The storage refuses to be written to ({error}); {again}")
            refused = True
            time.sleep(_PAUSE_SECONDS)
        else:
            patience.spent = False
            if refused:
                patience.tell("The storage is written to again")
            return done


_STREAMS = {"stdout": 1, "stderr": 2}


def replace_with(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file beside `path`, then puts it in its place: a reader sees the old file or the new one.

    On return it is on the disk. The folder is made if it is missing. The temporary file is hidden, has a name of its
    own, so that processes may write the same file, and keeps the suffix of `path`, by which some writers choose their
    format. Within `patient`, `write` may be called more than once.

    A link stays one: what it names is replaced. What is no file, as `/dev/stdout` and other devices and pipes, stays
    too, and is written to.
    """

    def put() -> None:
        if _descriptor(path) is not None or (path.exists() and not path.is_file()):
            _write_into(path, write)
        else:
            _replace_with(path.resolve() if path.is_symlink() else path, write)

    insist(put)


def _descriptor(path: Path) -> int | None:
    """The open file of this process that a path names, as `/dev/stdout` does; None: it names another.

    What it is redirected to may be a file, which others write to also: it is not replaced, and not begun again.
    """
    folder, _, name = path.as_posix().rpartition("/")
    if folder == "/dev" and name in _STREAMS:
        return _STREAMS[name]
    return int(name) if folder in ("/dev/fd", "/proc/self/fd") and name.isdecimal() else None


def _write_into(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file, whose content then goes into a device, a pipe or a file that is open already."""
    open_already = _descriptor(path)
    with tempfile.TemporaryDirectory(prefix="raysearch-") as scratch:
        filled = Path(scratch) / f"filled{path.suffix}"
        write(filled)
        sys.stdout.flush()  # what was printed before comes first
        sink = path.open("wb") if open_already is None else os.fdopen(os.dup(open_already), "wb")
        with sink, filled.open("rb") as source:
            shutil.copyfileobj(source, sink)


def _replace_with(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        write(temporary)
        _to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _to_disk(path.parent)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder`, to be filled within the `with`: it becomes `folder`, unless the `with` fails.

    The caller holds a lock, so that one process writes at a time. What is there already, as of a process that was
    killed, goes first.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    for leftover in (temporary, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_text(path: Path, text: str) -> None:
    """Replaces `path` with `text` in UTF-8, atomically; what is no text (lone surrogates) is escaped."""
    replace_with(path, lambda temporary: _write_text(temporary, text))


def replace_json(path: Path, tree: Any) -> None:
    """Replaces `path` with `tree` as indented, strict JSON (see `plain`), atomically."""
    replace_text(path, json_text(tree, indent=2) + "\n")


def json_text(tree: Any, indent: int | None = None) -> str:
    """`tree` as strict JSON (see `plain`) that can be encoded in UTF-8, and reads back as it was.

    Letters stand for themselves, unless the tree holds bytes that are no text, as names of files may (Python keeps them
    as lone surrogates): then all but ASCII is escaped.
    """
    text = json.dumps(plain(tree), indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(plain(tree), indent=indent)
    return text


def plain(tree: Any) -> Any:
    """Numbers, text, lists and dicts only: NumPy becomes Python, models become dicts, paths become text, NaN and
    infinities become null.

    Raises:
        TypeError: something that has no plain form.
    """
    if isinstance(tree, np.ndarray):
        tree = tree.tolist()
    elif isinstance(tree, np.generic):
        tree = tree.item()
    elif isinstance(tree, BaseModel):
        tree = tree.model_dump(mode="json")
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if tree is None or isinstance(tree, str | bool | int):
        return tree
    if isinstance(tree, os.PathLike):
        return os.fspath(tree)
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, Sequence | set | frozenset) and not isinstance(tree, bytes):
        return [plain(value) for value in tree]
    raise TypeError(f"{tree!r} ({type(tree).__name__}) cannot be written as JSON")


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")

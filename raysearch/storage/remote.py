"""Where a run lives beside its own disk: `--storage s3://bucket/prefix`, or any other place that pyarrow can open.

    PREFIX/RUN/…             the run folder, with the checkpoints of its trials
    PREFIX/.shared/pixels/…  decoded images

Credentials are found by the file system's own library (for S3: environment, ~/.aws, the machine's role), never here.
"""

from __future__ import annotations

import copy
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from raysearch.errors import InputError, StorageError
from raysearch.storage.files import replace_with

logger = logging.getLogger(__name__)

T = TypeVar("T")

SHARED = ".shared"
"""What runs have in common, by content: a name that no run has."""
PATIENCE_SECONDS = 180.0
"""How long a storage may refuse before that counts as a failure."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0  # seconds between two tries
_WHOLE = ("s3", "gcs", "abfs")  # an object is there when it is complete, and replaced at once
_BLOCK_BYTES = 1 << 23


@dataclass(frozen=True)
class Entry:
    """One file there."""

    bytes: int
    modified: int
    """nanoseconds since 1970"""


class Storage:
    """A folder in a storage. Files go there whole: a reader finds the old one or the new one.

    What is refused is tried again, at growing intervals, until `patience_seconds` have gone by.

    Args:
        uri: e.g. s3://bucket/prefix; options of `pyarrow.fs.S3FileSystem` may follow, ?region=…&endpoint_override=….
            The scheme of an fsspec file system will do if its package is installed.
        patience_seconds: of each call.

    Raises:
        InputError: no such file system, or credentials in the URI.
    """

    def __init__(self, uri: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._parts = _checked(uri)
        self.patience_seconds = patience_seconds
        self._fs, root = _opened(self._parts)
        self._root = root.rstrip("/")
        self._refused: tuple[float, str] | None = None

    @property
    def uri(self) -> str:
        """The URI that was given, without a slash at its end."""
        return self._parts.geturl()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return unquote(self._parts.path.rpartition("/")[2])

    @property
    def parent(self) -> Storage:
        """The folder above."""
        return self._at(self._parts.path.rpartition("/")[0], self._root.rpartition("/")[0])

    def __truediv__(self, name: str) -> Storage:
        """A folder below."""
        return self._at(f"{self._parts.path}/{quote(name)}", f"{self._root}/{name}")

    def _at(self, path: str, root: str) -> Storage:
        there = copy.copy(self)
        there._parts, there._root, there._refused = self._parts._replace(path=path), root, None
        return there

    def put(self, path: Path, name: str) -> None:
        """Copies a file there.

        Raises:
            FileNotFoundError: there is no such file here.
            StorageError: it was refused too long.
        """
        target = self._path(name)
        self._patiently(f"write {name}", lambda: self._put(path, target))

    def _put(self, path: Path, target: str) -> None:
        # Written in one piece, from a map: a failure halfway would leave half an object, which closing makes visible.
        with pa.memory_map(str(path)) if path.stat().st_size else pa.BufferReader(b"") as source:
            content = source.read_buffer()
            if self._fs.type_name in _WHOLE:
                with self._fs.open_output_stream(target) as sink:
                    sink.write(content)
                return
            folder, _, last = target.rpartition("/")
            self._fs.create_dir(folder, recursive=True)
            unfinished = f"{folder}/.{last}-{secrets.token_hex(6)}"
            with self._fs.open_output_stream(unfinished) as sink:
                sink.write(content)
            self._fs.move(unfinished, target)

    def get(self, name: str, path: Path) -> None:
        """Brings a file from there; the one here is replaced whole.

        Raises:
            FileNotFoundError: there is no such file there.
            StorageError: it was refused too long.
        """

        def receive(temporary: Path) -> None:
            with self._fs.open_input_stream(self._path(name)) as source, temporary.open("wb") as sink:
                while block := source.read(_BLOCK_BYTES):
                    sink.write(block)

        self._patiently(f"read {name}", lambda: replace_with(path, receive))

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        info = self._patiently(f"look for {name}", lambda: self._fs.get_file_info(self._path(name)))
        return info.type == fs.FileType.File

    def files(self, below: str = "") -> dict[str, Entry]:
        """All files in a folder and below it, by name; none if there is no such folder."""
        folder = fs.FileSelector(self._path(below), recursive=True, allow_not_found=True)
        found = self._patiently(f"list {below or self.name}", lambda: self._fs.get_file_info(folder))
        return {
            one.path.removeprefix(f"{self._root}/"): Entry(one.size, one.mtime_ns or 0)
            for one in found
            if one.type == fs.FileType.File
        }

    def delete(self, name: str) -> None:
        """Deletes a file, or a folder with all that is in it, if it is there."""

        def delete() -> None:
            try:
                kind = self._fs.get_file_info(self._path(name)).type
                if kind == fs.FileType.File:
                    self._fs.delete_file(self._path(name))
                elif kind == fs.FileType.Directory:
                    self._fs.delete_dir(self._path(name))
            except FileNotFoundError:  # another was faster
                pass

        self._patiently(f"delete {name}", delete)

    def check(self) -> None:
        """Writes something, reads it and deletes it.

        Raises:
            InputError: it does not work, with the reason; nothing is tried twice.
        """
        probe = f"{self._root}/.raysearch-{secrets.token_hex(6)}"
        try:
            if self._fs.type_name not in _WHOLE:
                self._fs.create_dir(self._root, recursive=True)
            with self._fs.open_output_stream(probe) as sink:
                sink.write(b"raysearch")
            with self._fs.open_input_stream(probe) as source:
                source.read()
            self._fs.delete_file(probe)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--storage {self.uri}: cannot be written, read and deleted in ({error}); does it exist, and do the "
                "credentials of this environment allow it?"
            ) from error

    def take_refusal(self) -> tuple[float, str] | None:
        """How many seconds it has refused for since the last question, and what it said; None if it has not."""
        refused, self._refused = self._refused, None
        return refused

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _patiently(self, what: str, act: Callable[[], T]) -> T:
        began, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                return act()
            except (FileNotFoundError, StorageError):  # the latter of a disk here that was waited for
                raise
            except OSError as error:
                seconds = time.monotonic() - began
                self._refused = (seconds, str(error))
                if seconds + wait > self.patience_seconds:
                    raise StorageError(f"{self.uri}: could not {what} for {seconds:.0f} s: {error}") from error
                if wait == _FIRST_WAIT:
                    logger.warning("%s: could not %s (%s); trying again", self.uri, what, error)
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)


def _checked(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InputError(f"--storage {uri!r}: not a URI: {error}") from error
    if "@" in parts.netloc or any(word in parts.query.lower() for word in ("key=", "token=", "secret=")):
        # Not repeated: what is written to the screen is kept somewhere, too.
        raise InputError(
            f"--storage {parts.scheme}://…: credentials do not belong into the URI, which is kept with the run; give "
            "them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
        )
    if not parts.scheme or not (parts.netloc or parts.path.strip("/")):
        raise InputError(f"--storage {uri!r}: not a URI of a folder; write for example s3://bucket/prefix")
    return parts._replace(path=parts.path.rstrip("/"))


def _opened(parts: SplitResult) -> tuple[fs.FileSystem, str]:
    full, problems = parts, []
    if parts.scheme == "s3" and "allow_delayed_open" not in parts.query:  # one request for a small file, not three
        full = parts._replace(query="&".join(filter(None, (parts.query, "allow_delayed_open=true"))))
    for known_as in (full.geturl(), f"fsspec+{parts.geturl()}"):
        try:
            return fs.FileSystem.from_uri(known_as)
        except (OSError, ValueError, ImportError) as error:
            problems.append(str(error))
            if not problems[0].startswith("Unrecognized filesystem type"):
                break
    raise InputError(f"--storage {parts.geturl()}: cannot be opened: {problems[-1]}")

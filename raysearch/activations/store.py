"""The activation cache on disk: one file a boundary and view, whole or absent, within a budget.

    activations/<pass>/<boundary>.act     a pass is what goes through the network once: weights, images, view, precision
    activations/<pass>/<boundary>.tmp     being written
    activations/locks/                    who may write a pass, and who counts the bytes

A file is one page of JSON that says what it is, and then rows that every process maps and none copies. Whoever maps it
holds a shared lock on it for as long as the map lives, so that it is not the one to go when room is needed; the system
drops the locks of a process that dies.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from raysearch.storage.cache import cache_root

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

SUFFIX, UNFINISHED = ".act", ".tmp"
HEADER_BYTES = 4096
"""Room for the JSON; a whole page, so that the rows begin on one."""
DTYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}
DEFAULT_SHARE = 0.25
"""The share of the free disk that the cache may fill where no budget is given."""

Key = Mapping[str, Any]
"""All that a pass depends on, as plain JSON."""


@dataclass(frozen=True)
class CacheEntry:
    """One file of the cache."""

    path: Path
    about: dict[str, Any]
    """boundary, shape, dtype, sha256 of the rows, and the key."""
    bytes: int
    used: float
    """The time at which it was last opened, seconds since 1970."""


class Store:
    """The cache as one process sees it.

    Args:
        root: its folder; None: `activations` in `cache_root()`.
        limit_bytes: of all files together; None: a quarter of what is free, or is the cache's already.
    """

    def __init__(self, root: Path | None = None, limit_bytes: int | None = None) -> None:
        self.root = cache_root() / "activations" if root is None else root
        self._limit_bytes = limit_bytes

    def folder(self, key: Key) -> Path:
        """The folder of a pass."""
        return self.root / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]

    def open(self, key: Key, boundary: str) -> np.ndarray | None:
        """The rows, mapped for reading, (n, ...), maps with channels last; None if they are not there.

        While the array lives, the file is in use.
        """
        path = self.folder(key) / f"{boundary}{SUFFIX}"
        try:
            with path.open("rb") as file:
                if not _lock(file, exclusive=False):
                    return None  # on its way out, this very moment
                about = read_header(file)
                if about["key"] != plain(key):
                    raise ValueError("it is another entry's")
                # The map keeps the file open, and with it the lock, when `file` is closed.
                rows = np.memmap(file, DTYPES[about["dtype"]], "r", HEADER_BYTES, tuple(about["shape"]))
            with suppress(OSError):
                os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be used (%s): it is made again", path, error)
            return None
        return rows

    @contextmanager
    def turn(self, key: Key, wait_seconds: float) -> Iterator[None]:
        """Lets one process at a time write a pass; one that dies loses its turn.

        Raises:
            TimeoutError: it was another's for longer than `wait_seconds`.
        """
        try:
            with _file_lock(self.root, self.folder(key).name, wait_seconds):
                yield
        except Timeout as error:
            raise TimeoutError(f"another process has been filling {self.folder(key)} for {wait_seconds} s") from error

    def writers(self, key: Key, shapes: Mapping[str, Sequence[int]], dtype: str) -> dict[str, Writer] | None:
        """Files to fill, by boundary, with room made for them; None if there is none. The caller has the turn.

        Args:
            key: of the pass.
            shapes: of all rows, (n, ...), maps with channels last, by boundary.
            dtype: fp16 or fp32.
        """
        needed = {
            name: HEADER_BYTES + int(np.prod(shape, dtype=np.int64)) * DTYPES[dtype].itemsize
            for name, shape in shapes.items()
        }
        folder = self.folder(key)
        with _file_lock(self.root, "budget"):
            for leftover in folder.glob(f"*{UNFINISHED}"):  # of a process that was killed, for we have its turn
                leftover.unlink(missing_ok=True)
            if not self._make_room(sum(needed.values())):
                return None
            folder.mkdir(parents=True, exist_ok=True)
            return {name: Writer(folder / name, size, shapes[name], dtype, key) for name, size in needed.items()}

    def _make_room(self, needed: int) -> bool:
        _sweep(self.root)
        files = []
        for path in [*self.root.glob(f"*/*{SUFFIX}"), *self.root.glob(f"*/*{UNFINISHED}")]:
            with suppress(FileNotFoundError):  # finished, and so renamed, meanwhile
                files.append((path, path.stat()))
        taken = sum(stat.st_size for _, stat in files)
        limit = _share(self.root, taken) if self._limit_bytes is None else self._limit_bytes
        if needed > limit:
            return False
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if taken + needed <= limit:
                break
            if path.suffix == SUFFIX and remove(path):
                taken -= stat.st_size
        return taken + needed <= limit


class Writer:
    """One file being filled, row by row; it takes its whole size at once, so that other processes count it."""

    def __init__(self, place: Path, size: int, shape: Sequence[int], dtype: str, key: Key) -> None:
        self._path, self._temporary = (place.with_name(place.name + suffix) for suffix in (SUFFIX, UNFINISHED))
        self._about = {"boundary": place.name, "shape": list(shape), "dtype": dtype, "key": plain(key)}
        self._size, self._dtype = size, DTYPES[dtype]
        self._sha = hashlib.sha256()
        self._file = self._temporary.open("wb")
        self._file.truncate(size)
        self._file.seek(HEADER_BYTES)

    def write(self, rows: np.ndarray) -> None:
        """The next rows. Not through a map: on a full disk that would kill the process where this raises OSError."""
        data = np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data
        self._sha.update(data)
        self._file.write(data)

    def commit(self) -> None:
        """Puts the file in its place, whole.

        Raises:
            ValueError: rows are missing, or too many.
        """
        if self._file.tell() != self._size:
            raise ValueError(f"{self._path} was to have {self._size} bytes, got {self._file.tell()}")
        header = json.dumps({**self._about, "sha256": self._sha.hexdigest()}).encode()
        if len(header) > HEADER_BYTES:
            raise ValueError(f"the header takes {len(header)} bytes, {HEADER_BYTES} are there for it")
        self._file.seek(0)
        self._file.write(header.ljust(HEADER_BYTES))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)

    def abandon(self) -> None:
        """Leaves nothing behind; after a commit, does nothing."""
        if not self._file.closed:
            with suppress(OSError):  # flushing to a full disk
                self._file.close()
            self._temporary.unlink(missing_ok=True)


def plain(key: Key) -> Any:
    """The key as it comes back from JSON."""
    return json.loads(json.dumps(key))


def read_header(file: BinaryIO) -> dict[str, Any]:
    """What a file says of itself.

    Raises:
        ValueError: it is not one of the cache, or not whole.
    """
    about = json.loads(file.read(HEADER_BYTES))
    size = HEADER_BYTES + int(np.prod(about["shape"], dtype=np.int64)) * DTYPES[about["dtype"]].itemsize
    if (found := os.fstat(file.fileno()).st_size) != size:
        raise ValueError(f"it has {found} bytes and should have {size}")
    return about


def remove(path: Path) -> bool:
    """Deletes an entry, and its folder with the last one, unless somebody uses it: then False."""
    try:
        with path.open("rb") as file:
            if not _lock(file, exclusive=True):
                return False
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError:  # mapped, on a system that does not delete such files
        return False
    with suppress(OSError):
        path.parent.rmdir()
    return True


def default_limit(root: Path | None = None) -> int:
    """Bytes that the cache may take where no budget is given: a share of what is free, or is the cache's already."""
    root = Store(root).root
    root.mkdir(parents=True, exist_ok=True)
    return _share(root, sum(path.stat().st_size for path in root.glob(f"*/*{SUFFIX}")))


def _share(root: Path, taken: int) -> int:
    return int(DEFAULT_SHARE * (shutil.disk_usage(root).free + taken))


@contextmanager
def counting(root: Path) -> Iterator[None]:
    """Nobody else takes or makes room meanwhile."""
    with _file_lock(root, "budget"):
        _sweep(root)
        yield


def _sweep(root: Path) -> None:
    """Deletes what killed processes were writing: files whose turn nobody has."""
    for temporary in root.glob(f"*/*{UNFINISHED}"):
        with suppress(Timeout, OSError), _file_lock(root, temporary.parent.name, 0):
            temporary.unlink(missing_ok=True)
            temporary.parent.rmdir()


def _file_lock(root: Path, name: str, wait_seconds: float = -1) -> FileLock:
    # The lock files stay: deleting one would let two processes hold two locks of the same name.
    (root / "locks").mkdir(parents=True, exist_ok=True)
    return FileLock(root / "locks" / f"{name}.lock", timeout=wait_seconds)


def _lock(file: BinaryIO, *, exclusive: bool) -> bool:
    """Takes a lock that lives as long as the open file; False if another's forbids it."""
    if sys.platform == "win32":
        return True  # where a mapped file cannot be deleted anyway
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks; deleting what others map does them no harm here
        return True
    return True

"""Readers of image files: loose files of a folder or a manifest, and members of a zip."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raysearch.storage.cache import cache_root
from raysearch.storage.files import replace_text


class FileReader:
    """Loose files."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)

    def read(self, position: int) -> bytes:
        """The bytes of one file."""
        return self._files[position].read_bytes()

    def file(self, position: int) -> Path:
        """Where one file lies."""
        return self._files[position]

    def fingerprint(self) -> str:
        """Digest of all files' digests."""
        return hashlib.sha256("".join(digest_files(self._files)).encode()).hexdigest()


class ZipReader:
    """Members of a zip archive."""

    def __init__(self, archive: Path, members: Sequence[str]) -> None:
        self._archive = archive
        self._members = tuple(members)
        self._local = threading.local()

    def read(self, position: int) -> bytes:
        """The bytes of one member."""
        if not hasattr(self._local, "zip"):  # one handle a thread: a shared one would make the threads wait
            self._local.zip = zipfile.ZipFile(self._archive)
        data: bytes = self._local.zip.read(self._members[position])
        return data

    def fingerprint(self) -> str:
        """Digest of the archive and the members' order."""
        names = hashlib.sha256("\0".join(self._members).encode()).hexdigest()
        return hashlib.sha256((digest_files([self._archive])[0] + names).encode()).hexdigest()


def digest_files(files: Sequence[Path]) -> list[str]:
    """SHA-256 of each file, in order; "" for a file that cannot be read.

    A file whose size and time are as they were when it was last read is not read again: the cache remembers its digest.
    """
    paths = [str(file.absolute()) for file in files]
    common = hashlib.sha256(os.fsencode(os.path.commonpath(paths))).hexdigest()[:32] if paths else "none"
    memo_path = cache_root() / "digests" / f"{common}.json"
    memo = _read_memo(memo_path)

    def digest(path: str) -> tuple[list[int], str]:
        try:
            stat = Path(path).stat()
            stamp = [stat.st_size, stat.st_mtime_ns]
            known = memo.get(path)
            if known is not None and known[0] == stamp:
                return known
            with Path(path).open("rb") as stream:
                return stamp, hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:  # decoding meets the same error and records it
            return [], ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = dict(zip(paths, pool.map(digest, paths), strict=True))
    if any(memo.get(path) != entry for path, entry in found.items()):
        replace_text(memo_path, json.dumps(memo | found))
    return [found[path][1] for path in paths]


def _read_memo(path: Path) -> dict[str, tuple[list[int], str]]:
    try:
        entries = json.loads(path.read_text())
        return {name: (list(stamp), str(digest)) for name, (stamp, digest) in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or not ours: only costs a reading
        return {}

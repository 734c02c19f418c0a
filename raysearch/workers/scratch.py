"""Checkpoints of a run with storage, as a worker sees them: brought before it begins, put there before it tells.

The storage has the truth. The worker's own folder is scratch: what of it is lost costs the epoch in hand.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from raysearch.record.folder import BEST, LAST
from raysearch.storage.remote import Storage


class Scratch:
    """A worker's folder of checkpoints, and where they are kept.

    Args:
        checkpoints: the run's, in its storage.
    """

    def __init__(self, checkpoints: Storage) -> None:
        self._kept = checkpoints
        self._temporary = TemporaryDirectory(prefix="raysearch-checkpoints-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        """Laid out as the run's own."""
        self._put: dict[Path, tuple[int, int]] = {}

    def bring(self, segments: Sequence[dict[str, Any]]) -> None:
        """What these segments start from or go on from; everything else leaves the folder.

        A pack of heads brings nothing: it begins with its first epoch.

        Args:
            segments: as of `Driver.start`.
        """
        for folder in self.folder.iterdir():
            shutil.rmtree(folder)
        self._put.clear()
        for segment in segments:
            if segment["pack"] is None:
                self._bring(segment["trial"], BEST)
                self._bring(segment["trial"], LAST)
                if segment["parent"] is not None:
                    self._bring(segment["parent"], BEST)

    def put(self, trials: Iterable[str]) -> None:
        """What was written since the last time, of each of these trials the best tensors first."""
        for trial in trials:
            for name in (BEST, LAST):
                path = self.folder / trial / name
                if path.exists() and self._put.get(path) != (written := _written(path)):
                    self._kept.put(path, f"{trial}/{name}")
                    self._put[path] = written

    def take_refusal(self) -> tuple[float, str] | None:
        """As of `Storage`."""
        return self._kept.take_refusal()

    def close(self) -> None:
        """Deletes the folder."""
        self._temporary.cleanup()

    def _bring(self, trial: str, name: str) -> None:
        path = self.folder / trial / name
        with suppress(FileNotFoundError):
            self._kept.get(f"{trial}/{name}", path)
            self._put[path] = _written(path)


def _written(path: Path) -> tuple[int, int]:
    """Another for every time that the file is replaced."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns

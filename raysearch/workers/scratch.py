"""Checkpoints of a run with storage, as a worker sees them: brought before it begins, put there before it tells.

The storage has the truth. The worker's own folder is scratch: what of it is lost costs the epoch in hand.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from raysearch.record.files import BEST, LAST
from raysearch.search.messages import RateTest, Segment, Task
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

    def bring(self, task: Task) -> None:
        """Bring what a task starts from or goes on from; everything else leaves the folder.

        A pack of heads brings nothing: it begins with its first epoch.
        """
        for folder in self.folder.iterdir():
            shutil.rmtree(folder)
        self._put.clear()
        match task:
            case Segment():
                self._bring(task.trial, BEST)
                self._bring(task.trial, LAST)
                if task.parent is not None:
                    self._bring(task.parent, BEST)
            case RateTest():
                self._bring(task.start, BEST)

    def put(self) -> None:
        """Put there what was written since the last time, of each trial the best tensors first."""
        for trial in sorted(self.folder.iterdir()):
            for name in (BEST, LAST):
                path = trial / name
                if path.exists() and self._put.get(path) != (written := _written(path)):
                    self._kept.put(path, f"{trial.name}/{name}")
                    self._put[path] = written

    def take_refusal(self) -> tuple[float, str] | None:
        """How many seconds the storage refused for, and why, if it did; told once."""
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

"""Keeps the copy of a run folder in its storage up to date while the driver writes the one here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from raysearch.errors import StorageError
from raysearch.record.events import StorageRefused
from raysearch.record.files import CHECKPOINTS, LOG
from raysearch.record.folder import RunFolder
from raysearch.storage.remote import Storage

logger = logging.getLogger(__name__)


class RunSync:
    """Copies what changed to the storage: when it begins, every so often in a thread, and when it ends.

    Checkpoints are not copied: workers put them there themselves. They are deleted from here, and never before the log
    that says why is there: whoever resumes from the log there finds what it speaks of.

    Args:
        run: its storage is set.
        say: told what goes wrong, in a sentence.
        every_seconds: between two copies.

    Raises:
        StorageError: on entering, if the storage refuses too long.
    """

    def __init__(self, run: RunFolder, say: Callable[[str], None], every_seconds: float = 30.0) -> None:
        assert run.storage is not None
        self._run, self._storage, self._say, self._every_seconds = run, run.storage, say, every_seconds
        self._hasty = Storage(run.storage.uri, patience_seconds=0.0)
        self._copied: dict[str, tuple[int, int, int]] = {}
        self._over, self._copying, self._deleting = threading.Event(), threading.Lock(), threading.Lock()
        self._thread = threading.Thread(target=self._go_on, name="sync", daemon=True)
        self.trials = {name.split("/")[0] for name in (self._storage / CHECKPOINTS).files()}
        """The trials that may have checkpoints there."""
        self._forgotten: dict[str, bool] = {}
        """Checkpoints that nobody needs any more, in their order, and whether they are deleted yet."""

    def __enter__(self) -> RunSync:
        self.copy()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            self.copy()
        except StorageError as problem:
            missing = ", ".join(sorted(self._changed()))
            self._say(f"{problem}. Not there: {missing}. All of it is in {self._run.folder}; --resume copies it")

    def keep(self, trials: Iterable[str]) -> None:
        """Workers are about to write those of these trials: nothing of theirs is deleted, whatever was said before."""
        wanted = set(trials)
        with self._deleting:
            self.trials |= wanted
            for name in [name for name in self._forgotten if name.split("/")[0] in wanted]:
                del self._forgotten[name]

    def forget(self, name: str) -> None:
        """A trial's checkpoints ("t0003"), or one of them ("t0003/last.pt"), go after the next copy of the log."""
        with self._deleting:
            self.trials.discard(name)
            self._forgotten.setdefault(name, False)

    def put(self, name: str) -> None:
        """Copies a file of the run folder now."""
        self._storage.put(self._run.folder / name, name)

    def copy(self) -> None:
        """Copies what changed since the last time, the log first; then deletes what nobody needs any more.

        Raises:
            StorageError: the storage refused too long; what is missing is copied the next time.
        """
        with self._copying:
            with self._deleting:  # what is added from here on may be younger than the log that is copied
                due = [name for name, deleted in self._forgotten.items() if not deleted]
            try:
                for name, state in self._changed().items():
                    self._storage.put(self._run.folder / name, name)
                    self._copied[name] = state
                self._delete(due)
            finally:
                if (refusal := self._storage.take_refusal()) is not None:
                    seconds, reason = refusal
                    refused = StorageRefused(event="storage_refused", seconds=round(seconds, 1), error=reason)
                    self._run.append(refused)

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            with self._deleting:  # the driver may wait for this: there is one try, and another with the next copy
                if self._forgotten.get(name) is not False:  # wanted again meanwhile
                    continue
                try:
                    self._hasty.delete(f"{CHECKPOINTS}/{name}")
                except StorageError as error:
                    logger.warning("%s", error)
                    return
                self._forgotten[name] = True

    def _changed(self) -> dict[str, tuple[int, int, int]]:
        """Files to copy, the log first, and what tells this state of each from another."""
        found = {}
        for path in sorted(self._run.folder.rglob("*"), key=lambda one: one.name != LOG):
            name = path.relative_to(self._run.folder).as_posix()
            if path.is_file() and not path.name.startswith(".") and not name.startswith(f"{CHECKPOINTS}/"):
                stat = path.stat()
                state = stat.st_ino, stat.st_mtime_ns, stat.st_size
                if self._copied.get(name) != state:
                    found[name] = state
        return found

    def _go_on(self) -> None:
        while not self._over.wait(self._every_seconds):
            try:
                self.copy()
            except OSError as error:  # refused too long, or a file that went away meanwhile
                self._say(f"The run folder was not copied, which is tried again: {error}")

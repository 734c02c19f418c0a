"""One process works on a run folder at a time; a second one is told of the first."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from raysearch.errors import InputError
from raysearch.record.files import LOCK

logger = logging.getLogger(__name__)


@contextmanager
def worked_on(folder: Path) -> Iterator[None]:
    """Within the `with`, nobody else works on this run; whoever only reads it needs not ask.

    The lock is the operating system's, which lets go of it when a process ends, however it ends. Its file stays:
    deleting it would let two processes hold two locks of the same name. Where files cannot be locked, as on some
    network file systems, that is warned of, and nobody is kept out.

    Raises:
        InputError: another process works on it, or another part of this one.
    """
    lock = FileLock(folder / LOCK)
    _take(lock, folder)
    try:
        if lock.is_locked:
            _note(folder, f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        if lock.is_locked:
            _note(folder, "")
            lock.release()


def _take(lock: BaseFileLock, folder: Path) -> None:
    holder = ""
    with suppress(OSError, UnicodeDecodeError):
        holder = (folder / LOCK).read_text(encoding="utf-8")  # before: earlier filelocks empty a file that they open
    try:
        lock.acquire(timeout=0)
        if not isinstance(lock, SoftFileLock):
            return
        lock.release()  # filelock's way out, a file that says so, would outlive a process that is killed
        why = "its file system knows no locks"
    except Timeout as error:
        if not isinstance(lock, SoftFileLock):
            who = f" ({holder})" if holder else ""
            told = f"the run {folder} is being worked on by another process{who}"
            raise InputError(f"{told}: wait for its end, or stop it by Ctrl-C, then start this again") from error
        why = "its file system knows no locks"
    except (OSError, NotImplementedError) as error:
        why = str(error)
    logger.warning("%s cannot be locked (%s): see that no other process works on it at the same time", folder, why)


def _note(folder: Path, who: str) -> None:
    """Say in the lock's file who holds it, as far as that can be written."""
    with suppress(OSError):
        (folder / LOCK).write_text(who, encoding="utf-8")

"""What a command tells a person instead of a traceback."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a disk, a quota or a file is full."""


class InputError(ValueError):
    """What a person typed, or the files it names, cannot be used.

    Args:
        problems: one sentence each; a command prints them all and exits with code 2.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class Problems:
    """Collects what is wrong, so that a person hears all of it at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def attempt(self, step: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T | None:
        """What the step returns for these arguments, or None with its problems noted."""
        try:
            return step(*args, **keywords)
        except InputError as error:
            self.found += error.problems
            return None

    def check(self, fine: bool, otherwise: str) -> None:
        """Note `otherwise` unless `fine`."""
        if not fine:
            self.found.append(otherwise)

    def stop_if_any(self) -> None:
        """Raises InputError with everything that was found."""
        if self.found:
            raise InputError(self.found)


class NothingSucceededError(RuntimeError):
    """A search ended without a single trial that could be scored; the message says why the first one failed."""


class StorageError(OSError):
    """The storage refused for longer than one waits for it; says what was tried, and the last refusal."""


def escape_output() -> None:
    """Let standard output escape what its encoding lacks, instead of failing at it: names come in any script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def told(error: OSError) -> str:
    """An error of the operating system as a sentence: what it was about, and what it was."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}"

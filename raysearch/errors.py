"""What a command tells a person instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """What a person typed, or the files it names, cannot be used.

    Args:
        problems: one sentence each; a command prints them all and exits with code 2.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class NothingSucceededError(RuntimeError):
    """A search ended without a single trial that could be scored; the message says why the first one failed."""


class StorageError(OSError):
    """The storage refused for longer than one waits for it; says what was tried, and the last refusal."""

"""What an actor can be given to do, and what all of it has in common."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from raysearch.search.messages import Result, Unsaved

PAUSE_SECONDS = 1.0  # before storage that refused is tried again


class Work(Protocol):
    """What a worker has in hand."""

    @property
    def running(self) -> list[str]:
        """The trials whose segments have not ended."""

    def step(self) -> list[Result]:
        """Trains on, and says what came of it."""


def unsaved(trials: Sequence[str], error: OSError) -> list[Result]:
    """What to tell when the disk takes nothing at the moment; the next step tries again."""
    time.sleep(PAUSE_SECONDS)
    return [Unsaved(trial, str(error)) for trial in trials]


def clear(folder: Path) -> None:
    """Deletes what a process left there that was killed while it wrote."""
    for left_over in folder.glob(".*"):
        left_over.unlink()

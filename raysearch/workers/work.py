"""What an actor can be given to do, and what all of it has in common."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from raysearch.record.final_events import Row
from raysearch.search.messages import Result, Unsaved
from raysearch.training.bench import Bench
from raysearch.training.loop import Trainer

logger = logging.getLogger(__name__)


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


def timed(bench: Bench, trainer: Trainer) -> Row:
    """An epoch's row, with the seconds of it that filled the cache, if any did."""
    before = bench.filled_seconds
    row = trainer.run_epoch()
    filling = bench.filled_seconds - before
    return row | ({"fill_seconds": filling} if filling else {})

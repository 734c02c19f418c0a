"""Which checkpoints of a search are kept: those that something may still start from, go on from or be judged by."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from raysearch.record.events import Event
from raysearch.record.files import LAST
from raysearch.record.sync import RunSync
from raysearch.record.trial import State, Trial
from raysearch.search.state import SearchState
from raysearch.storage.files import insist


class KeptCheckpoints:
    """The checkpoints of the trials of a search.

    Looks only at trials that have come to an end since it last looked: there may be thousands of folders.

    Args:
        folder: where trials keep their tensors, a folder each.
        state: of the search.
        sync: of a run with storage; there the checkpoints are, and are deleted through it. None: in the folder.
    """

    def __init__(self, folder: Path, state: SearchState, sync: RunSync | None) -> None:
        self._folder, self._state, self._sync = folder, state, sync
        there = sync.trials if sync is not None else {one.name for one in folder.glob("[ht][0-9]*")}
        self._to_look_at = there & set(state.trials)
        """Trials that may be over, and whose checkpoints may still be there."""

    def take(self, event: Event) -> None:
        """Note which trial's tensors may have no use any more, after an event."""
        match event["event"]:
            case "segment_end" | "segment_lost" | "segment_paused" | "failed" | "dropped":
                self._to_look_at.add(event["trial"])

    def about_to_write(self, trials: Iterable[str]) -> None:
        """Delete nothing of these trials, whose workers are about to write."""
        if self._sync is not None:
            self._sync.keep(trials)

    def tidy(self, packs: Collection[int | None]) -> None:
        """Delete what has no use any more.

        Args:
            packs: those that are being trained.
        """
        keep = self._state.keepers()
        for trial in [self._state.trials[name] for name in self._to_look_at]:
            if trial.state is State.DONE:
                self._delete(f"{trial.name}/{LAST}")
            over = trial.pack not in packs if trial.is_head else trial.state is State.DONE or not trial.able
            if over and trial.name not in keep and self._are_there(trial):
                self._delete(trial.name)
            told_again = not over and not trial.is_head  # by a later event
            if told_again or not self._are_there(trial):
                self._to_look_at.discard(trial.name)

    def _are_there(self, trial: Trial) -> bool:
        """Whether the trial has checkpoints, or may have in a storage."""
        return trial.name in self._sync.trials if self._sync is not None else (self._folder / trial.name).exists()

    def _delete(self, name: str) -> None:
        """Delete a trial's checkpoints, or one of them, if they are there."""
        if self._sync is not None:
            self._sync.forget(name)
        path = self._folder / name
        if path.is_dir():
            insist(functools.partial(shutil.rmtree, path))
        else:
            insist(functools.partial(path.unlink, missing_ok=True))

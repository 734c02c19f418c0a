"""A segment of a trial, or the range test of a level, an epoch a step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypedDict, cast

from raysearch.recipe import Recipe
from raysearch.record.files import BEST, LAST
from raysearch.record.info import Json
from raysearch.record.level_events import RateCurve
from raysearch.record.line import Row
from raysearch.search.messages import RatesFound, RateTest, Result, Segment, Trained
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import (
    best_metadata,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from raysearch.training.loop import Trainer
from raysearch.training.range_test import range_test
from raysearch.training.stage import open_stage
from raysearch.workers.work import clear, unsaved

logger = logging.getLogger(__name__)


class LastCheckpoint(TypedDict):
    """What `last.pt` holds: enough to go on with the trial's next epoch, in this process or another."""

    trainer: Json
    """See `raysearch.training.loop.Trainer.state`."""
    rows: list[Row]
    """Those of the stage's epochs so far."""
    recipe: Json
    """Which recipe it is of, as the log has it."""


class StageWork:
    """A segment of one trial, where its last checkpoint left it; without one, at the start of its stage.

    Args:
        bench: of this process.
        checkpoints: the run's folder of them.
        segment: which one.
    """

    def __init__(self, bench: Bench, checkpoints: Path, segment: Segment) -> None:
        self._bench, self._trial = bench, segment.trial
        self._folder = checkpoints / self._trial
        self._folder.mkdir(parents=True, exist_ok=True)
        if bench.ranks.first:
            clear(self._folder)
        self._recipe = segment.recipe
        self._rows: list[Row] = []
        self._reported = 0
        self._saved = True
        last = self._folder / LAST
        saved = _load(last) if last.exists() else None
        if saved is not None and not _is_of(saved, segment.recipe):
            # A search that goes on from an older log may draw another recipe for the trial than the one lost with it.
            logger.warning("%s has a checkpoint of another recipe, which is passed over", self._trial)
            saved = None
        if saved is not None:
            self._trainer = open_stage(bench, segment.recipe, segment.stage, ended_rate=segment.ended_rate)
            self._trainer.load_state(saved["trainer"])
            self._rows = saved["rows"]
            self._reported = min(segment.from_epoch, len(self._rows))
            return
        if segment.from_epoch:
            logger.warning("%s has no checkpoint: it starts again at its first epoch", self._trial)
        if segment.parent is None:
            self._trainer = open_stage(bench, segment.recipe, segment.stage)
            return
        start, about = load_tensors(checkpoints / segment.parent / BEST)
        self._trainer = open_stage(
            bench,
            segment.recipe,
            segment.stage,
            start,
            ended_rate=segment.ended_rate,
            expected_loss=about["val_loss"],
            expected_signature=about["signature"],
        )

    @property
    def running(self) -> list[str]:
        """The trial."""
        return [self._trial]

    def step(self) -> list[Result]:
        """One epoch, or one that the last checkpoint has and the log has not. It is told once it is saved."""
        if self._saved and self._reported == len(self._rows):
            self._rows.append(_timed(self._bench, self._trainer))
            self._saved = False
        if not self._saved:
            refusal = self._refusal()
            if refusal is not None:
                return unsaved([self._trial], refusal)
            self._saved = True
        row = self._rows[self._reported]
        self._reported += 1
        return [
            Trained(
                self._trial,
                row,
                self._trainer.best,
                finished=self._trainer.finished and self._reported == len(self._rows),
                handover_delta=self._trainer.handover_delta if self._reported == 1 else None,
            )
        ]

    def _refusal(self) -> OSError | None:
        """What kept the checkpoint from being written; all workers of a trial hear of it, and wait together."""
        refusal: OSError | None = None
        try:
            self._save()
        except OSError as error:
            refusal = error
        ranks, device = self._bench.ranks, self._bench.device
        if ranks.agree({"refused": float(refusal is not None)}, device)["refused"]:
            return refusal or OSError("the first worker could not write the checkpoint")
        return None

    def _save(self) -> None:
        """The best tensors first: if the process dies in between, the epoch is trained again, to the same tensors."""
        if not self._bench.ranks.first:
            return
        if self._trainer.best["epoch"] == self._rows[-1]["epoch"] or len(self._rows) == 1:
            save_tensors(self._folder / BEST, self._trainer.best_state, best_metadata(self._trainer))
        recipe = self._recipe.model_dump(mode="json")
        payload = LastCheckpoint(trainer=self._trainer.state(), rows=self._rows, recipe=recipe)
        save_checkpoint(self._folder / LAST, payload)


def _timed(bench: Bench, trainer: Trainer) -> Row:
    """An epoch's row, with the seconds of it that filled the cache, if any did."""
    before = bench.filled_seconds
    row = trainer.run_epoch()
    filling = bench.filled_seconds - before
    return row | ({"fill_seconds": filling} if filling else {})


def _load(path: Path) -> LastCheckpoint:
    return cast(LastCheckpoint, load_checkpoint(path))


def _is_of(saved: LastCheckpoint, recipe: Recipe) -> bool:
    """Whether a checkpoint is of this recipe, whatever of it was not written when it had fewer fields."""
    try:
        return Recipe.model_validate(saved["recipe"]) == recipe
    except ValueError:
        return False


class RangeTestWork:
    """The range test of a level that is about to begin: one step, one result.

    Args:
        bench: of this process.
        checkpoints: the run's folder of them.
        task: what is tested.
    """

    def __init__(self, bench: Bench, checkpoints: Path, task: RateTest) -> None:
        self._bench, self._task = bench, task
        self._start, self._about = load_tensors(checkpoints / task.start / BEST)

    @property
    def running(self) -> list[str]:
        """What the level starts from."""
        return self._task.trials

    def step(self) -> list[Result]:
        """The rates of every depth."""
        found: dict[str, RateCurve] = {}
        for depth, recipe in self._task.recipes.items():
            signature = self._about["signature"]
            trainer = open_stage(self._bench, recipe, self._task.stage, self._start, expected_signature=signature)
            tested = range_test(trainer)
            found[depth] = RateCurve(rates=tested.rates, losses=tested.losses, low=tested.low, high=tested.high)
        return [RatesFound(self._task.start, found)]

"""A segment of a trial, or the range test of a level, an epoch a step."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raysearch.recipe import Recipe
from raysearch.record.folder import BEST, LAST
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import (
    best_metadata,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from raysearch.training.range_test import range_test
from raysearch.training.stage import open_stage
from raysearch.workers.work import clear, timed, unsaved

logger = logging.getLogger(__name__)


class StageWork:
    """A segment of one trial, where its last checkpoint left it; without one, at the start of its stage.

    Args:
        bench: of this process.
        checkpoints: the run's folder of them.
        segment: as of `Driver.start`.
    """

    def __init__(self, bench: Bench, checkpoints: Path, segment: dict[str, Any]) -> None:
        self._bench, self._trial = bench, segment["trial"]
        self._folder = checkpoints / self._trial
        self._folder.mkdir(parents=True, exist_ok=True)
        if bench.ranks.first:
            clear(self._folder)
        recipe, stage = Recipe.model_validate(segment["recipe"]), segment["stage"]
        self._rows: list[dict[str, Any]] = []
        self._reported = 0
        self._saved = True
        last = self._folder / LAST
        saved = load_checkpoint(last) if last.exists() else None
        if saved is not None and saved["recipe"] != segment["recipe"]:
            # A search that goes on from an older log may draw another recipe for the trial than the one lost with it.
            logger.warning("%s has a checkpoint of another recipe, which is passed over", self._trial)
            saved = None
        self._recipe = segment["recipe"]
        if saved is not None:
            self._trainer = open_stage(bench, recipe, stage, ended_rate=segment["ended_rate"])
            self._trainer.load_state(saved["trainer"])
            self._rows = saved["rows"]
            self._reported = min(segment["from_epoch"], len(self._rows))
            return
        if segment["from_epoch"]:
            logger.warning("%s has no checkpoint: it starts again at its first epoch", self._trial)
        if segment["parent"] is None:
            self._trainer = open_stage(bench, recipe, stage)
            return
        start, about = load_tensors(checkpoints / segment["parent"] / BEST)
        self._trainer = open_stage(
            bench,
            recipe,
            stage,
            start,
            ended_rate=segment["ended_rate"],
            expected_loss=about["val_loss"],
            expected_signature=about["signature"],
        )

    @property
    def running(self) -> list[str]:
        """The trial."""
        return [self._trial]

    def step(self) -> list[dict[str, Any]]:
        """One epoch, or one that the last checkpoint has and the log has not. It is told once it is saved."""
        if self._saved and self._reported == len(self._rows):
            self._rows.append(timed(self._bench, self._trainer))
            self._saved = False
        if not self._saved:
            refusal = self._refusal()
            if refusal is not None:
                return unsaved([self._trial], refusal)
            self._saved = True
        row = self._rows[self._reported]
        self._reported += 1
        result = {
            "trial": self._trial,
            "row": row,
            "best": self._trainer.best,
            "finished": self._trainer.finished and self._reported == len(self._rows),
            "handover_delta": self._trainer.handover_delta if self._reported == 1 else None,
        }
        return [result]

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
        state = {"trainer": self._trainer.state(), "rows": self._rows, "recipe": self._recipe}
        save_checkpoint(self._folder / LAST, state)


class RangeTestWork:
    """The range test of a level that is about to begin: one step, one result.

    Args:
        bench: of this process.
        checkpoints: the run's folder of them.
        asked: {"trial": what the level starts from, "range_test": {"stage": of the level, "recipes": by depth}}.
    """

    def __init__(self, bench: Bench, checkpoints: Path, asked: dict[str, Any]) -> None:
        self._bench, self._trial, self._asked = bench, asked["trial"], asked["range_test"]
        self._start, self._about = load_tensors(checkpoints / self._trial / BEST)

    @property
    def running(self) -> list[str]:
        """What the level starts from."""
        return [self._trial]

    def step(self) -> list[dict[str, Any]]:
        """The rates of every depth."""
        found = {}
        for depth, tree in self._asked["recipes"].items():
            recipe, signature = Recipe.model_validate(tree), self._about["signature"]
            trainer = open_stage(self._bench, recipe, self._asked["stage"], self._start, expected_signature=signature)
            found[depth] = asdict(range_test(trainer))
        return [{"trial": self._trial, "range_test": found}]

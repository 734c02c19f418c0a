"""The trial actor: one process that opens a segment, trains it an epoch a step, and keeps its checkpoint.

Tune reuses the actor for other segments, so data, base weights and activations are opened once.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import torch
from ray import tune

from raysearch.recipe import Recipe
from raysearch.training.checkpoint import (
    best_metadata,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from raysearch.training.loop import Trainer
from raysearch.training.stage import Bench, open_stage

logger = logging.getLogger(__name__)


class TrialActor(tune.Trainable):
    """Runs segments; a step returns {"epoch": [what `Driver.result` takes]}."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open what every segment needs; config is {"bench": of `Bench.open`, "checkpoints", "threads", "segment"}."""
        torch.set_num_threads(config["threads"])
        cv2.setNumThreads(config["threads"])
        self._checkpoints = Path(config["checkpoints"])
        self._bench = Bench.open(**config["bench"])
        self._segment: dict[str, Any] = config["segment"]
        self._trainer: Trainer | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another segment; it is opened in the next step, where a failure belongs to its trial."""
        self._segment = new_config["segment"]
        self._trainer = None
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, or hand over one that the last checkpoint has and the log has not."""
        try:
            if self._trainer is None:
                self._open()
            assert self._trainer is not None
            if self._reported == len(self._rows):
                self._rows.append(self._trainer.run_epoch())
                self._save()
        except (ValueError, RuntimeError) as error:  # a hand-over, a loss, memory: it would happen again
            return {"epoch": [{"failed": f"{type(error).__name__}: {error}"}]}
        row = self._rows[self._reported]
        self._reported += 1
        up_to_date = self._reported == len(self._rows)
        epoch = {
            "row": row,
            "best": self._trainer.best,
            "finished": self._trainer.finished and up_to_date,
            "handover_delta": self._trainer.handover_delta if self._reported == 1 else None,
        }
        return {"epoch": [epoch]}

    def _open(self) -> None:
        """The trainer of the segment, where its last checkpoint left it; without one, at the start of its stage."""
        segment = self._segment
        folder = self._checkpoints / segment["trial"]
        folder.mkdir(parents=True, exist_ok=True)
        recipe, stage = Recipe.model_validate(segment["recipe"]), segment["stage"]
        self._rows: list[dict[str, Any]] = []
        self._reported = 0
        last = folder / "last.pt"
        if last.exists():
            saved = load_checkpoint(last)
            self._trainer = open_stage(self._bench, recipe, stage)
            self._trainer.load_state(saved["trainer"])
            self._rows = saved["rows"]
            self._reported = min(segment["from_epoch"], len(self._rows))
            return
        if segment["from_epoch"]:
            logger.warning("%s has no checkpoint: it starts again at its first epoch", segment["trial"])
        if segment["parent"] is None:
            self._trainer = open_stage(self._bench, recipe, stage)
            return
        start, about = load_tensors(self._checkpoints / segment["parent"] / "best.safetensors")
        self._trainer = open_stage(
            self._bench,
            recipe,
            stage,
            start,
            expected_loss=about["val_loss"],
            expected_signature=about["signature"],
        )

    def _save(self) -> None:
        """The best tensors first: if the process dies in between, the epoch is trained again, to the same tensors."""
        assert self._trainer is not None
        folder = self._checkpoints / self._segment["trial"]
        if self._trainer.best["epoch"] == self._rows[-1]["epoch"] or len(self._rows) == 1:
            save_tensors(folder / "best.safetensors", self._trainer.best_state, best_metadata(self._trainer))
        save_checkpoint(folder / "last.pt", {"trainer": self._trainer.state(), "rows": self._rows})

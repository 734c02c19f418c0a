"""The numbers that say where a stage stands: epochs, early stopping, the plateau course, and what memory allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raysearch.recipe import Stage
from raysearch.training.course import PLATEAU_THRESHOLD

EVALUATION_BATCH = 256
"""Images a pass of an evaluation: the same in every recipe, so that equal tensors give equal losses."""


@dataclass
class Counters:
    """All plain numbers that the next epoch depends on."""

    epoch: int = 0
    """Finished epochs."""
    highest_score: float = -math.inf
    """The best metric so far, larger is better."""
    stale_epochs: int = 0
    """Epochs since the metric was last better than ever before; early stopping reads it."""
    stalled_epochs: int = 0
    """Epochs since the validation loss last improved, or the rate last dropped; the plateau course reads it."""
    drops: int = 0
    """Drops of the plateau course so far."""
    lowest_val_loss: float = math.inf
    """The loss of the epoch that last improved it."""
    micro_batch: int = 0
    """Images a pass of training: the batch, or less once memory has run out."""
    evaluation_batch: int = EVALUATION_BATCH

    def note(self, stage: Stage, val_loss: float, *, score: float) -> None:
        """Counts an evaluated epoch; `score`: its metric, larger is better."""
        self.stale_epochs = 0 if score > self.highest_score else self.stale_epochs + 1
        self.highest_score = max(self.highest_score, score)
        improved = val_loss < self.lowest_val_loss * (1 - PLATEAU_THRESHOLD)
        self.stalled_epochs = 0 if improved else self.stalled_epochs + 1
        if improved:  # creeping by less than the threshold adds up, until it counts
            self.lowest_val_loss = val_loss
        if self.stalled_epochs > stage.plateau_patience_epochs:
            self.drops, self.stalled_epochs = self.drops + 1, 0

    def finished(self, stage: Stage) -> bool:
        """Whether all epochs are done, or early stopping ends the stage."""
        patience = stage.early_stopping_epochs
        return self.epoch >= stage.epochs or (patience is not None and self.stale_epochs >= patience)

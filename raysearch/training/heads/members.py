"""The heads of a pack, apart from their tensors: what became of each, epoch after epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from raysearch.recipe import Stage
from raysearch.training.counters import Counters
from raysearch.training.epoch import Figures, NonFiniteLossError


@dataclass(frozen=True)
class Worth:
    """What an epoch of a head is worth next to its other epochs and to other heads."""

    score: float
    """The metric; larger is better."""
    loss: float
    """Decides between equal scores; lower is better."""
    figures: Figures = field(default_factory=dict)
    """What it was found from, where that is not in the epoch's row already."""

    def better_than(self, score: float, loss: float) -> bool:
        """Whether it beats a score, or is equal to it at a lower loss."""
        return self.score > score or (self.score == score and self.loss < loss)


NOTHING = Worth(-math.inf, math.inf)
"""The worth of a head that no epoch has trained."""


@dataclass
class Member:
    """A head of a pack."""

    stage: Stage
    counters: Counters
    best: Figures = field(default_factory=dict)
    """The row of the epoch to keep; empty before the first."""
    worth: Worth = NOTHING
    """What `best` is worth."""
    dropped: bool = False
    failure: NonFiniteLossError | None = None

    @classmethod
    def of(cls, stage: Stage) -> Member:
        """A head that begins."""
        return cls(stage, Counters(micro_batch=stage.batch_size))

    @property
    def running(self) -> bool:
        """Whether the next epoch trains it."""
        return not (self.dropped or self.failure or self.counters.finished(self.stage))

    def note(self, row: Figures, worth: Worth | NonFiniteLossError, losses: np.ndarray) -> bool:
        """Counts an epoch that has trained the head.

        Args:
            row: of the epoch.
            worth: of the epoch; an error says that the head failed elsewhere.
            losses: of each step, (steps,).

        Returns: whether the head's tensors are now those to keep.
        """
        self.counters.epoch = row["epoch"]
        finite = np.isfinite(losses)
        if not finite.all():
            step = int(np.argmin(finite))
            self.failure = NonFiniteLossError(step=step + 1, epoch=self.counters.epoch, value=float(losses[step]))
            return False
        if not math.isfinite(loss := row["val_loss"]):
            self.failure = NonFiniteLossError(
                step=len(losses), epoch=self.counters.epoch, value=loss, split="validation"
            )
            return False
        if isinstance(worth, NonFiniteLossError):
            self.failure = worth
            return False
        keep = worth.better_than(self.counters.highest_score, self.worth.loss) or self.stage.keep == "last"
        if keep:
            self.best, self.worth = row, worth
        self.counters.note(self.stage, loss, score=worth.score)
        return keep

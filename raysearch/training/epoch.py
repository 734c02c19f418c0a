"""What an epoch of training ends in: its figures, or a loss that is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Figures = dict[str, Any]
"""An epoch's figures by name, plain numbers, as they are put together; whoever only reads them has a
`raysearch.record.line.Row`."""


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or NaN: the trial failed, and has no score."""

    def __init__(self, *, step: int, epoch: int, value: float = math.nan, split: str = "training") -> None:
        where = "at" if split == "training" else "after"
        super().__init__(f"the {split} loss is {value} {where} step {step} of epoch {epoch}: try a lower learning rate")
        self.step, self.epoch, self.split = step, epoch, split


def check_losses(losses: Sequence[float], epoch: int) -> None:
    """Looks through the training losses of an epoch's steps.

    Raises:
        NonFiniteLossError: with the first step whose loss is infinite or NaN.
    """
    for step, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            raise NonFiniteLossError(step=step, epoch=epoch, value=loss)

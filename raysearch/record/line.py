"""What every line of a run's log has, and the figures that some have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

Row = Mapping[str, float]
"""The figures of an epoch: "epoch", "lr", "seconds", "train_…", "val_…", and "cv_…" of a head that was cross-validated.
Epoch 0 is the state that a trial was handed."""


class Line(TypedDict):
    """A line of the log: when it was written, beside what it says."""

    time: NotRequired[float]

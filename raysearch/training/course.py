"""The learning rate as a pure function of where a stage stands."""

from __future__ import annotations

import math

from raysearch.recipe import Stage

ONE_CYCLE_RISE = 0.3
"""Part of the stage in which one_cycle rises when the stage says no `warmup_epochs`."""
ONE_CYCLE_START = 1 / 25
"""one_cycle starts at this part of the peak, and ends at `ONE_CYCLE_END` of it: torch's and fastai's values."""
ONE_CYCLE_END = 1 / 250_000
PLATEAU_THRESHOLD = 1e-4
"""A validation loss lower by less than this part of the best one counts as a stall (torch's value)."""


def learning_rate(stage: Stage, progress_epochs: float, plateau_drops: int = 0) -> float:
    """The learning rate at one moment of a stage; positive and at most `stage.learning_rate`.

    Args:
        stage: its course, peak, floor, and lengths in epochs.
        progress_epochs: epochs since the stage began, a fraction within an epoch: 0 < progress < stage.epochs. The
            loop asks at the middle of each step, so that neither the first nor the last one is at an empty end.
        plateau_drops: how often the validation loss has stalled so far; read by the plateau course only.
    """
    peak = stage.learning_rate
    floor = min(stage.min_learning_rate, peak)
    if stage.course == "one_cycle":
        rise = stage.warmup_epochs or ONE_CYCLE_RISE * stage.epochs
        if progress_epochs < rise:
            return _ease(peak * ONE_CYCLE_START, peak, progress_epochs / rise)
        return _ease(peak, peak * ONE_CYCLE_END, _part(progress_epochs - rise, stage.epochs - rise))
    if progress_epochs < stage.warmup_epochs:
        return peak * progress_epochs / stage.warmup_epochs
    if stage.course == "cosine":
        fall = _part(progress_epochs - stage.warmup_epochs, stage.epochs - stage.warmup_epochs)
        return _ease(peak, floor, fall)
    if stage.course == "plateau":
        return max(peak * stage.plateau_factor**plateau_drops, floor)
    return peak


def _part(done: float, whole: float) -> float:
    return min(done / whole, 1.0) if whole > 0 else 1.0


def _ease(start: float, end: float, part: float) -> float:
    """Half a cosine from start to end; as a square, which does not round to zero near the end as 1 + cos does."""
    return end + (start - end) * math.cos(part * math.pi / 2) ** 2

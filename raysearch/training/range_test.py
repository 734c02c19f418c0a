"""The learning-rate range test (Smith 2017): in which range of rates a stage learns, from a few dozen steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.models.boundary import train_mode
from raysearch.training.loop import Trainer
from raysearch.training.numerics import seeded

STEPS = 40
SLOWEST, FASTEST = 1e-6, 1.0
_SMOOTHING = 0.8
_MARGIN = 3.0
"""The fastest rate worth trying is that of the lowest loss over this: there the loss is about to rise."""
_WIDTH = 100.0
"""The slowest is so many times slower."""


@dataclass(frozen=True)
class RangeTest:
    """What was tried, what became of the loss, and what follows from it."""

    rates: list[float]
    losses: list[float]
    """The loss of the batch before each step, smoothed."""
    low: float
    high: float


def range_test(trainer: Trainer) -> RangeTest:
    """Raise the learning rate step by step over all magnitudes that may do, and see where the loss falls.

    Args:
        trainer: of a stage that begins; it is of no use afterwards.

    Raises:
        ValueError: not even the slowest step had a finite loss.
    """
    rates = np.geomspace(SLOWEST, FASTEST, STEPS)
    losses = sweep_rates(trainer, rates.tolist())
    if not losses:
        raise ValueError("the loss is not finite before the first step")
    smooth = smoothed(losses)
    high = float(rates[int(np.argmin(smooth))]) / _MARGIN
    return RangeTest(rates[: len(losses)].tolist(), smooth, max(SLOWEST, high / _WIDTH), max(SLOWEST * _WIDTH, high))


def sweep_rates(trainer: Trainer, rates: Sequence[float]) -> list[float]:
    """Takes a step at each learning rate in turn, through the batches of the first epoch; all of one size.

    Args:
        trainer: of a stage that begins; it is of no use afterwards.
        rates: of the steps.

    Returns: the loss of each step's batch before it was taken; ends early, before one that is not finite.
    """
    order, size, losses = trainer.order(1), trainer.stage.batch_size, list[float]()
    train_mode(trainer.suffix, batch_norm=trainer.stage.batch_norm == "train")
    with seeded(trainer.device, trainer.seed, order.view, 1):
        for step, rate in enumerate(rates):
            batch = np.take(order.images, np.arange(step * size, (step + 1) * size), mode="wrap")
            loss = float(
                trainer.ranks.total(trainer.step(trainer.to_step(batch, order.view, step), order.view, rate)[0])
            )
            if not math.isfinite(loss):
                break
            losses.append(loss)
    return losses


def smoothed(values: list[float]) -> list[float]:
    """An exponential moving average that is not drawn to its start (the correction of Adam's moments)."""
    mean, found = 0.0, []
    for step, value in enumerate(values, start=1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        found.append(mean / (1 - _SMOOTHING**step))
    return found

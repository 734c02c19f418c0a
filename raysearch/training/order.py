"""The order in which a stage trains on its images; the loop, the packs of heads and the plan's contact sheet ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.dataset import Split
from raysearch.models.memory import slices
from raysearch.recipe import Recipe, Stage
from raysearch.training.part import part_of

QUICK_VALIDATION_BATCH = 32
"""Images that a quick look counts as one batch of validation: not the stage's, for all stages must see the same."""


@dataclass(frozen=True)
class EpochOrder:
    """The images that an epoch trains on, step by step; it follows from stage, labels, seed and epoch alone."""

    view: int
    """The view in which all images are read."""
    images: np.ndarray
    """Indices into the training images, integer (n,), in the order of training."""
    batches: Sequence[slice]
    """The parts of `images` that the steps take, one each."""

    @property
    def batch_sizes(self) -> list[int]:
        """Images of each step."""
        return [batch.stop - batch.start for batch in self.batches]


def epoch_order(stage: Stage, labels: np.ndarray, seed: int, *, epoch: int, view_offset: int = 0) -> EpochOrder:
    """The order of one epoch.

    Args:
        stage: its `part` says which images, its `batch_size` how many a step.
        labels: of all training images, integer (n,).
        seed: of the recipe.
        epoch: of the stage, from 1.
        view_offset: epochs of the trial's earlier stages; epoch e sees view view_offset + e - 1.
    """
    view = view_offset + epoch - 1
    images = np.random.default_rng([seed, view]).permutation(part_of(stage, labels, seed, epoch))
    return EpochOrder(view, images, slices(len(images), stage.batch_size))


def view_offset(recipe: Recipe, stage_index: int) -> int:
    """Epochs of the stages before one of a recipe's: it sees other views than they did."""
    return sum(stage.epochs for stage in recipe.schedule[:stage_index])


def quick_look(split: Split, max_batches: int | None, batch_size: int) -> Split:
    """A split, or evenly spaced images of it if `max_batches` of this size are fewer."""
    if max_batches is None or len(split) <= max_batches * batch_size:
        return split
    return split.take(quick_places(len(split), max_batches, batch_size))


def quick_places(n: int, max_batches: int | None, batch_size: int) -> NDArray[np.int64]:
    """The places of n images, or evenly spaced ones if `max_batches` of this size are fewer."""
    if max_batches is None or n <= max_batches * batch_size:
        return np.arange(n)
    return np.linspace(0, n - 1, max_batches * batch_size).astype(np.int64)

"""What a stage sees of the images: boundary activations with their labels, and nothing of the frozen blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysearch.activations.base import Activations, ChosenActivations
from raysearch.training.distillation import Teacher


@dataclass(frozen=True, eq=False)
class Labelled:
    """The activations of some images, and the class of each.

    Raises:
        ValueError: there are more of the one than of the other.
    """

    activations: Activations
    labels: np.ndarray
    """Integer (n,)."""
    teacher: Teacher | None = None
    """Who answers to them beside their labels, where that is learned from."""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.activations):
            raise ValueError(f"each image needs a label, got {len(self.activations)} images, {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Labelled:
        """Some of the images, in this order; they are read by way of these."""
        teacher = None if self.teacher is None else self.teacher.take(indices)
        return Labelled(ChosenActivations(self.activations, indices), self.labels[indices], teacher)


@dataclass(frozen=True, eq=False)
class Images:
    """All images of a stage."""

    classes: tuple[str, ...]
    """The c names that labels count, in the order of the logits."""
    train: Labelled
    val: Labelled
    """They decide; read in view 0."""
    held_out: Labelled | None = None
    """They decide nothing, so that trials can be tested on them; read in view 0. None: there are none."""

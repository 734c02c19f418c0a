"""Which of the training images an epoch is trained on: all, or disjoint stratified parts of them (`Stage.part`)."""

from __future__ import annotations

import math

import numpy as np

from raysearch.data.split import parts
from raysearch.recipe import Stage


def part_of(stage: Stage, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The images of one epoch, as indices, ascending.

    Args:
        stage: its `part` says which, its `epochs` how fast a growing part grows.
        labels: of all training images, integer (n,).
        seed: of the recipe: stages of one recipe cut the images in the same way.
        epoch: from 1.
    """
    which, _, of = stage.part.partition("/")
    if not of:
        return np.arange(len(labels))
    first, _, last = which.partition("-")
    if which == "grow":
        first, last = "1", str(math.ceil(int(of) * epoch / stage.epochs))
    cut = parts(np.asarray(labels), int(of), seed)
    return np.flatnonzero((cut >= int(first) - 1) & (cut < int(last or first)))

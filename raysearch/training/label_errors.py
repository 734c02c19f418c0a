"""Training images whose labels are probably wrong, as far as the frozen network can tell: `Stage.drop_label_errors`."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.activations.base import Activations
from raysearch.training.counters import EVALUATION_BATCH
from raysearch.training.heads.out_of_fold import doubts, out_of_fold

_MOST_OF_A_CLASS = 0.5


def label_doubts(
    features: Activations,
    places: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: int,
    groups: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    """How sure heads on frozen features are that each label is wrong, by images that they were not trained on.

    The same of the same images always: a stage that is begun again leaves out what it left out before.

    Args:
        features: pooled, of all images of a split.
        places: those that are trained on; no other has a say.
        labels: of these, shape (n,).
        classes: how many.
        groups: a number that images of these have in common which must not be parted, shape (n,); None: all differ.

    Returns: in [0, 1], shape (n,).
    """
    rows = [features.batch(piece, 0).cpu() for piece in np.array_split(places, -(-len(places) // EVALUATION_BATCH))]
    return doubts(labels, out_of_fold(torch.cat(rows).numpy(), labels, classes, copies=groups))


def least_sure(doubt: NDArray[np.float64], labels: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Which images are left, ascending, when a share of them is dropped, those first whose labels are doubted most.

    No class loses more than half of its images: of a small one that the network does not know, all are doubted.

    Args:
        doubt: of `label_doubts`, shape (n,).
        labels: shape (n,).
        share: in [0, 1).
    """
    most, dropped = math.floor(share * len(labels)), np.zeros(len(labels), bool)
    room = {label: math.floor(_MOST_OF_A_CLASS * count) for label, count in enumerate(np.bincount(labels))}
    for place in np.argsort(-doubt, kind="stable").tolist():
        if dropped.sum() == most:
            break
        label = int(labels[place])
        if room[label]:
            room[label] -= 1
            dropped[place] = True
    return np.flatnonzero(~dropped)

"""Labels that are probably wrong, by confident learning on out-of-fold probabilities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.training.heads.out_of_fold import doubts


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """What the probabilities say of n labels.

    Attributes:
        places: the images whose label is probably wrong, the surest first, shape (m,).
        suggested: the likeliest class other than the label, shape (n,).
        confidence: that the label is wrong: what the out-of-fold probability of the label leaves to 1, shape (n,).
    """

    places: NDArray[np.int64]
    suggested: NDArray[np.int64]
    confidence: NDArray[np.float64]


def find_label_errors(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> LabelErrors:
    """Which labels are probably wrong.

    How many labels of each class are wrong is estimated by confident learning (Northcutt, Jiang and Chuang 2021,
    "Confident Learning: Estimating Uncertainty in Dataset Labels"; cleanlab has it, pruned by noise rate). Heads that
    are often wrong make that many, so a label must also be less likely than by guessing. The order is that of the
    probability of the label itself: a hard image of its class still has some, a wrong label none.

    Args:
        labels: shape (n,).
        probabilities: out of fold, shape (n, classes).
    """
    from cleanlab.filter import find_label_issues  # half a second to import

    confidence = doubts(labels, probabilities)
    with warnings.catch_warnings():
        # It warns of classes with few examples, in which it does not flag; the account of the classes says so too.
        warnings.simplefilter("ignore", UserWarning)
        flagged = find_label_issues(labels, probabilities, n_jobs=1)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    flagged &= confidence > 1 - 1 / probabilities.shape[1]
    flagged &= counts[labels] > 1  # of a class of one image nothing is known where that one is held out
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1.0
    places = np.flatnonzero(flagged)
    return LabelErrors(places[np.argsort(-confidence[places], kind="stable")], others.argmax(axis=1), confidence)

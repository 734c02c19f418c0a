"""Whether the class can be told by what should not tell it: the size of the file, the borders, the corners.

A classifier that finds such a shortcut is right on these images and wrong on those from elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.split import parts
from raysearch.insight.facts import Facts
from raysearch.intervals import effective_number

FOLDS = 5
_MOST = 10_000
"""Images that are looked at; more would not change the figure."""
_QUANTILE = 0.995
_SURE = 2.576
"""Standard errors above chance, the normal distribution's at that quantile: a chance of one in two hundred."""
_AT_LEAST = 0.02
"""How far above chance anything is worth a word."""


@dataclass(frozen=True)
class Shortcut:
    """How well the class is told by one thing alone.

    Attributes:
        by: the thing, e.g. "the file size".
        accuracy: mean over the classes of the share that is told right, out of fold.
        chance: what guessing comes to.
        low: the lower end of its 99 % interval.
    """

    by: str
    accuracy: float
    chance: float
    low: float

    @property
    def found(self) -> bool:
        """Whether it tells more than chance."""
        return self.low > self.chance and self.accuracy - self.chance >= _AT_LEAST

    def line(self, whole: float) -> str:
        """The shortcut in a sentence.

        Args:
            whole: the same figure of heads that see the whole image.
        """
        return (
            f"A classifier that knows {self.by} alone tells the class in {self.accuracy:.0%}, every class counting the "
            f"same; chance is {self.chance:.0%}, the whole image {whole:.0%}"
        )


def find_shortcuts(
    facts: Facts, labels: NDArray[np.int64], seed: int = 0, groups: NDArray[np.int64] | None = None
) -> list[Shortcut]:
    """Every thing that was looked at, whether it tells the class or not.

    Args:
        facts: of n images.
        labels: shape (n,).
        seed: of the choice of images and of the folds.
        groups: a number that images have in common which are held out together, shape (n,); None: all differ.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[:_MOST])
    size = np.log1p(np.stack([facts.width, facts.height], axis=1)[chosen].astype(np.float64))
    looked_at = {
        "the file size": np.log1p(facts.bytes[chosen].astype(np.float64))[:, None],
        "width and height": np.concatenate([size, size[:, :1] - size[:, 1:]], axis=1),
        "the brightness": np.stack([facts.brightness, facts.contrast], axis=1)[chosen].astype(np.float64),
        "the border": facts.borders[chosen].astype(np.float64),
        "the four corners": facts.corners[chosen].astype(np.float64),
    }
    there = {name: columns for name, columns in looked_at.items() if len(np.unique(columns, axis=0)) > 1}
    together = None if groups is None else groups[chosen]
    return [_told_by(name, columns, labels[chosen], seed, together) for name, columns in there.items()]


def balanced_accuracy(
    labels: NDArray[np.int64], answers: NDArray[np.int64], groups: NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """The mean share of right answers over the classes that there are, and its standard error, which counts groups.

    Args:
        labels, answers: shape (n,).
        groups: as of `raysearch.intervals.mean_interval`.
    """
    recalls, variances = [], []
    for label in np.unique(labels):
        of = labels == label
        right = answers[of] == label
        n = effective_number(right, None if groups is None else groups[of], _QUANTILE)
        recalls.append(float(right.mean()))
        # Of no wrong answers among n, the error is not 0: Agresti and Coull's two of each are added.
        share = (recalls[-1] * n + 2) / (n + 4)
        variances.append(share * (1 - share) / (n + 4))
    return float(np.mean(recalls)), math.sqrt(sum(variances)) / len(recalls)


def _told_by(
    name: str, columns: NDArray[np.float64], labels: NDArray[np.int64], seed: int, groups: NDArray[np.int64] | None
) -> Shortcut:
    from sklearn.ensemble import ExtraTreesClassifier  # a second to import

    home = parts(labels, FOLDS, seed, groups)
    answers = np.zeros(len(labels), np.int64)
    for fold in range(FOLDS):
        rest, held_out = home != fold, home == fold
        if rest.any() and held_out.any():
            trees = ExtraTreesClassifier(100, min_samples_leaf=5, class_weight="balanced", random_state=seed)
            answers[held_out] = trees.fit(columns[rest], labels[rest]).predict(columns[held_out])
    accuracy, error = balanced_accuracy(labels, answers, groups)
    return Shortcut(name, accuracy, 1 / len(np.unique(labels)), accuracy - _SURE * error)

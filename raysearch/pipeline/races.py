"""How challengers stand against the default after some folds, and which recipe follows from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.training.paired import Difference

CONFIDENCE = 0.9
"""Of the two-sided interval that must lie above 0 where one thing replaces another: one chance in twenty that it does
so for nothing."""


def confidence_among(challengers: int) -> float:
    """The same of each of several challengers, so that all of them together have one chance in twenty (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, challengers)


@dataclass(frozen=True)
class Race:
    """How a challenger stands against the default after some folds."""

    trial: str
    folds: int
    difference: Difference
    asked: bool = False
    """Whether it is shipped whatever comes of this, because somebody asked for it."""

    @property
    def goes_on(self) -> bool:
        """Whether it is worth another fold."""
        return self.asked or self.difference.better


def choose(default: str, races: Sequence[Race], folds: int) -> str:
    """The trial to train for good: the default, unless a challenger is surely better after all folds.

    One that keeps what is required, or comes nearer to it, is better than one that does not, however little.

    Args:
        default: the default's trial.
        races: of all challengers, after each fold.
        folds: how many there are.
    """
    surely = [race for race in races if race.folds == folds and race.difference.surely]
    return max(surely, key=lambda race: (race.difference.nearer, race.difference.mean)).trial if surely else default

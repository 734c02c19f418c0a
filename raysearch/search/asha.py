"""Asynchronous successive halving that promotes and never kills (Li et al. 2020, "A System for Massively Parallel
Hyperparameter Tuning", algorithm 2).

A rung keeps the best-so-far score of every trial that reached it. A trial may leave for the next rung once it is among
the top 1/reduction of those that arrived so far; a trial that is not may become promotable later, as others arrive.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

Scores = tuple[float, ...]
"""By what trials are compared, larger is better: one figure; of several metrics their balance, then each of them."""


def rungs_for(max_epochs: int, reduction: int, first: int | None = None) -> tuple[int, ...]:
    """The epochs at which trials are compared; the last is `max_epochs`.

    Args:
        max_epochs: epochs of a trial that is never stopped.
        reduction: 1 in `reduction` goes on at each rung, and each rung is `reduction` times as long (at least 2).
        first: the shortest rung; None goes down to about a sixth of `max_epochs`, but not below 2.

    >>> rungs_for(6, 3), rungs_for(12, 3)
    ((2, 6), (4, 12))
    >>> rungs_for(27, 3, first=1)
    (1, 3, 9, 27)
    """
    if max_epochs < 1 or reduction < 2:
        raise ValueError(f"max_epochs must be at least 1 and reduction at least 2, got {max_epochs=}, {reduction=}")
    shortest = first if first is not None else max(2, -(-max_epochs // 6))
    rungs = [max_epochs]
    while (shorter := round(rungs[-1] / reduction)) >= shortest and shorter < rungs[-1]:
        rungs.append(shorter)
    return tuple(reversed(rungs))


@dataclass
class Rung:
    """Trials that reached one rung at one depth, best first.

    A trial that arrives with the same score as another ranks behind it only by its name, so that the order is total
    and the same in every replay.
    """

    reduction: int
    arrived: list[tuple[float, str]] = field(default_factory=list)
    """(-score, trial), ascending: best first."""
    waiting: list[tuple[float, str]] = field(default_factory=list)
    """Those of `arrived` that were not promoted, ascending."""

    def arrive(self, trial: str, scores: Scores) -> None:
        """Record that `trial` finished this rung with these best-so-far scores, of which the first decides."""
        insort(self.arrived, (-scores[0], trial))
        insort(self.waiting, (-scores[0], trial))

    def leave(self, trial: str, scores: Scores) -> None:
        """Record that `trial` was promoted, or can never be (its checkpoint is gone)."""
        place = bisect_left(self.waiting, (-scores[0], trial))
        if place < len(self.waiting) and self.waiting[place] == (-scores[0], trial):
            del self.waiting[place]

    def promotable(self) -> str | None:
        """The best trial that may go on now, or None."""
        if not self.waiting:
            return None
        best = self.waiting[0]
        return best[1] if bisect_left(self.arrived, best) < len(self.arrived) // self.reduction else None

    def hopeless(self, still_to_come: int) -> Iterator[str]:
        """Trials that cannot become promotable even if `still_to_come` more trials arrive, all of them worse."""
        places = max(1, (len(self.arrived) + still_to_come) // self.reduction)
        for entry in reversed(self.waiting):
            if bisect_left(self.arrived, entry) < places:
                return
            yield entry[1]

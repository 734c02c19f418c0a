"""A rung of a search that is after several metrics: who goes on is decided by fronts, and spread along each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raysearch.record.fronts import dominators, fronts, numbers
from raysearch.search.asha import Scores


def spread_out(points: ArrayLike) -> list[int]:
    """The places of all points so that each is as far as can be from those before it: an epsilon-net.

    It begins with the first; of several that are as far, the earlier comes first. So any number of them, from the
    first on, covers the whole (Salinas et al. 2021, "A multi-objective perspective on jointly tuning hardware and
    hyperparameters"; in ASHA: Schmucker et al. 2021, "Multi-objective Asynchronous Successive Halving").

    Args:
        points: shape (n, figures), n at least 1; each figure is scaled to the range that it has among them.
    """
    values = numbers(points)
    span = values.max(axis=0) - values.min(axis=0)
    values = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
    order, distance = [0], np.full(len(values), np.inf)
    while len(order) < len(values):
        distance = np.minimum(distance, np.linalg.norm(values - values[order[-1]], axis=1))
        distance[order] = -1.0
        order.append(int(distance.argmax()))
    return order


@dataclass
class FrontRung:
    """Trials that reached one rung at one depth, where there are several metrics; else see `Rung`.

    Among the top 1/reduction are those of the first fronts; of a front that does not fit in whole, those that its
    `spread_out` begins with, from the one of the best balance on. The order is total, and the same in every replay.
    """

    reduction: int
    _arrived: dict[str, Scores] = field(default_factory=dict)
    _waiting: dict[str, None] = field(default_factory=dict)
    _order: list[str] | None = None
    """All that arrived, the first to go on first; None: to be found anew."""

    def arrive(self, trial: str, scores: Scores) -> None:
        """As of `Rung`; the scores after the first, which is their balance, are of each metric."""
        self._arrived[trial], self._waiting[trial], self._order = scores, None, None

    def leave(self, trial: str, scores: Scores) -> None:
        """As of `Rung`."""
        self._waiting.pop(trial, None)

    def promotable(self) -> str | None:
        """As of `Rung`."""
        may_go = self._in_order()[: len(self._arrived) // self.reduction]
        return next((trial for trial in may_go if trial in self._waiting), None)

    def hopeless(self, still_to_come: int) -> Iterator[str]:
        """As of `Rung`: those that are dominated by as many as may go on, all of whom come before them for good."""
        places, names = max(1, (len(self._arrived) + still_to_come) // self.reduction), list(self._arrived)
        above = dominators(self._points(names)).sum(axis=1)
        hopeless = (trial for trial, count in zip(names, above, strict=True) if count >= places)
        yield from (trial for trial in hopeless if trial in self._waiting)

    def _in_order(self) -> list[str]:
        if self._order is None:
            # By balance and name first: a net begins with the best of a front, and equals keep their order.
            names = sorted(self._arrived, key=lambda name: (-self._arrived[name][0], name))
            points, self._order = self._points(names), []
            front = fronts(points)
            for number in range(1, int(front.max(initial=0)) + 1):
                places = np.flatnonzero(front == number)
                self._order += [names[places[place]] for place in spread_out(points[places])]
        return self._order

    def _points(self, names: Sequence[str]) -> NDArray[np.float64]:
        several = len(next(iter(self._arrived.values()), (0.0,))) - 1
        return np.array([self._arrived[name][1:] for name in names], float).reshape(len(names), several)

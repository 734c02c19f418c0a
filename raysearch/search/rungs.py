"""The rungs of every level, network and depth, where trials stand, and the scores by which they are compared there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from raysearch.record.line import Row
from raysearch.record.trial import Trial
from raysearch.search.asha import Rung, Scores
from raysearch.search.fronts import FrontRung
from raysearch.search.rules import Rules


class Place(NamedTuple):
    """Where trials are compared: those of one level, network and depth with each other."""

    level: int
    network: str
    depth: int
    rung: int
    """Its number; 0: none was reached."""

    @classmethod
    def of(cls, trial: Trial, rung: int) -> Place:
        """A trial's place at a rung."""
        return cls(trial.stage, trial.network, trial.depth, rung)


@dataclass
class Rungs:
    """The rungs of a search. Heads, which are compared within their packs, and controls, which have no rivals, stand on
    none.
    """

    rules: Rules
    _rungs: dict[Place, Rung | FrontRung] = field(default_factory=dict)
    """From the highest down."""
    _best: dict[str, tuple[float, Row]] = field(default_factory=dict)
    """The best epoch that a trial trained itself: its standing and its row."""
    _climbs: dict[str, list[Scores]] = field(default_factory=dict)

    def score(self, trial: Trial) -> float:
        """The standing of the best of the epochs that the trial trained itself; larger is better. A trial that only
        spoils what it was handed must not look as good as its parent.
        """
        best = self._best.get(trial.name)
        return -inf if best is None else best[0]

    def shortfall(self, trial: Trial) -> float:
        """By how much that epoch misses what is required; 0 where there is none yet."""
        best = self._best.get(trial.name)
        return 0.0 if best is None else self.rules.shortfall(best[1])

    def climb(self, trial: Trial) -> list[Scores]:
        """Each metric's score of the trial when it reached each rung; one that ended early has reached all that would
        have come.
        """
        return self._climbs.get(trial.name, [])

    def note(self, trial: Trial, row: Row) -> None:
        """The trial has trained an epoch."""
        if (standing := self.rules.standing(row)) > self.score(trial):
            self._best[trial.name] = standing, row

    def arrive(self, trial: Trial) -> None:
        """The trial has ended a segment.

        One that stopped early has reached every later rung with what it has, so that others are held to it.
        """
        scores, climb, best = self._scores(trial), self._climbs.setdefault(trial.name, []), self._best.get(trial.name)
        last = len(self.rules.rungs) if trial.finished else trial.rung
        for number in range(trial.rung, last + 1):
            climb.append((-inf,) * max(1, len(self.rules.several)) if best is None else self.rules.scores(best[1]))
            rung = self._rung_at(Place.of(trial, number))
            rung.arrive(trial.name, scores)
            if trial.finished:
                rung.leave(trial.name, scores)

    def leave(self, trial: Trial) -> None:
        """The trial was promoted, or can never be."""
        if (rung := self._rung_of(trial)) is not None:
            rung.leave(trial.name, self._scores(trial))

    def may_leave(self, trial: Trial) -> bool:
        """Whether the trial is the one that its rung would promote now."""
        rung = self._rung_of(trial)
        return rung is not None and rung.promotable() == trial.name

    def promotable(self) -> str | None:
        """The trial to promote, from the highest rung down."""
        below_the_last = (rung for place, rung in self._rungs.items() if place.rung < len(self.rules.rungs))
        return next((name for rung in below_the_last if (name := rung.promotable()) is not None), None)

    def hopeless(self, to_come: Callable[[Place], int]) -> list[str]:
        """Trials that can never be promoted.

        Args:
            to_come: how many trials may still arrive at a rung.
        """
        found: list[str] = []
        for place, rung in self._rungs.items():
            if place.rung < len(self.rules.rungs):
                found += rung.hopeless(to_come(place))
        return found

    def _rung_at(self, place: Place) -> Rung | FrontRung:
        if place not in self._rungs:
            kind = FrontRung if self.rules.several else Rung
            rungs = {**self._rungs, place: kind(self.rules.reduction)}
            self._rungs = {place: rungs[place] for place in sorted(rungs, key=lambda one: (-one.rung, one))}
        return self._rungs[place]

    def _scores(self, trial: Trial) -> Scores:
        """What its rung compares: its standing, and where there are several metrics that by each of them."""
        best, several = self._best.get(trial.name), self.rules.several
        each = (-inf,) * len(several) if best is None else self.rules.standings(best[1])
        return (self.score(trial), *(each if several else ()))

    def _rung_of(self, trial: Trial) -> Rung | FrontRung | None:
        return self._rungs.get(Place.of(trial, trial.rung))

"""Sums and the like over all trials, brought up to date with every event.

A search of 10,000 trials cannot look at each of them whenever one ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raysearch.record.trial import State, Trial
from raysearch.search.rules import Rules
from raysearch.search.rungs import Place


@dataclass
class Tally:
    """Figures over all trials and heads. A trial is taken out before an event changes it, and put back after it."""

    rules: Rules
    states: dict[str, dict[State, int]] = field(
        default_factory=lambda: {kind: dict.fromkeys(State, 0) for kind in "ht"}
    )
    """How many heads ("h") and trials ("t") are in each state."""
    epochs: int = 0
    """The epochs of trials, heads aside, in segments that ended."""
    best_done: Trial | None = None
    """The best of the trials, heads aside, that were trained to the end; the earliest of equals."""
    _children: dict[str, int] = field(default_factory=dict)
    """How many trials that are not done started from each trial that some did."""
    _standing: dict[Place, int] = field(default_factory=dict)
    """How many trials, heads and failed ones aside, have come to each rung and no further."""

    @property
    def parents(self) -> set[str]:
        """The names of those from which a trial started that is not done."""
        return set(self._children)

    def made(self, kind: str) -> int:
        """How many heads ("h") or trials ("t") there are."""
        return sum(self.states[kind].values())

    def over(self, kind: str) -> int:
        """How many heads ("h") or trials ("t") are at rest."""
        return sum(count for state, count in self.states[kind].items() if state.at_rest)

    def below(self, place: Place) -> int:
        """How many trials of its level, network and depth have not come to a rung and have not failed."""
        return sum(self._standing.get(place._replace(rung=lower), 0) for lower in range(place.rung))

    def out(self, trial: Trial) -> None:
        """Forget a trial as it is."""
        self._add(trial, -1)

    def put(self, trial: Trial) -> None:
        """Take a trial as it is now."""
        self._add(trial, 1)
        if trial.finished and not trial.is_head:
            both = [one for one in (self.best_done, trial) if one is not None]
            self.best_done = self.rules.best(sorted(both, key=lambda one: one.number))

    def _add(self, trial: Trial, change: int) -> None:
        state = trial.state
        self.states[trial.name[0]][state] += change
        if not trial.is_head:
            self.epochs += change * trial.epochs
            if not trial.failed:
                place = Place.of(trial, trial.rung)
                self._standing[place] = self._standing.get(place, 0) + change
        if trial.parent is not None and state is not State.DONE:
            self._children[trial.parent] = self._children.get(trial.parent, 0) + change
            if not self._children[trial.parent]:
                del self._children[trial.parent]

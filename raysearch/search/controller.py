"""What runs next: decisions from the state of a search, as events to log.

No Ray, no torch, no clock, no randomness of its own: `decide` reads the state and answers with the events that should
happen next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from raysearch.recipe import Recipe
from raysearch.record.events import Event, Promoted, Role, SegmentStarted, TrialMade
from raysearch.record.info import Json
from raysearch.record.trial import State, Trial
from raysearch.search.rungs import Place
from raysearch.search.state import SearchState


@dataclass(frozen=True)
class Proposal:
    """A trial or head to try."""

    parent: str | None
    """The trial that it starts from."""
    params: Json
    """What was searched: a value by dotted path."""
    recipe: Recipe
    stage: int
    """Index in its schedule of the stage that it trains."""
    first: int | None = None
    """Which of the space's first recipes it is, if it is one of them."""
    prior: int = 0
    """How many trials of earlier runs the sampler knew of when it was drawn."""

    def made(self, name: str) -> TrialMade:
        """The event that makes it."""
        made = TrialMade(
            event="trial",
            trial=name,
            parent=self.parent,
            depth=self.recipe.schedule[self.stage].depth,
            params=self.params,
            recipe=self.recipe,
            stage=self.stage,
        )
        if self.first is not None:
            made["first"] = self.first
        if self.prior:
            made["prior"] = self.prior
        return made


class Proposer(Protocol):
    """Says which recipe to try next; a pure function of the state (its randomness comes from a seed and the number)."""

    def pack(self, number: int, at_most: int, state: SearchState) -> Sequence[Proposal]:
        """Heads that train together, from the head search's `number` on: at least one."""

    def trial(self, number: int, state: SearchState, *, level: int, role: Role | None) -> Proposal:
        """The search's trial `number`."""


@dataclass
class Controller(SearchState):
    """A search that decides what it does next."""

    proposer: Proposer

    def decide(self, prefer: str | None = None) -> list[Event]:
        """The events that start the next work of a free worker, in order. Empty: nothing to run now.

        The last is a "segment"; a pack of heads, which one worker trains together, has a segment for each.

        Args:
            prefer: a trial whose actor is at hand: if it may go on, it does, without loading a checkpoint.
        """
        name, why = self._choose(prefer)
        if name is None:
            return []
        if name.startswith("h"):
            return self._new_pack(int(name[1:])) if why == "new" else self._pack_again(self.trials[name])
        if why == "new":
            level, role = self.tree.level, self.tree.next_role()
            proposed = self.proposer.trial(int(name[1:]), self, level=level, role=role)
            made = proposed.made(name)
            if role is not None:
                made["role"] = role
            return [made, _segment(Trial.of(made), self.rules.rungs[0])]
        trial = self.trials[name]
        target = trial.rung + 1 if why == "promoted" else trial.target
        segment = _segment(trial, self.rules.rungs[target - 1])
        return [Promoted(event="promoted", trial=name), segment] if why == "promoted" else [segment]

    def _new_pack(self, number: int) -> list[Event]:
        pack = self.packs.next_number
        proposed = self.proposer.pack(number, self.heads_wanted - number, self)
        made = [one.made(f"h{head:04d}") for head, one in enumerate(proposed, start=number)]
        for one in made:
            one["pack"] = pack
        return [*made, *(_segment(Trial.of(head)) for head in made)]

    def _pack_again(self, head: Trial) -> list[Event]:
        """Segments of the heads of a pack that was broken off, from their first epoch."""
        return [_segment(one) for one in self.packs.of(head.pack) if one.name in self.due]

    def _choose(self, prefer: str | None = None) -> tuple[str | None, Literal["due", "promoted", "new"]]:
        """The trial to run, None if there is none, and why."""
        if prefer is not None and self.may_go_on(prefer):
            return prefer, "promoted"
        if self.due:
            return next(iter(self.due)), "due"
        heads, trials = self.tally.made("h"), self.tally.made("t")
        if heads < self.heads_wanted:
            return f"h{heads:04d}", "new"
        if self.packs.going or not self.trials_wanted:
            return None, "new"
        if heads and self.best_head() is None:  # every head failed: there is nothing to start from
            return None, "new"
        if self.to_compare is not None:  # which networks go on is not known
            return None, "new"
        promoted = self._promotable()
        if promoted is None and self.tree.to_start(self.tree.level) > 0:
            return f"t{trials:04d}", "new"
        if promoted is None and self.idle:
            promoted = self._unfinished_leader()
            if promoted is None and self.tree.wants_control():
                return f"t{trials:04d}", "new"
        return promoted, "promoted"

    @property
    def to_test(self) -> tuple[int, Trial] | None:
        """The level whose learning rates are to be tested before it begins, and what it starts from."""
        if not self.rules.lr_find or not self.trials_wanted or self.tree.level in self.tree.rate_bounds:
            return None
        if self.tree.begun or not self.idle or self.tally.made("h") < self.heads_wanted:
            return None
        level, first = self.tree.level, self.tree.level == self.rules.levels[0]
        start = self.best_head() if first else next(iter(self.tree.beam(level - 1)), None)
        return (level, start) if start is not None else None

    @property
    def to_compare(self) -> dict[str, Trial | None] | None:
        """The best head of each network, if there are several and they wait to be compared (a "networks" event)."""
        heads = self.tally.made("h")
        if len(self.rules.networks) < 2 or not heads or heads < self.heads_wanted or self.packs.going:
            return None
        if self.best_head() is None or (self.compared is not None and self.compared["heads"] == heads):
            return None
        return {name: self.packs.best_of(name) for name in self.rules.networks}

    @property
    def to_judge(self) -> tuple[Trial, Trial | None] | None:
        """The leader and the control of a level that is over and waits for its verdict (a "level" event)."""
        if len(self.rules.levels) < 2 or not self.idle:
            return None
        level = self.tree.level
        if level not in self.tree.leaders or self.tree.judged(level) or self._choose()[0] is not None:
            return None
        return self.tree.leaders[level], self.tree.control(level)

    def may_go_on(self, name: str) -> bool:
        """Whether a trial that finished a rung may be promoted now."""
        trial = self.trials[name]
        if trial.is_head or trial.state is not State.STOPPED or trial.dropped:
            return False
        # The known-good recipe is trained to the end, so that the winner is compared with it at full length.
        return trial.role is not None or self.rungs.may_leave(trial)

    def _promotable(self) -> str | None:
        """The trial to promote: one with a role, or from the highest rung down."""
        going = (trial.name for trial in self.tree.going() if self.may_go_on(trial.name))
        return next(going, None) or self.rungs.promotable()

    def _unfinished_leader(self) -> str | None:
        """The best trial, if it was stopped before the last rung: a winner is always trained to the end."""
        leader = self.tree.leaders.get(self.tree.level)
        return leader.name if leader is not None and leader.state is State.STOPPED and not leader.dropped else None

    @property
    def finished(self) -> bool:
        """Nothing runs and nothing is left to run."""
        return self.idle and self._choose()[0] is None and self.to_judge is None and self.to_compare is None

    def counts(self) -> dict[State, int]:
        """How many trials (heads, if no trials are wanted) are in each state; those not started yet are waiting."""
        kind, wanted = ("t", self.trials_wanted) if self.trials_wanted else ("h", self.heads_wanted)
        states = dict(self.tally.states[kind])
        if not (self.tree.stopped and self.finished):  # those that a verdict spared are not waiting
            states[State.WAITING] += max(0, wanted - self.tally.made(kind))
        return states

    def droppable(self) -> list[str]:
        """Stopped trials that can never be promoted again within the budget: their checkpoints may go."""
        if not self.trials_wanted:
            return []
        current = self.tree.level
        to_start = self.tree.to_start(current)

        def to_come(place: Place) -> int:
            return self.tally.below(place) + (to_start if place.level == current else 0)

        leaders = {leader.name for leader in self.tree.leaders.values()}
        hopeless = (self.trials[name] for name in self.rungs.hopeless(to_come))
        stopped = (one for one in hopeless if one.state is State.STOPPED)
        # Leaders and defaults are trained to the end wherever they stand in their rungs.
        return [one.name for one in stopped if one.role is None and one.name not in leaders]


def _segment(trial: Trial, rung_epochs: int | None = None) -> SegmentStarted:
    """The event that starts a trial's next segment: to the end of its stage, or of the rung if that is sooner.

    Args:
        trial: that trains.
        rung_epochs: where its next rung is; None for a head, which is compared within its pack.
    """
    to_epoch = trial.recipe.schedule[trial.stage].epochs
    started = SegmentStarted(
        event="segment",
        trial=trial.name,
        segment=f"{trial.name}.{trial.segments + 1}",
        stage=trial.stage,
        from_epoch=0 if trial.is_head else trial.epochs,
        to_epoch=to_epoch if rung_epochs is None else min(to_epoch, rung_epochs),
    )
    if trial.pack is not None:
        started["pack"] = trial.pack
    return started

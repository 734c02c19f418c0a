"""The search as a pure state machine over the log: from the events so far, what runs next.

No Ray, no torch, no clock, no randomness of its own: `apply` takes an event, `decide` reads the state and answers with
the events that should happen next. Replaying a log gives the same state, so a resume is a replay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from raysearch.record.trial import Event, Trial
from raysearch.search.asha import Rung
from raysearch.search.packs import Packs
from raysearch.search.rules import Rules
from raysearch.search.tally import Tally
from raysearch.search.tree import Tree


class Proposer(Protocol):
    """Says which recipe to try next; a pure function of the state (its randomness comes from a seed and the number)."""

    def pack(self, number: int, at_most: int, state: Controller) -> list[Event]:
        """Recipes of the head search that train together, from its recipe `number` on: at least one."""

    def trial(self, number: int, state: Controller, *, level: int, role: str | None) -> Event:
        """The search's recipe `number`: {"depth", "params", "recipe", "parent", "stage"}; so is each of a pack."""


@dataclass
class Controller:
    """State of a search and its next decision.

    `trials` keeps every head and trial by name, in the order in which they were started.
    """

    rules: Rules
    proposer: Proposer
    heads_wanted: int = 0
    trials: dict[str, Trial] = field(default_factory=dict)
    tree: Tree = field(init=False)
    """Its levels; of all trials but heads."""
    packs: Packs = field(init=False)
    """Its heads."""
    tally: Tally = field(init=False)
    _rungs: dict[tuple[int, int, int], Rung] = field(default_factory=dict)
    """By level, depth and number."""
    _counts: dict[str, int] = field(default_factory=lambda: {"h": 0, "t": 0})
    _open: dict[str, None] = field(default_factory=dict)
    """Trials whose next segment is decided but not running: new, promoted, or to be run again; in order."""
    _running: set[str] = field(default_factory=set)
    _places: dict[tuple[int, int, int], int] = field(default_factory=dict)
    """How many trials, failed ones aside, stand at each (level, depth, rung)."""

    def __post_init__(self) -> None:
        self.tree, self.packs, self.tally = Tree(self.rules), Packs(self.rules), Tally(self.rules)

    # ---- taking events -------------------------------------------------------------------------------------------

    def replay(self, events: Iterable[Event]) -> None:
        """Apply a whole log."""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take one event of the log; kinds that do not concern the search are passed over."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is None:
            return
        name = event.get("trial", "")
        if name in self.trials:
            self.tally.out(self.trials[name])
        handler(event)
        if name in self.trials:
            self.tally.put(self.trials[name])

    def _on_budget(self, event: Event) -> None:
        self.heads_wanted, self.tree.wanted = event["heads"], event["trials"]

    def _on_trial(self, event: Event) -> None:
        trial = Trial(event["trial"], event["parent"], event["depth"], event["params"], event["recipe"], event["stage"])
        trial.pack, trial.role, trial.target = event.get("pack"), event.get("role"), 1
        self.trials[trial.name] = trial
        self._counts[trial.name[0]] += 1
        if trial.pack is not None:
            self.packs.add(trial.pack, trial)
        else:
            self.tree.add(trial)
        self._count(trial, 1)
        self._open[trial.name] = None

    def _on_promoted(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        if trial.role != "control":
            self._rung(trial).leave(trial.name, trial.score)
        trial.target = trial.rung + 1
        self._open[trial.name] = None

    def _on_segment(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.running = event["segment"]
        trial.segments += 1
        self._open.pop(trial.name, None)
        self._running.add(trial.name)

    def _on_epoch(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.score, trial.rate = max(trial.score, self.rules.score(event)), event.get("lr")

    def _on_segment_end(self, event: Event) -> None:
        trial = self._close(event)
        trial.epochs, trial.best = event["epoch"], event["best"]
        self._count(trial, -1)
        trial.rung = trial.target
        self._count(trial, 1)
        trial.finished = event["finished"]
        if trial.pack is not None:
            self.packs.ended(trial.pack)
            return
        self.tree.reached(trial)
        if trial.role == "control":  # it has no rivals
            return
        # One that stopped early has reached every later rung with what it has, so that others are held to it.
        last = len(self.rules.rungs) if trial.finished else trial.rung
        for rung in range(trial.rung, last + 1):
            trial.rung_scores.append(trial.score)
            at_rung = self._rung_at(trial, rung)
            at_rung.arrive(trial.name, trial.score)
            if trial.finished:
                at_rung.leave(trial.name, trial.score)

    def _on_segment_lost(self, event: Event) -> None:
        trial = self._close(event)
        trial.lost += event["cause"] == "process"
        self._open[trial.name] = None

    def _on_waiting(self, event: Event) -> None:
        self.trials[event["trial"]].needs = event["needs"]

    def _on_placed(self, event: Event) -> None:
        self.trials[event["trial"]].needs = None

    def _on_failed(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.running, trial.needs, trial.failed = None, None, True
        self._count(trial, -1)
        self._running.discard(trial.name)
        self._open.pop(trial.name, None)
        if trial.pack is None:
            self.tree.gone(trial)
        else:
            self.packs.ended(trial.pack)

    def _on_dropped(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.dropped = True
        if trial.best is not None and not trial.is_head and trial.role != "control":
            self._rung(trial).leave(trial.name, trial.score)

    def _on_level(self, event: Event) -> None:
        self.tree.note_verdict(event)

    def _on_lr_find(self, event: Event) -> None:
        self.tree.note_rates(event)

    def _on_segment_paused(self, event: Event) -> None:
        self._open[self._close(event).name] = None

    def _close(self, event: Event) -> Trial:
        trial = self.trials[event["trial"]]
        if trial.running != event["segment"]:
            raise ValueError(f"{event['event']} for segment {event['segment']}, but {trial.name} runs {trial.running}")
        trial.running = trial.needs = None
        self._running.discard(trial.name)
        return trial

    def _count(self, trial: Trial, change: int) -> None:
        if not trial.is_head:
            place = (trial.stage, trial.depth, trial.rung)
            self._places[place] = self._places.get(place, 0) + change

    def _rung(self, trial: Trial) -> Rung:
        return self._rung_at(trial, trial.rung)

    def _rung_at(self, trial: Trial, rung: int) -> Rung:
        return self._rungs.setdefault((trial.stage, trial.depth, rung), Rung(self.rules.reduction))

    # ---- deciding ------------------------------------------------------------------------------------------------

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
            made = {"event": "trial", "trial": name, **proposed, **({"role": role} if role is not None else {})}
            return [made, self._segment(made, self.rules.rungs[0], 0, 1)]
        trial = self.trials[name]
        target = trial.rung + 1 if why == "promoted" else trial.target
        segment = self._segment(_made(trial), self.rules.rungs[target - 1], trial.epochs, trial.segments + 1)
        return [*([{"event": "promoted", "trial": name}] if why == "promoted" else []), segment]

    def _new_pack(self, number: int) -> list[Event]:
        pack = self.packs.next_number
        proposed = self.proposer.pack(number, self.heads_wanted - number, self)
        made = [
            {"event": "trial", "trial": f"h{head:04d}", "pack": pack, **event}
            for head, event in enumerate(proposed, start=number)
        ]
        return [*made, *(self._segment(one, None, 0, 1) for one in made)]

    def _pack_again(self, head: Trial) -> list[Event]:
        """What was broken off of a pack, from its first epoch."""
        again = [one for one in self.packs.of(head.pack) if one.name in self._open]
        return [self._segment(_made(one), None, 0, one.segments + 1) for one in again]

    def _segment(self, made: Event, rung_epochs: int | None, done: int, number: int) -> Event:
        """The event that starts a segment: to the end of its stage, or of the rung if that is sooner."""
        stage, name = made["stage"], made["trial"]
        to_epoch = made["recipe"]["schedule"][stage]["epochs"]
        pack = {} if made.get("pack") is None else {"pack": made["pack"]}
        return {
            "event": "segment",
            "trial": name,
            "segment": f"{name}.{number}",
            "stage": stage,
            "from_epoch": done,
            "to_epoch": to_epoch if rung_epochs is None else min(to_epoch, rung_epochs),
            **pack,
        }

    def _choose(self, prefer: str | None) -> tuple[str | None, str]:
        """The trial to run, and whether it is "open", "promoted" or "new"."""
        if prefer is not None and self.may_go_on(prefer):
            return prefer, "promoted"
        if self._open:
            return next(iter(self._open)), "open"
        if self._counts["h"] < self.heads_wanted:
            return f"h{self._counts['h']:04d}", "new"
        if any(self.trials[name].is_head for name in self._running) or not self.trials_wanted:
            return None, ""
        if self._counts["h"] and self.best_head() is None:  # every head failed: there is nothing to start from
            return None, ""
        promoted = self._promotable()
        if promoted is None and self.tree.to_start(self.tree.level) > 0:
            return f"t{self._counts['t']:04d}", "new"
        if promoted is None and not self._running:
            promoted = self._unfinished_leader()
            if promoted is None and self.tree.wants_control():
                return f"t{self._counts['t']:04d}", "new"
        return promoted, "promoted"

    @property
    def to_test(self) -> tuple[int, Trial] | None:
        """The level whose learning rates are to be tested before it begins, and what it starts from."""
        if not self.rules.lr_find or not self.trials_wanted or self.tree.level in self.tree.rate_bounds:
            return None
        if self.tree.begun or self._running or self._counts["h"] < self.heads_wanted:
            return None
        level, first = self.tree.level, self.tree.level == self.rules.levels[0]
        start = self.best_head() if first else next(iter(self.tree.beam(level - 1)), None)
        return (level, start) if start is not None else None

    @property
    def to_judge(self) -> tuple[Trial, Trial | None] | None:
        """The leader and the control of a level that is over and waits for its verdict (a "level" event)."""
        if len(self.rules.levels) < 2 or self._running:
            return None
        level = self.tree.level
        if level not in self.tree.leaders or self.tree.judged(level) or self._choose(None)[0] is not None:
            return None
        return self.tree.leaders[level], self.tree.control(level)

    def may_go_on(self, name: str) -> bool:
        """Whether a trial that finished a rung may be promoted now."""
        trial = self.trials[name]
        if trial.is_head or trial.state != "stopped" or trial.dropped:
            return False
        # The known-good recipe is trained to the end, so that the winner is compared with it at full length.
        return trial.role is not None or self._rung(trial).promotable() == trial.name

    def _promotable(self) -> str | None:
        """The trial to promote, from the highest rung down."""
        for trial in self.tree.going():
            if self.may_go_on(trial.name):
                return trial.name
        for level, depth, rung in sorted(self._rungs, key=lambda key: (-key[2], key)):
            name = self._rungs[level, depth, rung].promotable() if rung < len(self.rules.rungs) else None
            if name is not None:
                return name
        return None

    def _unfinished_leader(self) -> str | None:
        """The best trial, if it was stopped before the last rung: a winner is always trained to the end."""
        leader = self.tree.leaders.get(self.tree.level)
        return leader.name if leader is not None and leader.state == "stopped" and not leader.dropped else None

    # ---- reading -------------------------------------------------------------------------------------------------

    @property
    def trials_wanted(self) -> int:
        """Of the whole search, heads aside."""
        return self.tree.wanted

    @property
    def leader(self) -> Trial | None:
        """The trial with the best so far, the earliest of equals; not a failed one. A head if no trials are wanted."""
        if self.trials_wanted:
            return self.rules.best(leader for _, leader in sorted(self.tree.leaders.items()))
        return self.best_head()

    @property
    def default(self) -> Trial | None:
        """The trial of the default recipe, as far as it came; the head if no trials are wanted."""
        if not self.trials_wanted:
            return self.trials.get("h0000")
        ours = [one for one in self.tree.with_a_role() if one.role == "default" and one.best and not one.failed]
        return max(ours, key=lambda one: one.stage, default=None)

    def best_head(self, **shape: Any) -> Trial | None:
        """The best head with this pooling="avg" or head={...}, of the packs that are complete.

        The best of a pack are written when it is.
        """
        return self.packs.best(**shape)

    @property
    def running(self) -> list[Trial]:
        """Trials and heads that run, in the order in which they were made."""
        return [self.trials[name] for name in sorted(self._running, key=lambda name: (name[0], int(name[1:])))]

    def path(self, trial: Trial) -> list[Trial]:
        """What a trial has grown from, the head first, and the trial."""
        grown = [trial]
        while (parent := grown[0].parent) is not None:
            grown.insert(0, self.trials[parent])
        return grown

    @property
    def winner(self) -> Trial | None:
        """What the search has found: the best of the trials that were trained to the end (of all, if none was).

        Trials of a level that brought nothing are passed over, and so is what a level with a gain has left behind. If
        even the best head alone is better than the rest, it wins: a search must not lose to what it started from.
        """
        able = [one for one in self.trials.values() if not one.is_head and one.able and self.tree.may_win(one)]
        finished = [trial for trial in able if trial.finished]
        if self.rules.deepest_wins and finished:
            deepest = max(trial.stage for trial in finished)
            return self.rules.best(trial for trial in finished if trial.stage == deepest)
        found, head = self.rules.best(finished or able), self.best_head()
        if self.tree.gained is not None:
            return found
        if found is None or head is None:
            return found or head
        return head if self.rules.better(head, found) else found

    @property
    def finished(self) -> bool:
        """Nothing runs and nothing is left to run."""
        return not self._running and self._choose(None)[0] is None and self.to_judge is None

    def counts(self) -> dict[str, int]:
        """How many trials (heads, if no trials are wanted) are in each state; those not started yet are waiting."""
        kind, wanted = ("t", self.trials_wanted) if self.trials_wanted else ("h", self.heads_wanted)
        states = dict(self.tally.states[kind])
        if not (self.tree.stopped and self.finished):  # those that a verdict spared are not waiting
            states["waiting"] += max(0, wanted - self._counts[kind])
        return states

    def keepers(self) -> set[str]:
        """Whose best tensors are still needed once trained: leaders, the default, and every head of promise.

        Also the best of those that are done: it leads if the leader, which may still be training, fails. And what the
        next level starts from and is judged by.
        """
        best = [*self.tree.needed(), *self.packs.best_of_each(), self.tally.best_done, self.default]
        return self.tally.parents | {trial.name for trial in best if trial is not None}

    def droppable(self) -> list[str]:
        """Stopped trials that can never be promoted again within the budget: their checkpoints may go."""
        if not self.trials_wanted:
            return []
        current, hopeless = self.tree.level, list[str]()
        to_start = self.tree.to_start(current)
        for (level, depth, rung), place in self._rungs.items():
            if rung < len(self.rules.rungs):
                below = sum(self._places.get((level, depth, lower), 0) for lower in range(rung))
                hopeless += place.hopeless(below + (to_start if level == current else 0))
        leaders = {leader.name for leader in self.tree.leaders.values()}
        stopped = (self.trials[name] for name in hopeless if self.trials[name].state == "stopped")
        # Leaders and defaults are trained to the end wherever they stand in their rungs.
        return [one.name for one in stopped if one.role is None and one.name not in leaders]


def _made(trial: Trial) -> Event:
    """As of its "trial" event, what a segment of it needs."""
    return {"trial": trial.name, "stage": trial.stage, "recipe": trial.recipe, "pack": trial.pack}

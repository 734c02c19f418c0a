"""The state of a search: what its log amounts to. Replaying a log gives the same state, so a resume is a replay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from raysearch.errors import InputError
from raysearch.record.events import Event, row_of
from raysearch.record.level_events import NetworksCompared
from raysearch.record.trial import Trial, Trials
from raysearch.search.backbones import staying
from raysearch.search.packs import Packs, Shape
from raysearch.search.rules import Rules
from raysearch.search.rungs import Rungs
from raysearch.search.tally import Tally
from raysearch.search.tree import Tree

_UNCOUNTED = ("epoch", "handover", "dropped")  # they change nothing that is tallied


@dataclass
class SearchState:
    """What the log says of a search, brought up to date event by event."""

    rules: Rules
    trials: Trials = field(default_factory=Trials, init=False)
    """Every head and trial by name, in the order in which they were made."""
    heads_wanted: int = field(default=0, init=False)
    tree: Tree = field(init=False)
    """Its levels, with all trials but heads."""
    rungs: Rungs = field(init=False)
    """The rungs at which its trials are compared."""
    packs: Packs = field(init=False)
    """Its heads."""
    tally: Tally = field(init=False)
    compared: NetworksCompared | None = field(default=None, init=False)
    """How the networks stood after the head search, where there are several."""
    due: dict[str, None] = field(default_factory=dict, init=False)
    """The names of those whose next segment is decided but not running: new, promoted, or to be run again; in order."""
    _running: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.tree, self.rungs, self.packs = Tree(self.rules), Rungs(self.rules), Packs(self.rules)
        self.tally = Tally(self.rules)

    # ---- taking events -------------------------------------------------------------------------------------------

    def replay(self, events: Iterable[Event], log: str = "the log") -> None:
        """Apply a whole log.

        Args:
            events: all of it, in order.
            log: what it is called where it is refused.

        Raises:
            InputError: it contradicts itself.
        """
        for number, event in enumerate(events, start=1):
            try:
                self.apply(event)
            except (KeyError, ValueError) as error:
                raise InputError(
                    f"{log} contradicts itself at its event {number} ({error}), as if two processes had worked on the "
                    "run at once: it cannot be gone on with or learned from; start a new run"
                ) from error

    def apply(self, event: Event) -> None:
        """Take one event of the log; kinds that do not concern the search are passed over.

        Raises:
            ValueError: a segment ends that its trial does not run.
        """
        self._check(event)
        if event["event"] in _UNCOUNTED:
            told = self.trials.take(event)
        else:
            told = self.trials.take(event, before=self.tally.out)
            for trial in told:
                self.tally.put(trial)
        match event["event"]:
            case "epoch":
                if not (trial := self.trials[event["trial"]]).is_head:
                    self.rungs.note(trial, row_of(event))
            case "segment":
                self.due.pop(event["trial"], None)
                self._running.add(event["trial"])
            case "segment_end":
                self._ended(self.trials[event["trial"]])
            case "segment_lost" | "segment_paused" | "interrupted" | "finished":
                for trial in told:
                    self._running.discard(trial.name)
                    self.due[trial.name] = None
            case "trial":
                self._made(self.trials[event["trial"]])
            case "promoted":
                self._promoted(self.trials[event["trial"]])
            case "failed":
                self._failed(self.trials[event["trial"]])
            case "dropped":
                self._dropped(self.trials[event["trial"]])
            case "level":
                self.tree.note_verdict(event)
            case "lr_find":
                self.tree.note_rates(event)
            case "networks":
                self.compared = event
            case "budget":
                self.heads_wanted, self.tree.wanted = event["heads"], event["trials"]

    def _check(self, event: Event) -> None:
        if event["event"] not in ("segment_end", "segment_lost", "segment_paused"):
            return
        trial = self.trials[event["trial"]]
        # A driver that was killed while it said that it stops may have left the last word to the next one.
        paused_already = event["event"] == "segment_paused" and trial.running is None
        if trial.running != event["segment"] and not paused_already:
            raise ValueError(f"{event['event']} for segment {event['segment']}, but {trial.name} runs {trial.running}")

    def _made(self, trial: Trial) -> None:
        if trial.pack is not None:
            self.packs.add(trial.pack, trial)
        else:
            self.tree.add(trial)
        self.due[trial.name] = None

    def _promoted(self, trial: Trial) -> None:
        if trial.role != "control":
            self.rungs.leave(trial)
        self.due[trial.name] = None

    def _ended(self, trial: Trial) -> None:
        self._running.discard(trial.name)
        if trial.pack is not None:
            self.packs.ended(trial.pack)
            return
        self.tree.reached(trial)
        if trial.role != "control":
            self.rungs.arrive(trial)

    def _failed(self, trial: Trial) -> None:
        self._running.discard(trial.name)
        self.due.pop(trial.name, None)
        if trial.pack is not None:
            self.packs.ended(trial.pack)
        else:
            self.tree.gone(trial)

    def _dropped(self, trial: Trial) -> None:
        if trial.best is not None and not trial.is_head and trial.role != "control":
            self.rungs.leave(trial)

    # ---- reading -------------------------------------------------------------------------------------------------

    @property
    def trials_wanted(self) -> int:
        """How many trials the whole search gets, heads aside."""
        return self.tree.wanted

    @property
    def running(self) -> list[Trial]:
        """Trials and heads that have a segment, in the order in which they were made; some may wait for a machine."""
        return [self.trials[name] for name in sorted(self._running, key=lambda name: (name[0], int(name[1:])))]

    @property
    def idle(self) -> bool:
        """Whether no trial or head has a segment."""
        return not self._running

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

    def best_head(self, shape: Shape | None = None) -> Trial | None:
        """The best head, if given of this shape, of the packs that are complete.

        The best of a pack are written when it is.
        """
        return self.packs.best(shape)

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks whose blocks may be opened, the default's first or the best; none: the search has one."""
        return self.rules.networks if self.compared is None else staying(self.compared["networks"])

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

    def point(self, wanted: str) -> Trial | None:
        """The trial that is asked for among those that were trained to their ends; None where there is none such.

        Args:
            wanted: its name; or one of several metrics, by which it is the best of the front.
        """
        kind = "t" if self.trials_wanted else "h"
        ended = [one for one in self.trials.values() if one.finished and not one.failed and one.name[0] == kind]
        if wanted not in self.rules.several:
            return next((one for one in ended if one.name == wanted), None)
        at = self.rules.several.index(wanted)
        rows = {one.name: one.best for one in ended if one.best is not None}

        def worth(name: str) -> tuple[float, tuple[float, float]]:
            return self.rules.standings(rows[name])[at], self.rules.order(rows[name])

        # The best by one metric, and among equals by the balance, is of the front whatever the others are.
        return self.trials.get(max(rows, key=worth, default=""))

    def keepers(self) -> set[str]:
        """The names of those whose best tensors are still needed once they are trained.

        They are leaders, the default, every head of promise, what the next level starts from and is judged by, and the
        best of those that are done: it leads if the leader, which may still be training, fails.
        """
        best = [*self.tree.needed(), *self.packs.best_of_each(), self.tally.best_done, self.default]
        return self.tally.parents | {trial.name for trial in best if trial is not None}

"""How a search stands, for the person who watches it: what runs, the best so far, time gone and left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from raysearch.activations.forecast import expected_trials
from raysearch.job.job import Job
from raysearch.record.trial import Event, Trial
from raysearch.reporting.live_view import Leader, LiveView
from raysearch.reporting.sentences import segment_line, verdict_line
from raysearch.search.controller import Controller

_NAMED = 16  # of the trials that run
_SHOW_SECONDS = 0.2  # between two looks at the state for the sake of an epoch alone
_STARTUP_SECONDS = 20.0  # of a refit job: Ray Train starts its workers, they import torch and open the data


@dataclass
class Pace:
    """How fast a search goes, and so how long it still takes.

    Args:
        controller: of the search.
        concurrent: trials at once.
        refits: how often the winner will be trained again.
        refit_workers: how many of these at once.
    """

    controller: Controller
    concurrent: int
    refits: int
    refit_workers: int
    _seconds: list[float] = field(default_factory=list)
    _head_seconds: float = 0.0
    _heads_ended: int = 0
    _pack_epochs: dict[tuple[int | None, int], float] = field(default_factory=dict)
    """Seconds of training of a pack's epoch, by (pack, epoch)."""
    _fill_seconds: float = 0.0

    def note(self, event: Event) -> None:
        """Take an event of the log."""
        if event["event"] == "epoch" and event["trial"].startswith("t"):
            self._seconds.append(event["seconds"])
        elif event["event"] == "epoch":
            filling = event.get("fill_seconds", 0.0)
            at = self.controller.trials[event["trial"]].pack, event["epoch"]
            self._head_seconds += event["seconds"]
            self._fill_seconds += filling
            self._pack_epochs[at] = self._pack_epochs.get(at, 0.0) + event["seconds"] - filling
        elif event["event"] == "segment_end" and self.controller.trials[event["trial"]].is_head:
            self._heads_ended += 1

    def epoch(self) -> float | None:
        """Mean seconds of a trial's epoch lately; None before the first."""
        lately = self._seconds[-20:]
        return sum(lately) / len(lately) if lately else None

    def reserve(self) -> float:
        """Seconds that refits and evaluation will take, counted in the slowest of the late epochs.

        Not in the mean: refits have seeds of their own, and so no cached views.
        """
        slowest = max(self._seconds[-20:], default=0.0)
        evaluation = 2 * slowest
        if not self._seconds:  # heads alone so far: a refit may train as long as a pack, on views of its own
            slowest = median(self._pack_epochs.values() or [0.0]) + self._fill_seconds / self.controller.rules.rungs[-1]
            evaluation = 2 * (slowest + self._fill_seconds)
        if not self.refits:
            return evaluation
        rounds, levels = -(-self.refits // self.refit_workers), max(1, len(self.controller.rules.levels))
        return _STARTUP_SECONDS + rounds * (levels * self.controller.rules.rungs[-1] + 1) * slowest + evaluation

    def left(self) -> float | None:
        """Seconds to the end, if the rest goes as it went so far and ASHA promotes as it should."""
        if not self.controller.trials_wanted:
            return self._heads_left()
        epoch = self.epoch()
        if epoch is None:
            return None
        rules, levels = self.controller.rules, len(self.controller.rules.levels)
        a_level = self.controller.trials_wanted / levels
        expected = levels * sum(expected_trials(a_level, rules.rungs, rules.reduction))
        return max(0.0, expected - self.controller.tally.epochs) * epoch / self.concurrent + self.reserve()

    def _heads_left(self) -> float | None:
        if not self._heads_ended:
            return None
        head = self._head_seconds / self._heads_ended
        left = max(0, self.controller.heads_wanted - self.controller.tally.over("h"))
        return left * head / self.concurrent + self.reserve()


class Progress:
    """Feeds the live view from the events of the log.

    Args:
        job: what is searched.
        controller: of the search.
        view: where it is shown.
        refit_workers: of the refit job.
        began: when the command started, by `time.monotonic`.
    """

    def __init__(self, job: Job, controller: Controller, view: LiveView, refit_workers: int, began: float) -> None:
        self.view = view
        self._job, self._controller = job, controller
        self._began = began
        self._shown = 0.0
        self._pace = Pace(controller, job.machine.concurrent, job.settings.refits, refit_workers)

    def take(self, event: Event) -> None:
        """Show what an event of the log changed."""
        self._pace.note(event)
        now = time.monotonic()
        if event["event"] != "epoch" or now - self._shown > _SHOW_SECONDS:  # a pack tells of many epochs at once
            self._shown = now
            self._show(_activity(self._controller))
        if event["event"] == "segment_end":
            self._segment_end(event)
        elif event["event"] == "level":
            self.view.note(verdict_line(event))
        elif event["event"] == "storage_refuses":
            self.view.note(f"{event['trial']}: the storage refuses: {event['error']}; trying again")
        elif event["event"] == "storage_refused":
            self.view.note(f"{event['trial']}: the storage refused for {event['seconds']:.0f} s: {event['error']}")
        elif event["event"] in ("failed", "segment_lost", "refit_failed"):
            self.view.note(f"{event['trial']}: {event.get('error') or event.get('reason')}")
        elif event["event"] == "lr_find" and "error" in event:
            self.view.note(f"The range test of level {event['level']} failed: {event['error']}")

    def _segment_end(self, event: Event) -> None:
        """Heads end by the dozen: of them, one line a pack."""
        pack = self._controller.trials[event["trial"]].pack
        if pack is None:
            self.view.line(segment_line(event))
            return
        best = self._controller.best_head() if self._controller.packs.over(pack) else None
        if best is not None and best.best is not None:
            heads, metric = len(self._controller.packs.of(pack)), self._job.settings.metric
            figure = self._job.rules.figure(best.best)
            self.view.line(f"{heads} heads done; the best of all so far: {best.name}, {metric} {figure:.4f}")

    def refits(self, epochs: int) -> None:
        """Show how far the refits are."""
        self._show([f"refits: {epochs} epochs trained"])

    def time_to_search(self) -> float:
        """Seconds until the search must end for refits and evaluation to fit into the time budget."""
        budget = self._job.settings.time_budget
        return float("inf") if budget is None else budget - self._elapsed() - self._pace.reserve()

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _show(self, activity: Sequence[str]) -> None:
        left, budget = self._pace.left(), self._job.settings.time_budget
        if budget is not None:
            to_budget = budget - self._elapsed()
            left = to_budget if left is None else min(left, to_budget)
        self.view.update(self._controller.counts(), self._leader(), self._elapsed(), left, activity)

    def _leader(self) -> Leader | None:
        leader = self._controller.leader
        if leader is None or leader.best is None:
            return None
        return Leader(leader.name, self._job.settings.metric, self._job.rules.figure(leader.best), leader.params)


def _activity(controller: Controller) -> Sequence[str]:
    """What runs, and what waits, a line each; a large cluster's trials are too many to be named."""
    running = [trial for trial in controller.running if not trial.needs]
    waiting = {
        trial.name if trial.pack is None else f"pack {trial.pack}": trial.needs
        for trial in controller.running
        if trial.needs
    }
    waits = [f"{name} waits for {needs}" for name, needs in waiting.items()]
    return [*_running(controller, running), *_few(waits)]


def _running(controller: Controller, running: Sequence[Trial]) -> Sequence[str]:
    if running and running[0].is_head:
        packs = sorted({head.pack for head in running if head.pack is not None})
        together = f"pack{'s' if len(packs) > 1 else ''} {', '.join(map(str, packs))} of {len(running)} heads running"
        return [f"head search: {controller.tally.over('h')} of {controller.heads_wanted} heads done; {together}"]
    return _few([f"{trial.name} at depth {trial.depth}" for trial in running])


def _few(lines: list[str]) -> list[str]:
    return lines[:_NAMED] + ([f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else [])

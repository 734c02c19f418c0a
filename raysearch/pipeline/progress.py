"""How a search stands, for the person who watches it: what runs, the best so far, time gone and left."""

from __future__ import annotations

import time
from collections.abc import Sequence

from raysearch.job.job import Job
from raysearch.pipeline.effort import Effort, smallest
from raysearch.pipeline.pace import Pace
from raysearch.record.events import Event, SegmentEnded
from raysearch.record.trial import Trial
from raysearch.reporting.live_view import Leader, LiveView
from raysearch.reporting.sentences import networks_lines, segment_line, verdict_line
from raysearch.search.controller import Controller

_NAMED = 16  # of the trials that run
_SHOW_SECONDS = 0.2  # between two looks at the state for the sake of an epoch alone
_FOLLOWING = 0.6  # of a time budget, at most, for what follows the search


class Progress:
    """Feeds the live view from the events of the log.

    Args:
        job: what is searched.
        controller: of the search.
        view: where it is shown.
        pace: how fast it goes.
        began: when the command started, by `time.monotonic`.
    """

    def __init__(self, job: Job, controller: Controller, view: LiveView, pace: Pace, began: float) -> None:
        self.view = view
        self._job, self._controller = job, controller
        self._began = began
        self._shown = 0.0
        self._final_began: tuple[float, int] | None = None
        self._pace = pace

    def take(self, event: Event) -> None:
        """Show what an event of the log changed."""
        self._pace.note(event)
        now = time.monotonic()
        # A pack tells of many epochs at once; and what is logged after the search says nothing of how far that is.
        if self._final_began is None and (event["event"] != "epoch" or now - self._shown > _SHOW_SECONDS):
            self._shown = now
            self._show(_activity(self._controller))
        match event["event"]:
            case "segment_end":
                self._segment_end(event)
            case "level":
                self.view.note(verdict_line(event))
            case "networks":
                for line in networks_lines(event, self._job.settings.metric):
                    self.view.note(line)
            case "storage_refuses":
                self.view.note(f"{event['trial']}: the storage refuses: {event['error']}; trying again")
            case "storage_refused":
                self.view.note(f"{event['trial']}: the storage refused for {event['seconds']:.0f} s: {event['error']}")
            case "failed" | "refit_failed":
                self.view.note(f"{event['trial']}: {event['error']}")
            case "segment_lost":
                self.view.note(f"{event['trial']}: {event['reason']}")
            case "lr_find" if "error" in event:
                self.view.note(f"The range test of level {event['level']} failed: {event['error']}")

    def _segment_end(self, event: SegmentEnded) -> None:
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

    def note(self, message: str) -> None:
        """Say something that should stay."""
        self.view.note(message)

    def trained(self, epochs: int, of: int) -> None:
        """Show how far the trainings after the search are.

        Args:
            epochs: that they have trained.
            of: that all of them have, as far as is known by now which are wanted.
        """
        now = time.monotonic()
        if self._final_began is None or epochs < self._final_began[1]:  # a job that was lost begins again
            self._final_began = now, epochs
        since, before = self._final_began
        left = max(self._pace.evaluation(), self._pace.reserve() - (now - since))
        if epochs > before:
            left = (of - epochs) * (now - since) / (epochs - before) + self._pace.evaluation()
        self._show([f"trainings after the search: {epochs} of {of} epochs; then one look at the test images"], left)

    def evaluating(self) -> None:
        """Show that the test images are looked at."""
        self.view.note("Evaluating: one look at the test images")
        self._show(["looking at the test images"], self._pace.evaluation())

    def time_to_search(self) -> float:
        """Seconds until the search must end for what follows to fit into the time budget.

        What follows may be less than was asked for, so that it leaves the search a part of the budget; see
        `effort_in_time`.
        """
        budget = self._job.settings.time_budget
        if budget is None:
            return float("inf")
        least = self._pace.reserve(smallest(self._pace.effort))
        reserved = max(least, min(self._pace.reserve(), _FOLLOWING * budget))
        return budget - self._elapsed() - reserved

    def effort_in_time(self) -> Effort:
        """The largest effort after the search that fits into what is left of the time budget."""
        effort, budget = self._pace.effort, self._job.settings.time_budget
        if budget is None:
            return effort
        asked, left = effort, budget - self._elapsed()
        while self._pace.reserve(effort) > left and (smaller := effort.less()) is not None:
            effort = smaller
        if effort != asked:
            told = f"{effort.folds} folds, {effort.challengers} challengers" if effort.folds else "no final comparison"
            told += " and no student" * bool(asked.student)
            self.view.note(f"{left:.0f} s are left of --time-budget: {told} instead of {asked.folds} folds")
        return effort

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _show(self, activity: Sequence[str], left: float | None = None) -> None:
        left, budget = self._pace.left() if left is None else left, self._job.settings.time_budget
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

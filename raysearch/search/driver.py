"""The driver stands between the controller and whatever runs segments: it logs decisions and results.

It knows no Ray: a runner asks `start` for work, tells `results` what came of it, and stops when `done` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from raysearch.errors import StorageError
from raysearch.recipe import Recipe
from raysearch.record.events import (
    Cause,
    Dropped,
    Event,
    Placed,
    SegmentLost,
    SegmentStarted,
    StorageRefuses,
    TrialFailed,
    Waiting,
)
from raysearch.record.files import CHECKPOINTS
from raysearch.record.folder import RunFolder
from raysearch.record.level_events import Brought, LevelJudged
from raysearch.record.sync import RunSync
from raysearch.record.trial import Trial
from raysearch.search.backbones import HeadsCompared, comparison
from raysearch.search.controller import Controller
from raysearch.search.hand import Hand, paused
from raysearch.search.kept import KeptCheckpoints
from raysearch.search.messages import Failed, Pack, PackHead, RateTest, Result, Segment, Task, Unsaved
from raysearch.storage.files import PATIENCE_SECONDS

_DERIVE_SECONDS = 5.0  # the tables are rewritten no more often than this
_DERIVE_PAUSES = 50  # nor so often that it takes more of the time than one part in so many, however long they are
_START_SECONDS = 60.0  # that a process may take to start before it is said to wait for its machine


class Driver:
    """Hands tasks to workers and takes their results.

    Args:
        run: the run folder; its log is written here and nowhere else while the search runs.
        controller: replayed from the run's log.
        concurrency: workers at once; may be set anew at any time.
        watch: called after every event that was logged.
        judge: says of a level's leader and its control (None: there is none) what the level brought.
        range_test: of a level and the trial that it starts from, the recipe to test learning rates with, by depth.
        sync: of a run with storage; there the checkpoints are, and are deleted through it. None: in the run folder.
        compare: says how the best heads of several networks compare; None: the search has one network.
    """

    def __init__(
        self,
        run: RunFolder,
        controller: Controller,
        concurrency: int,
        watch: Callable[[Event], None] = lambda event: None,
        judge: Callable[[Trial, Trial | None], Brought] = lambda leader, control: {"verdict": "untested"},
        range_test: Callable[[int, Trial], Mapping[str, Recipe]] = lambda level, start: {},
        sync: RunSync | None = None,
        compare: Callable[[Mapping[str, Trial | None]], HeadsCompared] | None = None,
    ) -> None:
        self.run, self.controller, self.concurrency = run, controller, concurrency
        self._judge, self._range_test, self._watch, self._compare = judge, range_test, watch, compare
        self._hands: dict[str, Hand] = {}
        self._derive_at = 0.0
        self._kept = KeptCheckpoints(self.checkpoints, controller, sync)
        self._places: dict[str, int] = {}
        self._tests_lost = 0
        self.stopping: str | None = None
        """Why no more segments are started, or None."""
        for trial in controller.trials.values():
            if trial.running is not None:  # the process that ran it is gone
                self.log(paused(trial.name, trial.running, "the driver ended"))

    @property
    def checkpoints(self) -> Path:
        """The folder in which trials keep their tensors."""
        return self.run.folder / CHECKPOINTS

    @property
    def done(self) -> bool:
        """Nothing runs, and nothing is left to run or no more may start."""
        return not self._hands and (self.stopping is not None or self.controller.finished)

    def stop(self, reason: str) -> None:
        """Start nothing more; the runner ends what runs."""
        self.stopping = self.stopping or reason

    # ---- tasks ---------------------------------------------------------------------------------------------------

    def start(self, worker: str) -> Task | None:
        """The next task of a free worker; None if there is nothing to do now."""
        if self.stopping is not None or len(self._hands) >= self.concurrency:
            return None
        if any(hand.test is not None for hand in self._hands.values()):  # what is to be trained depends on it
            return None
        self._judge_what_is_over()
        self._places = {other: self._places[other] for other in self._hands}
        place = min(set(range(self.concurrency)) - set(self._places.values()))
        task = self._test(worker) or self._task(self._begin(worker))
        if task is not None:
            self._places[worker] = place
        return task

    def place(self, worker: str) -> int:
        """The worker's number among those that work at once: the lowest from 0 that was free when it started."""
        return self._places[worker]

    def _test(self, worker: str) -> RateTest | None:
        """The range test that is due, if one is."""
        if self.controller.to_test is None:
            return None
        level, start = self.controller.to_test
        task = RateTest(start.name, level, self._range_test(level, start))
        self._hands[worker] = Hand(test=task)
        return task

    def _begin(self, worker: str, prefer: str | None = None) -> list[SegmentStarted]:
        """The segments that the controller decides on, which the worker then has in hand."""
        events = self.controller.decide(prefer)
        self.log(*events)
        segments = [event for event in events if event["event"] == "segment"]
        if segments:
            self._hands[worker] = Hand({segment["trial"]: segment for segment in segments})
        return segments

    def _task(self, segments: Sequence[SegmentStarted]) -> Task | None:
        """What these segments ask of a worker."""
        if not segments:
            return None
        first, trials = segments[0], self.controller.trials
        trial, started = trials[first["trial"]], {segment["trial"] for segment in segments}
        if trial.pack is not None:
            heads = self.controller.packs.of(trial.pack)
            self._kept.about_to_write(head.name for head in heads)
            return Pack(tuple(PackHead(head.name, head.recipe, head.name not in started) for head in heads))
        self._kept.about_to_write(started)
        return Segment(
            name=first["segment"],
            trial=trial.name,
            recipe=trial.recipe,
            stage=first["stage"],
            from_epoch=first["from_epoch"],
            to_epoch=first["to_epoch"],
            parent=trial.parent,
            ended_rate=trials[trial.parent].rate if trial.parent is not None else None,
        )

    # ---- results -------------------------------------------------------------------------------------------------

    def results(self, worker: str, results: Sequence[Result]) -> bool:
        """Take what a step of a worker came to; whether it should go on.

        Raises:
            StorageError: the disk has been refusing for too long.
        """
        hand = self._hands[worker]
        for result in results:
            if isinstance(result, Unsaved):
                self._note_unsaved(hand, result)
                return True
        self.log(*hand.saved())
        ended = [result.trial for result in results if hand.test is None and hand.ends(result)]
        self.log(*(event for result in results for event in hand.told(result)))
        if hand.test is not None:
            self._free(worker)
            return False
        for name in ended:
            del hand.segments[name]
        return self._goes_on(worker, ended) if ended else True

    def _goes_on(self, worker: str, ended: Sequence[str]) -> bool:
        """Whether a worker, the segments of these trials being over, has more to do: of its pack, or the next rung."""
        over = not self._hands[worker].segments
        if over:
            self._free(worker)
        self._keep_few_checkpoints()
        self._judge_what_is_over()
        if over and self.stopping is None and self.controller.may_go_on(ended[-1]):
            self._begin(worker, prefer=ended[-1])
            self.placed(worker)
            return True
        return not over

    def _judge_what_is_over(self) -> None:
        """Logs how networks stand, if the head search is over, and what a level brought, if one is."""
        heads = self.controller.to_compare
        if heads is not None and self._compare is not None:
            made = self.controller.tally.made("h")
            self.log(comparison(self.controller.rules, heads, self._compare(heads), made=made))
        if (due := self.controller.to_judge) is not None:
            leader, control = due
            names = leader.name, control.name if control is not None else None
            brought = self._judge(leader, control)
            self.log(LevelJudged(event="level", level=leader.stage, leader=names[0], control=names[1], **brought))

    def _note_unsaved(self, hand: Hand, told: Unsaved) -> None:
        """Log when it begins; too long, and it raises."""
        if hand.refused is None:
            hand.refused = time.monotonic(), told
            self.log(StorageRefuses(event="storage_refuses", trial=told.trial, error=told.error))
        elif time.monotonic() - hand.refused[0] > PATIENCE_SECONDS:
            raise StorageError(f"the storage refuses to be written to: {told.error}")

    # ---- where workers are ---------------------------------------------------------------------------------------

    def placed(self, worker: str) -> None:
        """A worker has begun."""
        hand = self._hands[worker]
        hand.placed, hand.began = True, time.monotonic()
        if hand.waiting:
            hand.waiting = False
            self.log(*(Placed(event="placed", trial=name) for name in hand.segments))

    def waits(self, room: int, needs: str, *, crews: bool = False) -> None:
        """Log which workers wait for a machine: those beyond what there is room for, and those that take too long.

        Args:
            room: workers that the machines hold together.
            needs: what a worker needs, for people.
            crews: workers have crews, which begin when there is room for them; else `placed` is called when they begin.
        """
        unplaced = {name: hand for name, hand in self._hands.items() if not hand.placed}
        starting = max(0, room - (len(self._hands) - len(unplaced)))
        late = time.monotonic() - _START_SECONDS
        for number, (worker, hand) in enumerate(unplaced.items()):
            if crews and number < starting:
                self.placed(worker)
            elif not hand.waiting and (number >= starting or hand.began < late):
                hand.waiting = True
                self.log(*(Waiting(event="waiting", trial=name, needs=needs) for name in hand.segments))

    def lost(self, worker: str, reason: str, cause: Cause = "process") -> None:
        """The worker died; its segments run again, until their trials have lost their process too often."""
        if worker not in self._hands:  # it died after its last result, which is here
            return
        hand, at_most = self._hands[worker], self.controller.rules.max_failures
        self._free(worker)
        if hand.test is not None:
            self._tests_lost += cause == "process"
            if self._tests_lost > at_most:
                self.log(hand.rates_tested(Failed(hand.test.start, reason)))
            return
        for name, segment in hand.segments.items():
            self.log(
                SegmentLost(
                    event="segment_lost",
                    trial=name,
                    segment=segment["segment"],
                    worker=worker,
                    reason=reason,
                    cause=cause,
                )
            )
            if (lost := self.controller.trials[name].lost) > at_most:
                error = f"lost {lost} times, the last time: {reason}"
                self.log(TrialFailed(event="failed", trial=name, error=error))
        self._keep_few_checkpoints()

    # ---- the run folder ------------------------------------------------------------------------------------------

    def log(self, *events: Event) -> None:
        """Append events to the log and let the controller and the watcher know."""
        self.run.append(*events)
        for event in events:
            self.controller.apply(event)
            self._kept.take(event)
            self._watch(event)

    def close(self) -> None:
        """Log what was still running as paused, and bring the tables up to date."""
        for worker, hand in list(self._hands.items()):
            reason = self.stopping or "the search ended"
            self.log(*(paused(name, segment["segment"], reason) for name, segment in hand.segments.items()))
            self._free(worker)
        self.run.derive()

    def _free(self, worker: str) -> None:
        """The worker has nothing in hand any more: a moment to bring the tables up to date."""
        del self._hands[worker]
        began = time.monotonic()
        if began > self._derive_at:
            self.run.derive()
            now = time.monotonic()
            self._derive_at = now + max(_DERIVE_SECONDS, _DERIVE_PAUSES * (now - began))

    def _keep_few_checkpoints(self) -> None:
        """Delete tensors that nothing will start from, go on from or be judged by again."""
        for name in self.controller.droppable():
            self.log(Dropped(event="dropped", trial=name))
        segments = (segment for hand in self._hands.values() for segment in hand.segments.values())
        self._kept.tidy({segment.get("pack") for segment in segments})

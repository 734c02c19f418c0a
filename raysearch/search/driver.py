"""Between the controller and whatever runs segments: logs each decision and result, and keeps the checkpoints few.

Knows no Ray: a runner asks `start` for work, tells `results` what came of it, and stops when `done` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from raysearch.errors import StorageError
from raysearch.record.folder import RunFolder
from raysearch.record.sync import RunSync
from raysearch.record.trial import Event, Trial
from raysearch.search.controller import Controller
from raysearch.search.kept import KeptCheckpoints
from raysearch.storage.files import PATIENCE_SECONDS

_DERIVE_SECONDS = 5.0  # the tables are rewritten no more often than this
_DERIVE_PAUSES = 50  # nor so often that it takes more of the time than one part in so many, however long they are
_START_SECONDS = 60.0  # that a process may take to start before it is said to wait for its machine


@dataclass
class _Worker:
    """What a worker has in hand."""

    segments: dict[str, Event]
    """Open ones, by trial: many of a pack of heads, none of a range test."""
    began: float = field(default_factory=time.monotonic)
    """When its segments were decided, or it began with them."""
    placed: bool = False
    """Whether it has begun."""
    waiting: bool = False
    """Whether it was said to wait for a machine."""
    refused: tuple[float, Event] | None = None
    """Since when the disk refuses what it writes, and what was said of it."""

    def __post_init__(self) -> None:
        self.size = len(self.segments)


class Driver:
    """Hands segments to workers and takes their results.

    Args:
        run: the run folder; its log is written here and nowhere else while the search runs.
        controller: replayed from the run's log.
        concurrency: workers at once; may be set anew at any time.
        watch: called after every event that was logged.
        judge: says of a level's leader and its control (None: there is none) what the level brought: the figures of a
            "level" event.
        range_test: of a level and the trial that it starts from, the recipe to test learning rates with, by depth.
        sync: of a run with storage; there the checkpoints are, and are deleted through it. None: in the run folder.
    """

    def __init__(
        self,
        run: RunFolder,
        controller: Controller,
        concurrency: int,
        watch: Callable[[Event], None] = lambda event: None,
        judge: Callable[[Trial, Trial | None], Event] = lambda leader, control: {"verdict": "untested"},
        range_test: Callable[[int, Trial], Event] = lambda level, start: {},
        sync: RunSync | None = None,
    ) -> None:
        self.run, self.controller, self.concurrency = run, controller, concurrency
        self._judge, self._range_test, self._watch = judge, range_test, watch
        self._work: dict[str, _Worker] = {}
        self._derive_at = 0.0
        self._kept = KeptCheckpoints(self.checkpoints, controller, sync)
        self._places: dict[str, int] = {}
        self._test: tuple[str, int, Trial] | None = None
        """The range test that is under way: its worker, the level, what that starts from."""
        self._tests_lost = 0
        self.stopping: str | None = None
        """Why no more segments are started, or None."""
        for trial in controller.trials.values():
            if trial.running is not None:  # the process that ran it is gone
                self.log(_paused(trial.name, trial.running, "the driver ended"))

    @property
    def checkpoints(self) -> Path:
        """Where trials keep their tensors."""
        return self.run.folder / "checkpoints"

    @property
    def done(self) -> bool:
        """Nothing runs, and nothing is left to run or no more may start."""
        return not self._work and (self.stopping is not None or self.controller.finished)

    def stop(self, reason: str) -> None:
        """Start nothing more; the runner ends what runs."""
        self.stopping = self.stopping or reason

    def start(self, worker: str) -> list[dict[str, Any]]:
        """The next segments for a free worker, more than one if they are a pack; none if there is nothing to run now.

        Returns: of a range test, the trial from which a level starts, and range_test: stage, and recipes by depth; of
            each segment: trial, pack (None, unless it is a head), segment, stage, from_epoch, to_epoch, recipe, and
            parent: the trial that it starts from, or None; ended_rate: the parent's last learning rate. Of a pack that
            was broken off, also the heads that had ended, without a segment: it is trained again whole, or others would
            survive its halving.
        """
        if self.stopping is not None or len(self._work) >= self.concurrency:
            return []
        if self._test is not None:  # what is to be trained at the level depends on it
            return []
        self._judge_level()
        self._places = {other: self._places[other] for other in self._work}
        place = min(set(range(self.concurrency)) - set(self._places.values()))
        if self.controller.to_test is not None:
            self._places[worker] = place
            return [self._begin_test(worker, *self.controller.to_test)]
        segments = {segment["trial"]: segment for segment in self._begin(worker, self.controller.decide())}
        if segments:
            self._places[worker] = place
        trials = [self.controller.trials[name] for name in segments]
        if trials and trials[0].pack is not None:
            trials = self.controller.packs.of(trials[0].pack)
        self._kept.about_to_write(trial.name for trial in trials)
        return [
            {
                "trial": one.name,
                "pack": one.pack,
                "recipe": one.recipe,
                "parent": one.parent,
                "ended_rate": self.controller.trials[one.parent].rate if one.parent is not None else None,
                **segments.get(one.name, {}),
            }
            for one in trials
        ]

    def place(self, worker: str) -> int:
        """Among those that work at once: the lowest number from 0 that was free when it started."""
        return self._places[worker]

    def results(self, worker: str, results: Sequence[dict[str, Any]]) -> bool:
        """Take what a worker reports; whether it should go on.

        Args:
            worker: as given to `start`.
            results: each either {"trial", "failed": message}, or {"trial", "unsaved": message} where the disk takes
                nothing at the moment, or {"trial", "range_test": figures by depth}, or {"trial", "row": the epoch's
                metrics, "best": the best row so far, "finished": whether its stage is over, "stopped": whether it goes
                on no further, though its stage is not over, "handover_delta": only with a stage's first row, "refused":
                only if the storage made it wait, for how many seconds and why}.

        Raises:
            StorageError: the disk has been refusing for too long.
        """
        if any("unsaved" in result for result in results):
            self._note_unsaved(worker, results[0])
            return True
        self._note_saved(worker)
        if self._test is not None and self._test[0] == worker:
            self._end_test(results[0])
            return False
        events: list[Event] = []
        ended: list[str] = []
        for result in results:
            name = result["trial"]
            if "refused" in result:
                seconds, reason = result["refused"]
                told = {"trial": name, "seconds": round(seconds, 1), "error": reason}
                events.append({"event": "storage_refused", **told})
            segment = self._work[worker].segments[name]
            if "failed" in result:
                ended.append(name)
                events.append({"event": "failed", "trial": name, "error": result["failed"]})
                continue
            row, stage = result["row"], segment["stage"]
            if result.get("handover_delta") is not None:
                events.append({"event": "handover", "trial": name, "stage": stage, "delta": result["handover_delta"]})
            events.append({"event": "epoch", "trial": name, "stage": stage, **row})
            if row["epoch"] == segment["to_epoch"] or result["finished"] or result.get("stopped"):
                ended.append(name)
                events.append(self._segment_end(worker, segment, result))
        self.log(*events)
        if not ended:
            return True
        for name in ended:
            del self._work[worker].segments[name]
        over = not self._work[worker].segments
        if over:
            self._free(worker)
        self._keep_few_checkpoints()
        self._judge_level()
        if over and self.stopping is None and self.controller.may_go_on(ended[-1]):
            self._begin(worker, self.controller.decide(prefer=ended[-1]))
            self.placed(worker)
            return True
        return not over

    def _judge_level(self) -> None:
        """Where a level is over, log what it brought."""
        due = self.controller.to_judge
        if due is not None:
            leader, control = due
            told = {"level": leader.stage, "leader": leader.name, "control": control.name if control else None}
            self.log({"event": "level", **told, **self._judge(leader, control)})

    def _begin_test(self, worker: str, level: int, start: Trial) -> Event:
        self._test = worker, level, start
        self._work[worker] = _Worker({})
        tested = {"trial": start.name, "pack": None, "parent": None}
        return {**tested, "range_test": {"stage": level, "recipes": self._range_test(level, start)}}

    def _end_test(self, result: dict[str, Any]) -> None:
        """Log what it found; if it failed, nothing bounds the learning rates but the space."""
        assert self._test is not None
        worker, level, start = self._test
        self._test = None
        self._free(worker)
        error = {"error": result["failed"]} if "failed" in result else {}
        depths = result.get("range_test", {})
        self.log({"event": "lr_find", "level": level, "start": start.name, "depths": depths, **error})

    def _note_unsaved(self, worker: str, result: dict[str, Any]) -> None:
        """Log when it begins; too long, and it raises."""
        one, told = self._work[worker], {"trial": result["trial"], "error": result["unsaved"]}
        if one.refused is None:
            one.refused = time.monotonic(), told
            self.log({"event": "storage_refuses", **told})
        elif time.monotonic() - one.refused[0] > PATIENCE_SECONDS:
            raise StorageError(f"the storage refuses to be written to: {result['unsaved']}")

    def _note_saved(self, worker: str) -> None:
        """Log for how long it had been refused."""
        one = self._work[worker]
        if one.refused is not None:
            since, told = one.refused
            one.refused = None
            self.log({"event": "storage_refused", **told, "seconds": round(time.monotonic() - since, 1)})

    # ---- where workers are ---------------------------------------------------------------------------------------

    def placed(self, worker: str) -> None:
        """A worker has begun."""
        one = self._work[worker]
        one.placed, one.began = True, time.monotonic()
        if one.waiting:
            one.waiting = False
            self.log(*({"event": "placed", "trial": name} for name in one.segments))

    def waits(self, room: int, needs: str, *, crews: bool = False) -> None:
        """Log which workers wait for a machine: those beyond what there is room for, and those that take too long.

        Args:
            room: workers that the machines hold together.
            needs: what a worker needs, for people.
            crews: workers have crews, which begin when there is room for them; else `placed` is called when they begin.
        """
        unplaced = {name: one for name, one in self._work.items() if not one.placed}
        starting = max(0, room - (len(self._work) - len(unplaced)))
        late = time.monotonic() - _START_SECONDS
        for number, (worker, one) in enumerate(unplaced.items()):
            if crews and number < starting:
                self.placed(worker)
            elif not one.waiting and (number >= starting or one.began < late):
                one.waiting = True
                self.log(*({"event": "waiting", "trial": name, "needs": needs} for name in one.segments))

    def _segment_end(self, worker: str, segment: Event, result: dict[str, Any]) -> Event:
        seconds = time.monotonic() - self._work[worker].began
        if "pack" in segment:  # its share
            seconds /= self._work[worker].size
        return {
            "event": "segment_end",
            "trial": segment["trial"],
            "segment": segment["segment"],
            "epoch": result["row"]["epoch"],
            "finished": result["finished"],
            "seconds": round(seconds, 3),
            "best": result["best"],
        }

    def lost(self, worker: str, reason: str, cause: Literal["process", "machine"] = "process") -> None:
        """The worker died; its segment runs again, until the trial has lost its process too often."""
        if worker not in self._work:  # it died after its last result, which is here
            return
        if self._test is not None and self._test[0] == worker:
            self._lost_test(worker, reason, cause)
            return
        segments = self._work[worker].segments
        self._free(worker)
        for name, segment in segments.items():
            lost = {"trial": name, "segment": segment["segment"], "worker": worker}
            self.log({"event": "segment_lost", **lost, "reason": reason, "cause": cause})
            trial = self.controller.trials[name]
            if trial.lost > self.controller.rules.max_failures:
                error = f"lost {trial.lost} times, the last time: {reason}"
                self.log({"event": "failed", "trial": name, "error": error})
        self._keep_few_checkpoints()

    def _lost_test(self, worker: str, reason: str, cause: str) -> None:
        self._tests_lost += cause == "process"
        if self._tests_lost > self.controller.rules.max_failures:
            self._end_test({"failed": reason})
            return
        self._test = None
        self._free(worker)

    def close(self) -> None:
        """Log what was still running as paused, and bring the tables up to date."""
        for worker, one in list(self._work.items()):
            reason = self.stopping or "the search ended"
            self.log(*(_paused(name, segment["segment"], reason) for name, segment in one.segments.items()))
            self._free(worker)
        self.run.derive()

    def _begin(self, worker: str, events: Sequence[Event]) -> list[Event]:
        self.log(*events)
        segments = [event for event in events if event["event"] == "segment"]
        if segments:
            self._work[worker] = _Worker({segment["trial"]: segment for segment in segments})
        return segments

    def _segments(self) -> Iterator[Event]:
        """Those that are open."""
        return (segment for one in self._work.values() for segment in one.segments.values())

    def _free(self, worker: str) -> None:
        del self._work[worker]
        began = time.monotonic()
        if began > self._derive_at:
            self.run.derive()
            now = time.monotonic()
            self._derive_at = now + max(_DERIVE_SECONDS, _DERIVE_PAUSES * (now - began))

    def log(self, *events: Event) -> None:
        """Append events to the log and let the controller and the watcher know."""
        self.run.append(*events)
        for event in events:
            self.controller.apply(event)
            self._kept.take(event)
            self._watch(event)

    def _keep_few_checkpoints(self) -> None:
        """Delete tensors that nothing will start from, go on from or be judged by again."""
        for name in self.controller.droppable():
            self.log({"event": "dropped", "trial": name})
        self._kept.tidy({segment.get("pack") for segment in self._segments()})


def _paused(trial: str, segment: str, reason: str) -> Event:
    return {"event": "segment_paused", "trial": trial, "segment": segment, "reason": reason}

"""Between the controller and whatever runs segments: logs each decision and result, and keeps the checkpoints few.

Knows no Ray: a runner asks `start` for work, tells `result` what came of it, and stops when `done` says so.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysearch.run import Run
from raysearch.search.controller import Controller, Event

logger = logging.getLogger(__name__)

_DERIVE_SECONDS = 5.0  # the tables are rewritten no more often than this


class Driver:
    """Hands segments to workers and takes their results.

    Args:
        run: the run folder; its log is written here and nowhere else while the search runs.
        controller: replayed from the run's log.
        concurrency: segments that may run at once.
        watch: called after every event that was logged.
    """

    def __init__(
        self, run: Run, controller: Controller, concurrency: int, watch: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.run, self.controller, self.concurrency = run, controller, concurrency
        self._watch = watch
        self._work: dict[str, Event] = {}  # worker -> its open segment
        self._began: dict[str, float] = {}
        self._derived = 0.0
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

    def start(self, worker: str) -> dict[str, Any] | None:
        """The next segment for a free worker, or None if there is nothing to run now.

        Returns:
            trial, segment, stage, from_epoch, to_epoch, recipe, and parent: the trial that it starts from, or None.
        """
        if self.stopping is not None or len(self._work) >= self.concurrency:
            return None
        events = self.controller.decide()
        if not events:
            return None
        segment = self._begin(worker, events)
        trial = self.controller.trials[segment["trial"]]
        return {**segment, "recipe": trial.recipe, "parent": trial.parent}

    def result(self, worker: str, result: dict[str, Any]) -> bool:
        """Take what a worker reports after an epoch; whether it should train another.

        Args:
            worker: as given to `start`.
            result: either {"failed": message} or {"row": the epoch's metrics, "best": the best row so far,
                "finished": whether the stage is over, "handover_delta": only with a stage's first row}.
        """
        segment = self._work[worker]
        name = segment["trial"]
        if "failed" in result:
            self._end(worker, {"event": "failed", "trial": name, "error": result["failed"]})
            self._keep_few_checkpoints()
            return False
        if result.get("handover_delta") is not None:
            self.log({"event": "handover", "trial": name, "stage": segment["stage"], "delta": result["handover_delta"]})
        row = result["row"]
        self.log({"event": "epoch", "trial": name, "stage": segment["stage"], **row})
        if row["epoch"] < segment["to_epoch"] and not result["finished"]:
            return True
        seconds = time.monotonic() - self._began[worker]
        self._end(
            worker,
            {
                "event": "segment_end",
                "trial": name,
                "segment": segment["segment"],
                "epoch": row["epoch"],
                "finished": result["finished"],
                "seconds": round(seconds, 3),
                "best": result["best"],
            },
        )
        self._keep_few_checkpoints()
        if self.stopping is None and self.controller.may_go_on(name):
            self._begin(worker, self.controller.decide(prefer=name))
            return True
        return False

    def lost(self, worker: str, reason: str) -> None:
        """The worker died; its segment runs again, until the trial was lost too often."""
        segment = self._work.get(worker)
        if segment is None:  # it died after its last result, which is here
            return
        name = segment["trial"]
        logger.warning("%s was lost: %s", segment["segment"], reason)
        self._end(worker, {"event": "segment_lost", "trial": name, "segment": segment["segment"], "reason": reason})
        trial = self.controller.trials[name]
        if trial.lost > self.controller.rules.max_failures:
            error = f"lost {trial.lost} times, the last time: {reason}"
            self.log({"event": "failed", "trial": name, "error": error})
            self._keep_few_checkpoints()

    def close(self) -> None:
        """Log what was still running as paused, and bring the tables up to date."""
        for worker, segment in list(self._work.items()):
            self._end(worker, _paused(segment["trial"], segment["segment"], self.stopping or "the search ended"))
        self.run.derive()

    def _begin(self, worker: str, events: list[Event]) -> Event:
        for event in events:
            self.log(event)
        self._work[worker] = events[-1]
        self._began[worker] = time.monotonic()
        return events[-1]

    def _end(self, worker: str, event: Event) -> None:
        self.log(event)
        del self._work[worker], self._began[worker]
        if time.monotonic() - self._derived > _DERIVE_SECONDS:
            self.run.derive()
            self._derived = time.monotonic()

    def log(self, event: Event) -> None:
        """Append an event to the log and let the controller and the watcher know."""
        self.run.append(event)
        self.controller.apply(event)
        self._watch(event)

    def _keep_few_checkpoints(self) -> None:
        """Delete tensors that nothing will start from, go on from or be judged by again."""
        for name in self.controller.droppable():
            self.log({"event": "dropped", "trial": name})
        keep = self.controller.keepers()
        for folder in self.checkpoints.glob("[ht][0-9]*"):
            trial = self.controller.trials.get(folder.name)
            if trial is None:  # not ours
                continue
            if trial.state == "done":
                (folder / "last.pt").unlink(missing_ok=True)
            if (trial.state in ("done", "failed") or trial.dropped) and trial.name not in keep:
                shutil.rmtree(folder)


def _paused(trial: str, segment: str, reason: str) -> Event:
    return {"event": "segment_paused", "trial": trial, "segment": segment, "reason": reason}

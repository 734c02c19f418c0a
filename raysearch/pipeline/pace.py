"""How fast a search goes, and so how long it still takes: arithmetic over the events of its log."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median

from raysearch.activations.forecast import expected_trials
from raysearch.job.job import Job
from raysearch.pipeline.effort import Effort
from raysearch.record.events import Event
from raysearch.search.controller import Controller

_STARTUP_SECONDS = 20.0  # of the job after it: Ray Train starts its workers, they import torch and open the data
_LATELY = 20  # epochs


@dataclass
class Pace:
    """How fast a search goes, and so how long it still takes.

    Args:
        controller: of the search.
        concurrent: trials at once.
        effort: what is trained after the search.
        refit_workers: how many of these trainings at once.
        more_images: labelled images over training images.
    """

    controller: Controller
    concurrent: int
    effort: Effort
    refit_workers: int
    more_images: float = 1.0
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
        lately = self._lately
        return sum(lately) / len(lately) if lately else None

    def reserve(self, effort: Effort | None = None) -> float:
        """Seconds that the trainings after the search and the evaluation will take, as far as can be told.

        They are counted in the slowest of the late epochs, not in the mean: they have seeds of their own, and so no
        cached views.

        Args:
            effort: what is trained; None: all that was asked for.
        """
        effort = effort or self.effort
        if not effort.refits:
            return self.evaluation()
        # A refit may train as long as a pack, on views of its own: it fills them once, in the course of all its epochs.
        slowest = self._slowest(self._fill_seconds / self.controller.rules.rungs[-1])
        images = self.more_images if effort.on == "train+val" else 1.0
        levels = max(1, len(self.controller.rules.levels))
        epochs = levels * self.controller.rules.rungs[-1] + 1
        together = math.ceil(effort.refits / self.refit_workers) * effort.final_length
        rounds = max(together, effort.trainings() / self.refit_workers)
        return _STARTUP_SECONDS + rounds * epochs * images * slowest + self.evaluation()

    def evaluation(self) -> float:
        """Seconds that the look at the test images will take."""
        # It reads no features that are kept: its images go through the frozen blocks, which is what filling was.
        return 2 * self._slowest(self._fill_seconds)

    @property
    def _lately(self) -> list[float]:
        """Seconds of the latest epochs of trials."""
        return self._seconds[-_LATELY:]

    def _slowest(self, filling: float) -> float:
        """Seconds of the slowest of the late epochs; of heads alone, of a pack's epoch, and `filling` beside it."""
        if self._seconds:
            return max(self._lately)
        return median(self._pack_epochs.values() or [0.0]) + filling

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


def pace_of(job: Job, controller: Controller, effort: Effort, refit_workers: int) -> Pace:
    """The pace of a job's search, nothing of which is known yet."""
    more = (len(job.dataset.train) + len(job.dataset.val)) / max(1, len(job.dataset.train))
    return Pace(controller, job.machine.concurrent, effort, refit_workers, more)

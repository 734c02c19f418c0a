"""A pack of heads, some epochs a step."""

from __future__ import annotations

import time
from pathlib import Path

from raysearch.models.memory import is_out_of_memory
from raysearch.record.files import BEST
from raysearch.search.asha import rungs_for
from raysearch.search.messages import Failed, Pack, Result, Trained
from raysearch.training.bench import Bench
from raysearch.training.checkpoint import (
    describe_tensors,
    save_tensors,
    save_with_answers,
)
from raysearch.training.stage import open_pack
from raysearch.workers.work import clear, unsaved

_STEP_SECONDS = 0.5  # of a pack's epochs, which are too short to be told one by one


class PackWork:
    """A segment of each head of a pack, with successive halving among them.

    There is no checkpoint of a pack under way: one that is broken off trains again from its first epoch, a matter of
    seconds, with the heads that had ended, of which nothing is told again.

    Args:
        bench: of this process.
        checkpoints: the run's folder of them; before the last head is said to have ended, the pack's best is written
            there, and the default.
        task: the heads.
        folds, reduction, first_rung_epochs, answers: see `PackOptions`.
    """

    def __init__(
        self,
        bench: Bench,
        checkpoints: Path,
        task: Pack,
        *,
        folds: int,
        reduction: int,
        first_rung_epochs: int | None,
        answers: bool = False,
    ) -> None:
        self._answers = answers
        self._bench, self._checkpoints, self._reduction = bench, checkpoints, reduction
        self._trials = [head.trial for head in task.heads]
        for trial in self._trials:
            clear(checkpoints / trial)
        self.running = task.trials
        """The trials whose ends have not been told."""
        recipes = [head.recipe for head in task.heads]
        self._pack, self._signature = open_pack(bench, recipes, folds)
        self._untold: list[Trained | Failed] = []
        self._over = False
        """Whether no head trains any more."""
        epochs = max(recipe.schedule[0].epochs for recipe in recipes)
        self._rungs = rungs_for(epochs, reduction, first_rung_epochs)[:-1]

    def step(self) -> list[Result]:
        """A few epochs, of about half a second together; all that are left once there is no other end to tell."""
        began = time.monotonic()
        ended = self._ended()
        while not self._over:
            try:
                self._untold += self._epoch()
            except RuntimeError as error:
                self._untold += self._broken_off(error)
                self._over = True
            self._over = self._over or self._pack.finished
            ended = self._ended()
            if ended < set(self.running) and time.monotonic() - began > _STEP_SECONDS:
                break
        if self._over:
            try:
                self._save()
            except OSError as error:
                return unsaved(self.running, error)
        told, self._untold = list[Result](self._untold), []
        self.running = [trial for trial in self.running if trial not in ended]
        return told

    def _ended(self) -> set[str]:
        """The trials that are over, which nobody has been told."""
        return {one.trial for one in self._untold if isinstance(one, Failed) or one.ended}

    def _broken_off(self, error: RuntimeError) -> list[Failed]:
        """What still ran has failed; what had ended has its result."""
        advice = "; a smaller `pack` in the space's Search takes less memory" if is_out_of_memory(error) else ""
        failed, ended = f"{type(error).__name__}: {error}{advice}", self._ended()
        return [Failed(trial, failed) for trial in self.running if trial not in ended]

    def _epoch(self) -> list[Trained | Failed]:
        before = self._pack.running
        filled = self._bench.filled_seconds
        rows = self._pack.run_epoch()
        if filling := self._bench.filled_seconds - filled:
            rows = {head: row | {"fill_seconds": filling / len(rows)} for head, row in rows.items()}
        going = self._pack.running
        if self._pack.epoch in self._rungs:
            self._pack.keep(self._pack.survivors(self._reduction))
        stopped = set(going) - set(self._pack.running)
        failed = self._pack.failed
        return [
            Failed(self._trials[head], f"{type(failed[head]).__name__}: {failed[head]}")
            if head in failed
            else Trained(
                self._trials[head],
                rows[head],
                self._pack.best(head),
                finished=head not in going,
                stopped=head in stopped,
            )
            for head in before
            if self._trials[head] in self.running
        ]

    def _save(self) -> None:
        """Once all are over: a head that still trains may become worse, or diverge."""
        ranked = self._pack.ranked()
        for head in ranked:
            if head == ranked[0] or self._trials[head] == "h0000":
                path = self._checkpoints / self._trials[head] / BEST
                about = describe_tensors(self._pack.best(head), self._signature)
                if self._answers:
                    save_with_answers(path, self._pack.best_state(head), about, *self._pack.answers(head))
                else:
                    save_tensors(path, self._pack.best_state(head), about)

"""The place where an actor works: its bench, opened once, and its checkpoints."""

from __future__ import annotations

from pathlib import Path

import cv2
import torch

from raysearch.data.shared import bring_all
from raysearch.record.files import CHECKPOINTS
from raysearch.search.messages import Failed, Pack, RateTest, Refused, Result, Segment, Task, Unsaved
from raysearch.storage.remote import Storage
from raysearch.training.bench import Bench
from raysearch.training.ranks import ALONE, Ranks
from raysearch.workers.config import PackOptions, WorkplaceConfig
from raysearch.workers.gpu import end_if_cuda_is_lost
from raysearch.workers.pack_work import PackWork
from raysearch.workers.scratch import Scratch
from raysearch.workers.stage_work import RangeTestWork, StageWork
from raysearch.workers.work import Work, unsaved


class Workplace:
    """A process's bench, and the work that it has in hand.

    Args:
        bench: of this process; its ranks train stages together, each at its own workplace. Packs, and files, are the
            first's.
        checkpoints: the run's folder of them.
        packs: how the heads of a pack are compared.
        scratch: of a run with storage; its folder is `checkpoints`.
    """

    def __init__(self, bench: Bench, checkpoints: Path, packs: PackOptions, scratch: Scratch | None = None) -> None:
        self._bench, self._checkpoints, self._packs, self._scratch = bench, checkpoints, packs, scratch
        self._task: Task | None = None
        self._work: Work | None = None

    @classmethod
    def open(cls, config: WorkplaceConfig, ranks: Ranks = ALONE) -> Workplace:
        """A workplace from plain values, as they travel to another process.

        Args:
            config: what the process is told.
            ranks: as the bench has them.
        """
        torch.set_num_threads(config["threads"])
        cv2.setNumThreads(config["threads"])
        checkpoints, bench, scratch = Path(config["checkpoints"]), config["bench"].copy(), None
        if (storage := config.get("storage")) is not None:
            run = Storage(storage)
            scratch = Scratch(run / CHECKPOINTS)
            checkpoints = scratch.folder
            bench["dataset"] = bring_all(run.parent, bench["dataset"])
        return cls(Bench.open(**bench, ranks=ranks), checkpoints, config["heads"], scratch)

    def take(self, task: Task) -> None:
        """Take another task; it is opened in the next step, where a failure belongs to its trial.

        The GPU gets back what the last one left. Other workers may share it, and what this process only reserves they
        have not; where none does, it costs some milliseconds once a task.
        """
        self._task, self._work = task, None
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def step(self) -> list[Result]:
        """Train one epoch, or some short ones; where this process has no part in that, nothing.

        Raises:
            ValueError, RuntimeError: a hand-over, a loss, memory: it would happen again.
            StorageError: the storage refused too long. That ends the process, and its segments run again elsewhere.
        """
        task = self._task
        assert task is not None, "a worker steps only with a task"
        if isinstance(task, Pack) and not self._bench.ranks.first:
            return []
        if self._work is None:
            if self._scratch is not None:
                self._scratch.bring(task)
            try:
                self._work = self._open(task)
            except OSError as error:
                if self._bench.ranks.size > 1:  # the others may be training already
                    raise
                return unsaved(task.trials, error)
        return self._kept(self._work.step())

    def close(self) -> None:
        """The process ends."""
        if self._scratch is not None:
            self._scratch.close()

    def _open(self, task: Task) -> Work:
        match task:
            case RateTest():
                return RangeTestWork(self._bench, self._checkpoints, task)
            case Pack():
                return PackWork(self._bench, self._checkpoints, task, **self._packs)
            case Segment():
                return StageWork(self._bench, self._checkpoints, task)

    def failed(self, error: Exception) -> list[Result]:
        """What a step that raised came to."""
        end_if_cuda_is_lost(error)
        assert self._task is not None, "a worker steps only with a task"
        trials = self._task.trials if self._work is None else self._work.running
        return [Failed(trial, f"{type(error).__name__}: {error}") for trial in trials]

    def _kept(self, results: list[Result]) -> list[Result]:
        """What came of a step, once its checkpoints are where another machine finds them."""
        unwritten = any(isinstance(one, Unsaved) for one in results)
        if self._scratch is None or not self._bench.ranks.first or unwritten:
            return results
        self._scratch.put()
        refusal = self._scratch.take_refusal()
        if refusal is not None and results:
            return [Refused(results[0].trial, *refusal), *results]
        return results

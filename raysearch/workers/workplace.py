"""Where an actor works: its bench, opened once, and its checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import torch

from raysearch.data.shared import bring_images
from raysearch.storage.remote import Storage
from raysearch.training.bench import Bench
from raysearch.training.ranks import ALONE, Ranks
from raysearch.workers.pack_work import PackWork
from raysearch.workers.scratch import Scratch
from raysearch.workers.stage_work import RangeTestWork, StageWork
from raysearch.workers.work import Work, unsaved

logger = logging.getLogger(__name__)


class Workplace:
    """A process's bench, and the work that it has in hand.

    Args:
        bench: of this process; its ranks train stages together, each at its own workplace. Packs, and files, are the
            first's.
        checkpoints: the run's folder of them.
        heads: keywords of `PackWork`.
        scratch: of a run with storage; its folder is `checkpoints`.
    """

    def __init__(self, bench: Bench, checkpoints: Path, heads: dict[str, Any], scratch: Scratch | None = None) -> None:
        self._bench, self._checkpoints, self._heads, self._scratch = bench, checkpoints, heads, scratch
        self._segments: list[dict[str, Any]] = []
        self._work: Work | None = None

    @classmethod
    def open(cls, config: dict[str, Any], ranks: Ranks = ALONE) -> Workplace:
        """A workplace from plain values, as they travel to another process.

        Args:
            config: {"bench": keywords of `Bench.open`, "checkpoints", "threads", "heads": keywords of `PackWork`}; of a
                run with storage also "storage": its URI there.
            ranks: as the bench has them.
        """
        torch.set_num_threads(config["threads"])
        cv2.setNumThreads(config["threads"])
        checkpoints, bench, scratch = Path(config["checkpoints"]), config["bench"], None
        if config.get("storage") is not None:
            run = Storage(config["storage"])
            scratch = Scratch(run / "checkpoints")
            checkpoints = scratch.folder
            bench = bench | {"dataset": str(bring_images(run.parent, Path(bench["dataset"])))}
        return cls(Bench.open(**bench, ranks=ranks), checkpoints, config["heads"], scratch)

    def take(self, segments: list[dict[str, Any]]) -> None:
        """Other segments; they are opened in the next step, where a failure belongs to its trial."""
        self._segments, self._work = segments, None

    def step(self) -> list[dict[str, Any]]:
        """Train one epoch, or some short ones; where this process has no part in that, nothing.

        Raises:
            ValueError, RuntimeError: a hand-over, a loss, memory: it would happen again.
            StorageError: the storage refused too long. That ends the process, and its segments run again elsewhere.
        """
        if self._segments[0]["pack"] is not None and not self._bench.ranks.first:
            return []
        if self._work is None:
            if self._scratch is not None:
                self._scratch.bring(self._segments)
            try:
                self._work = self._open()
            except OSError as error:
                if self._bench.ranks.size > 1:  # the others may be training already
                    raise
                return unsaved(self._trials(), error)
        return self._kept(self._work.step())

    def close(self) -> None:
        """The process ends."""
        if self._scratch is not None:
            self._scratch.close()

    def _open(self) -> Work:
        first = self._segments[0]
        if "range_test" in first:
            return RangeTestWork(self._bench, self._checkpoints, first)
        if first["pack"] is not None:
            return PackWork(self._bench, self._checkpoints, self._segments, **self._heads)
        return StageWork(self._bench, self._checkpoints, first)

    def failed(self, error: Exception) -> list[dict[str, Any]]:
        """What a step that raised came to, for `Driver.results`."""
        trials = self._trials() if self._work is None else self._work.running
        return [{"trial": trial, "failed": f"{type(error).__name__}: {error}"} for trial in trials]

    def _kept(self, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What came of a step, once its checkpoints are where another machine finds them."""
        if self._scratch is None or not self._bench.ranks.first or any("unsaved" in one for one in results):
            return results
        self._scratch.put(segment["trial"] for segment in self._segments)
        refusal = self._scratch.take_refusal()
        if refusal is not None and results:
            results[0]["refused"] = refusal
        return results

    def _trials(self) -> list[str]:
        """Of the segments that it took; of a pack that began before, those whose ends have not been told."""
        return [one["trial"] for one in self._segments if "segment" in one or "range_test" in one]

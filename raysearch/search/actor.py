"""The trial actor: one process that opens a segment, trains it an epoch a step, and keeps its checkpoint.

Tune reuses the actor for other segments, so data, base weights and activations are opened once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import cv2
import torch
from ray import tune

from raysearch.data.shared import bring_images
from raysearch.recipe import Recipe
from raysearch.run import BEST, LAST
from raysearch.search.asha import rungs_for
from raysearch.search.scratch import Scratch
from raysearch.storage import Storage
from raysearch.training.checkpoint import (
    best_metadata,
    describe_tensors,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from raysearch.training.loop import Trainer
from raysearch.training.memory import is_out_of_memory
from raysearch.training.range_test import range_test
from raysearch.training.ranks import ALONE, Ranks
from raysearch.training.stage import Bench, open_pack, open_stage

logger = logging.getLogger(__name__)

_STEP_SECONDS = 0.5  # of a pack's epochs, which are too short to be told one by one
_PAUSE_SECONDS = 1.0  # before storage that refused is tried again


class _Work(Protocol):
    """What a worker has in hand."""

    @property
    def running(self) -> list[str]:
        """The trials whose segments have not ended."""

    def step(self) -> list[dict[str, Any]]:
        """Trains on, and says what came of it: see `Driver.results`."""


class TrialActor(tune.Trainable):
    """Runs segments; a step returns {"results": what `Driver.results` takes}."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open what every segment needs.

        Args:
            config: of `Workplace`, and "segments": as of `Driver.start`.
        """
        self._workplace = Workplace(config)
        self._workplace.take(config["segments"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take other segments."""
        self._workplace.take(new_config["segments"])
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, or some short ones."""
        try:
            return {"results": self._workplace.step()}
        except (ValueError, RuntimeError) as error:
            return {"results": self._workplace.failed(error)}

    def cleanup(self) -> None:
        """The actor ends."""
        self._workplace.close()


class Workplace:
    """A process's bench, and the work that it has in hand.

    Args:
        config: {"bench": keywords of `Bench.open`, "checkpoints", "threads", "heads": keywords of `PackWork`}; of a run
            with storage also "storage": its URI there.
        ranks: the processes that train stages together, each at its own workplace. Packs, and files, are the first's.
    """

    def __init__(self, config: dict[str, Any], ranks: Ranks = ALONE) -> None:
        torch.set_num_threads(config["threads"])
        cv2.setNumThreads(config["threads"])
        self._checkpoints, self._heads = Path(config["checkpoints"]), config["heads"]
        bench = config["bench"]
        self._scratch: Scratch | None = None
        if config.get("storage") is not None:
            run = Storage(config["storage"])
            self._scratch = Scratch(run / "checkpoints")
            self._checkpoints = self._scratch.folder
            bench = bench | {"dataset": str(bring_images(run.parent, Path(bench["dataset"])))}
        self._bench = Bench.open(**bench, ranks=ranks)
        self._segments: list[dict[str, Any]] = []
        self._work: _Work | None = None

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
                return _unsaved(self._trials(), error)
        return self._kept(self._work.step())

    def close(self) -> None:
        """The process ends."""
        if self._scratch is not None:
            self._scratch.close()

    def _open(self) -> _Work:
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


class StageWork:
    """A segment of one trial, where its last checkpoint left it; without one, at the start of its stage.

    Args:
        bench: of this process.
        checkpoints: the run's folder of them.
        segment: as of `Driver.start`.
    """

    def __init__(self, bench: Bench, checkpoints: Path, segment: dict[str, Any]) -> None:
        self._bench, self._trial = bench, segment["trial"]
        self._folder = checkpoints / self._trial
        self._folder.mkdir(parents=True, exist_ok=True)
        if bench.ranks.first:
            _clear(self._folder)
        recipe, stage = Recipe.model_validate(segment["recipe"]), segment["stage"]
        self._rows: list[dict[str, Any]] = []
        self._reported = 0
        self._saved = True
        last = self._folder / LAST
        saved = load_checkpoint(last) if last.exists() else None
        if saved is not None and saved["recipe"] != segment["recipe"]:
            # A search that goes on from an older log may draw another recipe for the trial than the one lost with it.
            logger.warning("%s has a checkpoint of another recipe, which is passed over", self._trial)
            saved = None
        self._recipe = segment["recipe"]
        if saved is not None:
            self._trainer = open_stage(bench, recipe, stage, ended_rate=segment["ended_rate"])
            self._trainer.load_state(saved["trainer"])
            self._rows = saved["rows"]
            self._reported = min(segment["from_epoch"], len(self._rows))
            return
        if segment["from_epoch"]:
            logger.warning("%s has no checkpoint: it starts again at its first epoch", self._trial)
        if segment["parent"] is None:
            self._trainer = open_stage(bench, recipe, stage)
            return
        start, about = load_tensors(checkpoints / segment["parent"] / BEST)
        self._trainer = open_stage(
            bench,
            recipe,
            stage,
            start,
            ended_rate=segment["ended_rate"],
            expected_loss=about["val_loss"],
            expected_signature=about["signature"],
        )

    @property
    def running(self) -> list[str]:
        """The trial."""
        return [self._trial]

    def step(self) -> list[dict[str, Any]]:
        """One epoch, or one that the last checkpoint has and the log has not. It is told once it is saved."""
        if self._saved and self._reported == len(self._rows):
            self._rows.append(_timed(self._bench, self._trainer))
            self._saved = False
        if not self._saved:
            refusal = self._refusal()
            if refusal is not None:
                return _unsaved([self._trial], refusal)
            self._saved = True
        row = self._rows[self._reported]
        self._reported += 1
        result = {
            "trial": self._trial,
            "row": row,
            "best": self._trainer.best,
            "finished": self._trainer.finished and self._reported == len(self._rows),
            "handover_delta": self._trainer.handover_delta if self._reported == 1 else None,
        }
        return [result]

    def _refusal(self) -> OSError | None:
        """What kept the checkpoint from being written; all workers of a trial hear of it, and wait together."""
        refusal: OSError | None = None
        try:
            self._save()
        except OSError as error:
            refusal = error
        ranks, device = self._bench.ranks, self._bench.device
        if ranks.agree({"refused": float(refusal is not None)}, device)["refused"]:
            return refusal or OSError("the first worker could not write the checkpoint")
        return None

    def _save(self) -> None:
        """The best tensors first: if the process dies in between, the epoch is trained again, to the same tensors."""
        if not self._bench.ranks.first:
            return
        if self._trainer.best["epoch"] == self._rows[-1]["epoch"] or len(self._rows) == 1:
            save_tensors(self._folder / BEST, self._trainer.best_state, best_metadata(self._trainer))
        state = {"trainer": self._trainer.state(), "rows": self._rows, "recipe": self._recipe}
        save_checkpoint(self._folder / LAST, state)


class PackWork:
    """A segment of each head of a pack, with successive halving among them.

    There is no checkpoint of a pack under way: one that is broken off trains again from its first epoch, a matter of
    seconds, with the heads that had ended, of which nothing is told again.

    Args:
        bench: of this process.
        checkpoints: the run's folder of them; before the last head is said to have ended, the pack's best is written
            there, and the default.
        segments: as of `Driver.start`.
        folds: of the cross-validation; 0: none.
        reduction, first_rung_epochs: of the halving, as a space has them.
    """

    def __init__(
        self,
        bench: Bench,
        checkpoints: Path,
        segments: list[dict[str, Any]],
        *,
        folds: int,
        reduction: int,
        first_rung_epochs: int | None,
    ) -> None:
        self._bench, self._checkpoints, self._reduction = bench, checkpoints, reduction
        self._trials = [segment["trial"] for segment in segments]
        for trial in self._trials:
            _clear(checkpoints / trial)
        self.running = [segment["trial"] for segment in segments if "segment" in segment]
        """The trials whose ends have not been told."""
        recipes = [Recipe.model_validate(segment["recipe"]) for segment in segments]
        self._pack, self._signature = open_pack(bench, recipes, folds)
        self._untold: list[dict[str, Any]] = []
        self._over = False
        """Whether no head trains any more."""
        epochs = max(recipe.schedule[0].epochs for recipe in recipes)
        self._rungs = rungs_for(epochs, reduction, first_rung_epochs)[:-1]

    def step(self) -> list[dict[str, Any]]:
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
                return _unsaved(self.running, error)
        told, self._untold = self._untold, []
        self.running = [trial for trial in self.running if trial not in ended]
        return told

    def _ended(self) -> set[str]:
        """The trials that are over, which nobody has been told."""
        return {one["trial"] for one in self._untold if "failed" in one or one["finished"] or one["stopped"]}

    def _broken_off(self, error: RuntimeError) -> list[dict[str, Any]]:
        """What still ran has failed; what had ended has its result."""
        advice = "; a smaller `pack` in the space's Search takes less memory" if is_out_of_memory(error) else ""
        failed, ended = f"{type(error).__name__}: {error}{advice}", self._ended()
        return [{"trial": trial, "failed": failed} for trial in self.running if trial not in ended]

    def _epoch(self) -> list[dict[str, Any]]:
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
            {"trial": self._trials[head], "failed": f"{type(failed[head]).__name__}: {failed[head]}"}
            if head in failed
            else {
                "trial": self._trials[head],
                "row": rows[head],
                "best": self._pack.best(head),
                "finished": head not in going,
                "stopped": head in stopped,
            }
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
                save_tensors(path, self._pack.best_state(head), about)


class RangeTestWork:
    """The range test of a level that is about to begin: one step, one result.

    Args:
        bench: of this process.
        checkpoints: the run's folder of them.
        asked: {"trial": what the level starts from, "range_test": {"stage": of the level, "recipes": by depth}}.
    """

    def __init__(self, bench: Bench, checkpoints: Path, asked: dict[str, Any]) -> None:
        self._bench, self._trial, self._asked = bench, asked["trial"], asked["range_test"]
        self._start, self._about = load_tensors(checkpoints / self._trial / BEST)

    @property
    def running(self) -> list[str]:
        """What the level starts from."""
        return [self._trial]

    def step(self) -> list[dict[str, Any]]:
        """The rates of every depth."""
        found = {}
        for depth, tree in self._asked["recipes"].items():
            recipe, signature = Recipe.model_validate(tree), self._about["signature"]
            trainer = open_stage(self._bench, recipe, self._asked["stage"], self._start, expected_signature=signature)
            found[depth] = asdict(range_test(trainer))
        return [{"trial": self._trial, "range_test": found}]


def _unsaved(trials: Sequence[str], error: OSError) -> list[dict[str, Any]]:
    """What to tell when the disk takes nothing at the moment; the next step tries again."""
    time.sleep(_PAUSE_SECONDS)
    return [{"trial": trial, "unsaved": str(error)} for trial in trials]


def _clear(folder: Path) -> None:
    """Of what a process left there that was killed while it wrote."""
    for left_over in folder.glob(".*"):
        left_over.unlink()


def _timed(bench: Bench, trainer: Trainer) -> dict[str, Any]:
    """An epoch's row, with the seconds of it that filled the cache, if any did."""
    before = bench.filled_seconds
    row = trainer.run_epoch()
    filling = bench.filled_seconds - before
    return row | ({"fill_seconds": filling} if filling else {})

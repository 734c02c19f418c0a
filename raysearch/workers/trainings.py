"""Recipes to train whole, from the pretrained weights alone, what came of them, and what of them is still to do.

What is wanted next may depend on what came of the others, so it is no list, but is asked for again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from raysearch.record.files import BEST, CHECKPOINTS
from raysearch.record.line import Row
from raysearch.storage.remote import Storage
from raysearch.training.checkpoint import load_tensors
from raysearch.workers.order import Training

ERROR = "error.txt"
"""Why a training has no tensors."""
DIGEST = "training"
"""What the metadata of a training's tensors call `Training.digest`."""
HISTORY = "history.jsonl"
"""Its epochs, a line each."""
LOGITS = "held_out_logits"
"""The name of the answers to held-out images among a training's tensors."""


@dataclass(frozen=True)
class Outcome:
    """What came of a training."""

    training: Training
    seconds: float = 0.0
    row: Row | None = None
    """The figures of the epoch that was kept; on held-out images where there are any."""
    error: str | None = None
    """Why there are no tensors."""
    file: Path | None = None
    unlabelled: int | None = None
    """Images without labels that a student was trained on; None: it is none."""

    def suffix(self) -> dict[str, torch.Tensor]:
        """The trained tensors."""
        assert self.file is not None
        return {name: tensor for name, tensor in load_tensors(self.file)[0].items() if name != LOGITS}

    def held_out_logits(self) -> torch.Tensor:
        """The logits of the held-out images, in their order: float32 (m, classes)."""
        assert self.file is not None
        return load_tensors(self.file)[0][LOGITS]


def succeeded(trainings: Iterable[Training], done: Mapping[str, Outcome]) -> list[Outcome]:
    """What came of those that are done and did not fail, in their order."""
    found = (done.get(one.name) for one in trainings)
    return [one for one in found if one is not None and one.error is None]


Wanted = Callable[[Mapping[str, Outcome]], Sequence[Training]]
"""A function of what is done, by name: it gives all that is wanted by now, in order, done or not."""


class Backlog:
    """What is wanted, and what is done of it."""

    def __init__(
        self,
        checkpoints: Path,
        wanted: Wanted,
        watch: Callable[[int, int], None],
        took: Callable[[Outcome], None],
        storage: Storage | None,
    ) -> None:
        self.checkpoints, self._wanted, self._watch, self._took = checkpoints, wanted, watch, took
        self._storage = storage
        self.done: dict[str, Outcome] = {}
        self._all: dict[str, Training] = {}
        self._given: set[str] = set()  # what workers train, and hand over to the storage themselves
        self._asked_at = -1  # outcomes that were known when it was last asked what is wanted

    def missing(self) -> list[Training]:
        """What is wanted by now and not done; what an earlier job has left is taken on the way."""
        while True:
            # It follows from what is done, and reads answers of all images: it is not asked at every look.
            if self._asked_at != len(self.done):
                self._asked_at = len(self.done)
                for training in self._wanted(self.done):
                    self._all.setdefault(training.name, training)
            if not self._take_found():
                return [training for name, training in self._all.items() if name not in self.done]

    def to_give(self) -> list[Training]:
        """What is missing, and was not given to the job that runs; from now on it is that job's."""
        new = [training for training in self.missing() if training.name not in self._given]
        self._given.update(training.name for training in new)
        return new

    def look(self) -> None:
        """Take what was brought since, and tell how far all of it is."""
        self._take_found()
        histories = (self.checkpoints / name / HISTORY for name in self._all)
        epochs = sum(path.read_bytes().count(b"\n") for path in histories if path.exists())
        of = sum(stage.epochs for training in self._all.values() for stage in training.recipe.schedule)
        self._watch(epochs, of)

    def take_back(self) -> None:
        """The job is over: nobody else hands over what its workers left here."""
        self._given.clear()

    def give_up(self, reason: str) -> None:
        """The rest of what is wanted counts as failed."""
        for training in self.missing():
            self._note(Outcome(training, error=reason))

    def _take_found(self) -> bool:
        found = False
        for training in self._all.values():
            if training.name not in self.done and (outcome := self._found(training)) is not None:
                self._note(outcome)
                found = True
        return found

    def _found(self, training: Training) -> Outcome | None:
        """What came of a training; where there is a storage, as soon as it is there for every machine to read."""
        folder = self.checkpoints / training.name
        if self._brought(training.name, BEST):
            about, file = load_tensors(folder / BEST)[1], folder / BEST
            if about.get(DIGEST, training.digest) == training.digest:  # files of earlier versions have none
                return Outcome(training, about["seconds"], about["row"], file=file, unlabelled=about.get("unlabelled"))
            self._forget(training.name)
        if self._brought(training.name, ERROR):
            return Outcome(training, error=(folder / ERROR).read_text(encoding="utf-8"))
        return None

    def _forget(self, name: str) -> None:
        """A training left tensors of what is not wanted any more: where they stay, they look like the new ones."""
        (self.checkpoints / name / BEST).unlink()
        if self._storage is not None:
            self._storage.delete(f"{CHECKPOINTS}/{name}/{BEST}")

    def _brought(self, name: str, file: str) -> bool:
        """Whether a training has left such a file, which is here then."""
        here, stored = self.checkpoints / name / file, f"{CHECKPOINTS}/{name}/{file}"
        if self._storage is None:
            return here.exists()
        if name not in self._given and here.exists() and not self._storage.exists(stored):
            self._storage.put(here, stored)  # whoever trained it was broken off before that
            return True
        try:
            self._storage.get(stored, here)
        except FileNotFoundError:
            return False
        return True

    def _note(self, outcome: Outcome) -> None:
        self.done[outcome.training.name] = outcome
        self._took(outcome)

"""Heads judged by cross-validation over the training images, which are many more than the validation images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from raysearch.activations.base import Activations, Derived
from raysearch.activations.kept import TensorActivations
from raysearch.recipe import Recipe
from raysearch.record.goal import Goal
from raysearch.training.epoch import Figures, NonFiniteLossError
from raysearch.training.heads.members import Worth
from raysearch.training.heads.pack import HeadPack
from raysearch.training.heads.reading import read_view
from raysearch.training.images import Images, Labelled
from raysearch.training.stratified import check_folds, stratified_folds

MEAN_DIGITS = 12
"""Decimals of a mean over folds: those after them tell in which order it was summed, and would break ties."""


class FoldedPack:
    """Heads trained on all training images, and judged by how they do where they are trained without a part of them.

    Used as a `HeadPack` is. It trains one, whose tensors and val_ figures are what they would be without folds; and in
    step with it one a fold, on the images outside of the fold, validated on those in it. A row then also has, for every
    val_ figure, its mean over the folds (cv_), and for the metric their sample standard deviation (cv_<metric>_std).
    These decide which epoch is the best, early stopping and the order of the heads; the validation images do not. The
    plateau course follows the validation loss of each pack by itself. A head that fails in a fold has failed.

    Args:
        recipes, device: as of `HeadPack`.
        images: as of `HeadPack`; one view of the training images is held in memory from epoch to epoch, and read once
            for all folds.
        folds: parts of the training images, drawn from the recipes' seed.
        still: the training images without augmentation, which a fold is validated on; what they are trained on itself,
            if it has none.
        goal: whose cv_ figures decide.
        groups: as of `stratified_folds`, for the training images.

    Raises:
        InputError: a class has fewer images than there are folds.
        ValueError: as of `HeadPack`; or `still` is augmented or of other images.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        images: Images,
        *,
        folds: int,
        still: Activations,
        goal: Goal,
        device: torch.device,
        groups: np.ndarray | None = None,
    ) -> None:
        train, labels = images.train.activations, np.asarray(images.train.labels)
        check_folds(folds, labels, images.classes, groups)
        if still.varies or len(still) != len(train):
            raise ValueError(
                f"folds are validated on the {len(train)} training images without augmentation, got {len(still)} images"
                f"{', augmented' if still.varies else ''}"
            )
        shared = Labelled(_OneView(train, device), labels)
        judged = shared if still is train else Labelled(still, labels)
        self._pack = HeadPack(recipes, replace(images, train=shared), goal=goal, device=device)
        whole = [_without_early_stopping(recipe) for recipe in recipes]
        self._folds = [
            HeadPack(
                whole,
                Images(images.classes, train=shared.take(rest), val=judged.take(held_out)),
                goal=goal,
                device=device,
            )
            for rest, held_out in stratified_folds(folds, labels, self._pack.seed, groups)
        ]

    def __len__(self) -> int:
        return len(self._pack)

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self._pack.epoch

    @property
    def running(self) -> tuple[int, ...]:
        """The heads that the next epoch trains."""
        return self._pack.running

    @property
    def finished(self) -> bool:
        """Whether no head is left to train."""
        return self._pack.finished

    @property
    def failed(self) -> dict[int, NonFiniteLossError]:
        """The heads whose loss became infinite or NaN, in a fold or on all images, and where."""
        return self._pack.failed

    def best(self, head: int) -> Figures:
        """The row of the epoch to keep: the best (ties: the lower cv_loss), or the last; empty before the first."""
        return self._pack.best(head)

    def best_state(self, head: int) -> dict[str, Tensor]:
        """The head of all training images as it was after that epoch; see `HeadPack.best_state`."""
        return self._pack.best_state(head)

    def answers(self, head: int) -> tuple[Tensor, Tensor]:
        """What the head of all training images makes of the validation images; see `HeadPack.answers`."""
        return self._pack.answers(head)

    def survivors(self, reduction: int) -> list[int]:
        """The best 1 / reduction of the heads that were not dropped and did not fail (at least one), best first."""
        return self._pack.survivors(reduction)

    def ranked(self) -> list[int]:
        """All heads that have a best epoch and did not fail, dropped ones too, best first.

        They are compared by the cv_ figures of their `best` that the goal names, then by its cv_loss, then by their
        places.
        """
        return self._pack.ranked()

    def keep(self, heads: Iterable[int]) -> None:
        """Trains no running head but these any longer."""
        self._pack.keep(heads)
        self._follow()

    def run_epoch(self) -> dict[int, Figures]:
        """Trains every running head for one epoch in every fold and on all images; see `HeadPack.run_epoch`."""
        heads = self.running
        by_fold = [fold.run_epoch() for fold in self._folds]
        rows = self._pack.run_epoch(self._worths(heads, by_fold))
        for head, row in rows.items():  # the very row that may be the head's best
            row["seconds"] += sum(of_fold[head]["seconds"] for of_fold in by_fold)
        self._follow()
        return rows

    def _worths(
        self, heads: Sequence[int], by_fold: Sequence[Mapping[int, Figures]]
    ) -> dict[int, Worth | NonFiniteLossError]:
        """What the folds say about an epoch of each head: means over folds, or the failure in the first that failed."""
        worths: dict[int, Worth | NonFiniteLossError] = {}
        for fold in reversed(self._folds):
            worths |= fold.failed
        if not (sound := [head for head in heads if head not in worths]):
            return worths
        goal = self._pack.goal
        names = [name for name in by_fold[0][sound[0]] if name.startswith("val_")]
        figures = np.array([[[of_fold[head][name] for name in names] for head in sound] for of_fold in by_fold])
        spreads = figures[:, :, names.index(f"val_{goal.metric}")].std(axis=0, ddof=1).tolist()
        columns = [f"cv_{name.removeprefix('val_')}" for name in names]
        means = figures.mean(axis=0).round(MEAN_DIGITS).tolist()
        for head, of_head, spread in zip(sound, means, spreads, strict=True):
            row = dict(zip(columns, of_head, strict=True)) | {f"cv_{goal.metric}_std": spread}
            worths[head] = Worth(goal.score(dict(zip(names, of_head, strict=True))), row["cv_loss"], row)
        return worths

    def _follow(self) -> None:
        """No fold trains a head that the whole pack no longer trains."""
        for fold in self._folds:
            fold.keep(self.running)


def _without_early_stopping(recipe: Recipe) -> Recipe:
    schedule = tuple(stage.model_copy(update={"early_stopping_epochs": None}) for stage in recipe.schedule)
    return recipe.model_copy(update={"schedule": schedule})


class _OneView(Derived):
    """Activations of which the view read last is kept in memory: packs that follow each other read it once."""

    def __init__(self, source: Activations, device: torch.device) -> None:
        super().__init__(source)
        self._device = device
        self._rows: TensorActivations | None = None
        self._view = 0

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        if self._rows is None or (self.varies and view != self._view):
            self._rows = None  # never two views at a time
            features = read_view(self._source, np.arange(len(self)), view, self._device)
            self._rows, self._view = TensorActivations(features), view
        return self._rows.batch(indices, view)

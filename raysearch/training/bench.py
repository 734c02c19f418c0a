"""What a process needs to train any trial of a search."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.activations.cache import Caches, caches_from_json
from raysearch.activations.sources import MEMORY_BYTES, Sources
from raysearch.data.dataset import Dataset, Split
from raysearch.data.unlabelled import Unlabelled, without_copies
from raysearch.errors import InputError
from raysearch.models.shelf import Shelf
from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import Recipe
from raysearch.record.final_events import On
from raysearch.record.goal import Goal
from raysearch.training.distillation import Teacher
from raysearch.training.numerics import choose_device
from raysearch.training.ranks import ALONE, Ranks
from raysearch.training.stratified import stratified_folds


@dataclass(frozen=True, eq=False)
class Fold:
    """Images to train on and images to judge by, which are parts of the same: all folds share their activations."""

    train: NDArray[np.int64]
    """Places among the training images, which all labelled ones are, ascending."""
    val: NDArray[np.int64]


@dataclass
class Bench:
    """What a process needs to train any trial of a search; made once, used for trial after trial."""

    dataset: Dataset
    weights: Weights
    """The backbone's, pretrained or random; the frozen part of every trial. Of several networks, the first one's."""
    device: torch.device
    precision: str
    """fp32, bf16 or fp16: what training runs in."""
    goal: Goal = field(default_factory=lambda: Goal("accuracy"))
    """What the search is after."""
    memory_bytes: int = MEMORY_BYTES
    """Room on the device for activations that do not change from epoch to epoch."""
    max_batches: int | None = None
    """Trains and validates on no more than so many batches an epoch, for a quick look; None: on all."""
    cache: Caches = None
    """Which activations are read from disk: the same of every network, or of each its own; None: none."""
    held_out: Mapping[int, Split] | None = None
    """Images that decide nothing, on which the best state of every stage is measured, in each size; None: none."""
    ranks: Ranks = ALONE
    """The processes that train every stage together, each at a bench of its own; packs of heads are one's work."""
    fold: Fold | None = None
    """What stands for the dataset's training and validation images; None: they do."""
    shelf: Shelf | None = None
    """The weights of each network, where the search chooses among several; None: it has one."""
    unlabelled: Unlabelled | None = None
    """Images that a student learns from, beside those with labels; None: there are none."""
    teacher: Teacher | None = None
    """Who answers to the fold's images, where that is learned from."""
    sources: Sources = field(init=False, repr=False)
    """The activations that all trials read."""
    label_doubts: dict[Hashable, NDArray[np.float64]] = field(init=False, repr=False, default_factory=dict)
    """How sure it is of training images that their labels are wrong, once it was asked: see `training.label_errors`."""

    def __post_init__(self) -> None:
        if problems := self.goal.check(self.dataset.classes):
            raise InputError(problems)
        self.sources = Sources(self.device, self.memory_bytes, self.cache)

    def weights_of(self, recipe: Recipe) -> Weights:
        """The base weights of a recipe's network.

        Raises:
            InputError: they are not there any more.
        """
        return self.weights if self.shelf is None else self.shelf.of(recipe)

    def seeing(self, on: On, fold: tuple[int, int] | None, seed: int) -> Bench:
        """The same bench before other parts of its labelled images; what it has read of them stays at hand.

        Args:
            on: whether the validation images are trained on too.
            fold: which of how many stratified parts of all labelled images is held out, to judge by; None: none is, and
                the validation images judge, whether they were trained on or not.
            seed: by which folds are drawn.
        """
        other = copy.copy(self)
        if on == "train+val":
            other.dataset = self.dataset.with_val_trained()
            if fold is not None:
                (which, folds), both = fold, other.dataset.train
                other.fold = Fold(*stratified_folds(folds, both.labels, seed, both.groups)[which])
        return other

    @property
    def filled_seconds(self) -> float:
        """Spent by this process on filling the cache, or on waiting for another that fills it."""
        return self.sources.filled_seconds

    @classmethod
    def open(
        cls,
        *,
        dataset: str,
        backbone: str,
        weights: str,
        seed: int,
        device: str,
        precision: str,
        metric: str,
        require: Sequence[str] = (),
        max_batches: int | None = None,
        cache: dict[str, Any] | None = None,
        halves: bool = False,
        several: bool = False,
        unlabelled: str | None = None,
        ranks: Ranks = ALONE,
    ) -> Bench:
        """A bench from plain values, as they travel to another process.

        Args:
            dataset: the place of the decoded images, in all sizes: see `Dataset.place`.
            backbone, weights, seed: of `load_weights`.
            device, precision, max_batches: as the bench has them.
            metric, require: of its goal.
            cache: the fields of `CacheSettings`; of several networks, these by the name of each.
            several: whether recipes have other networks than the one that is named here.
            halves: whether half of the validation images are held out.
            unlabelled: the place of the decoded images without labels, in the same sizes.
            ranks: as the bench has them.
        """
        images, held_out = Dataset.open_all(dataset), None
        if halves:
            held_out = {size: one.halved(seed)[1] for size, one in images.sizes.items()}
            images, _ = images.halved(seed)
        shelf, first = Shelf(seed) if several else None, load_weights(backbone, weights, seed)
        if shelf is not None:
            shelf.put(backbone, first)
        return cls(
            images,
            first,
            choose_device(device),
            precision,
            Goal.of(metric, require),
            max_batches=max_batches,
            cache=caches_from_json(cache, several=several),
            held_out=held_out,
            unlabelled=None if unlabelled is None else without_copies(Dataset.open_all(unlabelled), images),
            ranks=ranks,
            shelf=shelf,
        )

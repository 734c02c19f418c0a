"""Opens a stage of a trial, or a pack of heads: from recipes and the images to what is ready to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.activations.cache import CachedActivations, CacheSettings, boundary_name, describe
from raysearch.activations.live import Activations, LiveActivations, keep, size_bytes
from raysearch.activations.store import Store
from raysearch.data.augment import Augmenter
from raysearch.data.pixels import Dataset, Split
from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, cut, pin
from raysearch.models.registry import backbone_spec
from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import Recipe, Stage
from raysearch.training.folds import FoldedPack
from raysearch.training.handover import HandoverError, check_handover, load_start, signature
from raysearch.training.loop import Trainer
from raysearch.training.metrics import check_metric
from raysearch.training.numerics import choose_device, choose_precision
from raysearch.training.pack import HeadPack
from raysearch.training.ranks import ALONE, Ranks

__all__ = ["Bench", "choose_device", "choose_precision", "open_pack", "open_stage"]

QUICK_VALIDATION_BATCH = 32
"""Images that `max_batches` counts as one when validating: not the stage's, for all stages must see the same images."""


@dataclass
class Bench:
    """What a process needs to train any trial of a search; made once, used for trial after trial."""

    dataset: Dataset
    weights: Weights
    """The backbone's, pretrained or random; the frozen part of every trial."""
    device: torch.device
    precision: str
    """fp32, bf16 or fp16: of the training."""
    metric: str = "accuracy"
    """What the search is led by."""
    memory_bytes: int = 1 << 30
    """On the device, for activations that do not change from epoch to epoch."""
    max_batches: int | None = None
    """Trains and validates on no more than so many batches an epoch, for a quick look; None: on all."""
    cache: CacheSettings | None = None
    """Which activations are read from disk; None: none."""
    filled_seconds: float = 0.0
    """Spent by this process on filling the cache, or on waiting for another that fills it."""
    held_out: Split | None = None
    """Images that decide nothing, on which the best state of every stage is measured; None: none."""
    ranks: Ranks = ALONE
    """The processes that train every stage together, each at a bench of its own; packs of heads are one's work."""
    _kept: dict[tuple[Any, ...], Activations] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_metric(self.metric, self.dataset.classes)

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
        max_batches: int | None = None,
        cache: dict[str, Any] | None = None,
        halves: bool = False,
        ranks: Ranks = ALONE,
    ) -> Bench:
        """A bench from plain values, as they travel to another process.

        Args:
            dataset: the cache folder of the decoded images.
            backbone, weights, seed: of `load_weights`.
            device, precision, metric, max_batches: as the bench has them.
            cache: the fields of `CacheSettings`.
            halves: whether half of the validation images are held out.
            ranks: as the bench has them.
        """
        images, held_out = Dataset.open(Path(dataset)), None
        if halves:
            images, held_out = images.halved(seed)
        return cls(
            images,
            load_weights(backbone, weights, seed),
            choose_device(device),
            precision,
            metric,
            max_batches=max_batches,
            cache=CacheSettings.from_json(cache) if cache else None,
            held_out=held_out,
            ranks=ranks,
        )

    def part(self, split: Split, batch_size: int) -> Split:
        """A split, or evenly spaced images of it if `max_batches` of this size are fewer."""
        n = len(split.labels)
        if self.max_batches is None or n <= self.max_batches * batch_size:
            return split
        chosen = np.linspace(0, n - 1, self.max_batches * batch_size).astype(np.int64)
        return split.take(chosen)

    def activations(
        self,
        split: str,
        images: Split,
        prefix: nn.Sequential,
        recipe: Recipe,
        depth: int,
        *,
        augmenter: Augmenter | None = None,
        precision: str = "fp32",
    ) -> Activations:
        """Of these images behind this prefix, at this depth of the recipe.

        From disk if the depth is cached. What does not change is kept in the device's memory from trial to trial where
        it fits, unless that is a copy of what the page cache holds for all processes. The rest is live.
        """
        # Pooling and head do not reach the boundary of a deeper stage: its activations serve trials that differ there.
        key = (split, recipe.backbone, depth, recipe.pooling if depth == 0 else None, len(images))
        if augmenter is None and key in self._kept:
            return self._kept[key]
        live = LiveActivations(images.pixels, prefix, augmenter=augmenter, device=self.device, precision=precision)
        source = self._cached(live, split, images, recipe, depth) or live
        mapped = source is not live and self.device.type == "cpu"
        if augmenter is not None or mapped or size_bytes(source) > self.memory_bytes:
            return source
        if sum(map(size_bytes, self._kept.values())) + size_bytes(source) > self.memory_bytes:
            self._kept.clear()  # of other depths, most likely
        self._kept[key] = keep(source, self.memory_bytes)
        return self._kept[key]

    def _cached(
        self, live: LiveActivations, split: str, images: Split, recipe: Recipe, depth: int
    ) -> CachedActivations | None:
        """The same from disk; None where that is not wanted."""
        cache, blocks = self.cache, backbone_spec(recipe.backbone).block_names
        if cache is None or depth not in cache.depths or boundary_name(blocks, depth) is None:
            return None
        if live.augmenter is not None and cache.seed not in (None, live.augmenter.seed):
            return None
        return CachedActivations(
            live,
            describe(recipe, self.weights.digest, self.dataset.fingerprint, split, images),
            Store(limit_bytes=cache.limit_bytes),
            dtype=cache.dtype if split == "train" else "fp32",
            views=cache.views,
            also={name for other in cache.depths if (name := boundary_name(blocks, other)) is not None},
            wait_seconds=cache.wait_seconds,
            filled=self._note_filling,
        )

    def _note_filling(self, seconds: float) -> None:
        self.filled_seconds += seconds


def open_stage(
    bench: Bench,
    recipe: Recipe,
    stage_index: int,
    start: Mapping[str, Tensor] | None = None,
    *,
    ended_rate: float | None = None,
    expected_loss: float | None = None,
    expected_signature: Mapping[str, Any] | None = None,
) -> Trainer:
    """A trainer for one stage of a recipe, before its first epoch.

    To go on with a stage that was broken off, open it without `start` and give the trainer its state.

    Args:
        bench: images, weights, device.
        recipe: of the trial.
        stage_index: which stage of its schedule.
        start: the best suffix of the stage before (or of the head search); None begins with pretrained blocks and a
            head fresh from the recipe's seed.
        ended_rate: learning rate of the last step of the stage before, for a stage that inherits it.
        expected_loss: val_loss saved with `start`; the hand-over gate then lets the stage begin only if it is found
            again (`Trainer.handover_delta`), and the start counts as epoch 0.
        expected_signature: saved with `start`.

    Raises:
        InputError: bench and recipe do not belong together.
        HandoverError: see `handover`.
        ValueError: the stage inherits a learning rate, and none is given.
    """
    stage = recipe.schedule[stage_index]
    if stage.inherit is not None:
        if not ended_rate:
            raise ValueError(
                f"stage {stage_index} takes over the learning rate of the stage before, which ended at {ended_rate}: "
                "let that one end above 0 (course plateau or constant), or give this one a learning_rate"
            )
        stage = stage.model_copy(update={"learning_rate": stage.inherit * ended_rate})
    on = _Place(bench, recipe, stage)
    problems = load_start(on.suffix, start, expected_signature or {}) if start is not None else []
    trainer = Trainer(
        on.suffix,
        stage,
        seed=recipe.seed,
        classes=bench.dataset.classes,
        train=on.train_activations(augmented=True),
        train_labels=on.train.labels,
        val=on.val_activations(),
        val_labels=on.val.labels,
        held_out=on.held_out_activations(),
        held_out_labels=on.held_out.labels if on.held_out is not None else None,
        metric=bench.metric,
        device=bench.device,
        # A head alone is too small to gain from autocast; it would only lose digits.
        precision=bench.precision if stage.depth else "fp32",
        view_offset=sum(earlier.epochs for earlier in recipe.schedule[:stage_index]),
        signature=on.signature(),
        ranks=bench.ranks,
    )
    if expected_loss is not None:
        trainer.handover_delta = check_handover(
            trainer, expected_loss, start=start, saved=expected_signature, prefix=on.prefix, problems=problems
        )
    elif problems:
        raise HandoverError(problems)
    return trainer


def open_pack(bench: Bench, recipes: Sequence[Recipe], folds: int = 0) -> tuple[HeadPack | FoldedPack, dict[str, Any]]:
    """Heads that train together, before their first epoch, and the signature of each one's tensors.

    Args:
        bench: images, weights, device.
        recipes: with equal `pack_key`s.
        folds: of the cross-validation that compares the heads; 0: the validation images do.

    Raises:
        InputError: bench and recipes do not belong together.
        ValueError: the recipes do not belong in one pack.
    """
    on = _Place(bench, recipes[0], recipes[0].schedule[0])
    about: dict[str, Any] = {
        "classes": bench.dataset.classes,
        "train": on.train_activations(augmented=True),
        "train_labels": on.train.labels,
        "val": on.val_activations(),
        "val_labels": on.val.labels,
        "metric": bench.metric,
        "device": bench.device,
    }
    if folds:
        still = on.train_activations(augmented=False)
        return FoldedPack(recipes, folds=folds, still=still, **about), on.signature()
    return HeadPack(recipes, **about), on.signature()


class _Place:
    """A stage of a recipe on a bench: the network cut at its boundary, and the images that it sees.

    Raises:
        InputError: bench and recipe do not belong together.
    """

    def __init__(self, bench: Bench, recipe: Recipe, stage: Stage) -> None:
        dataset = bench.dataset
        if (recipe.image_size, recipe.fit) != (dataset.image_size, dataset.fit):
            raise InputError(
                f"the recipe wants images of {recipe.image_size} px ({recipe.fit}), "
                f"the data was loaded at {dataset.image_size} px ({dataset.fit})"
            )
        self._bench, self._recipe, self._stage = bench, recipe, stage
        self._classifier = build_classifier(recipe, len(dataset.classes))
        _load_base(self._classifier, recipe, bench.weights)
        self._classifier.get_submodule("head.dropout").p = stage.dropout  # type: ignore[assignment]
        self.prefix, self.suffix = cut(self._classifier, stage.depth)
        pin(self.prefix)
        self.train = bench.part(dataset.train, stage.batch_size)
        self.val = bench.part(dataset.val, QUICK_VALIDATION_BATCH)
        self.held_out = bench.part(bench.held_out, QUICK_VALIDATION_BATCH) if bench.held_out is not None else None

    def train_activations(self, *, augmented: bool) -> Activations:
        """Of the training images, in the training's precision."""
        augmenter = None
        if augmented and self._stage.strength:
            augmenter = Augmenter(self._recipe.augmentation, self._stage.strength, self._recipe.seed)
        place = (self.prefix, self._recipe, self._stage.depth)
        return self._bench.activations(
            "train", self.train, *place, augmenter=augmenter, precision=self._bench.precision
        )

    def val_activations(self) -> Activations:
        """Of the validation images, exact."""
        return self._bench.activations("val", self.val, self.prefix, self._recipe, self._stage.depth)

    def held_out_activations(self) -> Activations | None:
        """Of the held-out images, exact."""
        if self.held_out is None:
            return None
        return self._bench.activations("held_out", self.held_out, self.prefix, self._recipe, self._stage.depth)

    def signature(self) -> dict[str, Any]:
        """What the suffix fits."""
        dataset = self._bench.dataset
        return signature(
            self._classifier,
            self.suffix,
            base=self._bench.weights.digest,
            images=dataset.fingerprint,
            image_size=self._recipe.image_size,
            fit=self._recipe.fit,
            classes=dataset.classes,
            val_labels=self.val.labels,
        )


def _load_base(classifier: nn.Sequential, recipe: Recipe, weights: Weights) -> None:
    """Loads the backbone's tensors, all of them and no others."""
    shapes = {name: tensor.shape for name, tensor in classifier.state_dict().items() if not name.startswith("head.")}
    given = {name: tensor.shape for name, tensor in weights.state.items()}
    if shapes != given:
        wrong = sorted(name for name in shapes.keys() | given.keys() if shapes.get(name) != given.get(name))
        raise InputError(
            f"the weights ({weights.origin}) are not those of {recipe.backbone}: {', '.join(wrong[:3])} "
            f"({len(wrong)} tensors) do not fit; load the weights of {recipe.backbone}"
        )
    classifier.load_state_dict(dict(weights.state), strict=False)

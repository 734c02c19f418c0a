"""What a process needs to train any trial of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysearch.activations.cache import CachedActivations, CacheSettings, boundary_name, describe
from raysearch.activations.live import Activations, LiveActivations, keep, size_bytes
from raysearch.activations.store import Store
from raysearch.data.augment import Augmenter
from raysearch.data.pixels import Dataset, Split
from raysearch.models.registry import backbone_spec
from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import Recipe
from raysearch.record.metric import check_metric
from raysearch.training.numerics import choose_device
from raysearch.training.ranks import ALONE, Ranks

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

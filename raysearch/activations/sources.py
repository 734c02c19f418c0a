"""Decides whether boundary activations come from disk, from memory or live; nothing else does."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import nn

from raysearch.activations.base import Activations, size_bytes
from raysearch.activations.cache import CachedActivations, Caches, CacheSettings, boundary_name, provenance
from raysearch.activations.kept import KeptActivations
from raysearch.activations.live import LiveActivations
from raysearch.activations.store import Store
from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Split
from raysearch.models.registry import backbone_spec
from raysearch.recipe import Recipe


@dataclass(frozen=True)
class Boundary:
    """The place at which a recipe's network is cut at one depth, and what decides the activations there."""

    recipe: Recipe
    depth: int
    prefix: nn.Sequential
    """The frozen part, up to the boundary."""
    weights: str
    """Digest of the backbone's tensors."""
    fingerprint: str
    """The fingerprint of the dataset that the images are from."""

    @property
    def name(self) -> str | None:
        """The last frozen block; None where nothing is frozen."""
        return boundary_name(backbone_spec(self.recipe.backbone).block_names, self.depth)


MEMORY_BYTES = 1 << 30
"""Room that one trial has on its device for activations that do not change from epoch to epoch."""


@dataclass
class Sources:
    """The activations that a process reads, for trial after trial.

    They are read from disk if the depth is cached. What does not change from epoch to epoch is kept in the device's
    memory, from trial to trial, where it fits, unless that is a copy of what the page cache holds for all processes.
    The rest is live.
    """

    device: torch.device
    memory_bytes: int
    """Room on the device for all that is kept."""
    cache: Caches = None
    """Which activations are read from disk: the same of every network, or of each its own; None: none."""
    filled_seconds: float = 0.0
    """Spent by this process on filling the cache, or on waiting for another that fills it."""
    _kept: dict[Hashable, Activations] = field(default_factory=dict, repr=False)

    def activations(
        self, at: Boundary, name: str, images: Split, *, augmenter: Augmenter | None = None, precision: str = "fp32"
    ) -> Activations:
        """The activations of these images at this boundary.

        Args:
            at: the boundary.
            name: of the split: train, val or held_out.
            images: of the split, or some of them.
            augmenter: makes the views of an epoch; None: the images are read as they are.
            precision: in which the prefix runs.
        """
        # Pooling and head do not reach the boundary of a deeper stage: its activations serve trials that differ there.
        pooling = at.recipe.pooling if at.depth == 0 else None
        key = (name, at.recipe.backbone, at.weights, at.depth, pooling, at.fingerprint, images.paths)
        if augmenter is None and key in self._kept:
            return self._kept[key]
        live = LiveActivations(images.pixels, at.prefix, augmenter=augmenter, device=self.device, precision=precision)
        stored = self._from_disk(live, at, name, images)
        mapped = stored is not None and self.device.type == "cpu"
        source = live if stored is None else stored
        if augmenter is not None or mapped or (size := size_bytes(source)) > self.memory_bytes:
            return source
        if sum(map(size_bytes, self._kept.values())) + size > self.memory_bytes:
            self._kept.clear()  # of other depths, most likely
        self._kept[key] = KeptActivations(source)
        return self._kept[key]

    def _from_disk(self, live: LiveActivations, at: Boundary, name: str, images: Split) -> CachedActivations | None:
        """The same from disk; None where that is not wanted."""
        cache = self.cache if isinstance(self.cache, CacheSettings | None) else self.cache.get(at.recipe.network)
        blocks = backbone_spec(at.recipe.backbone).block_names
        if cache is None or at.depth not in cache.depths or at.name is None:
            return None
        if live.augmenter is not None and cache.seed not in (None, live.augmenter.seed):
            return None
        return CachedActivations(
            live,
            provenance(at.recipe, at.weights, at.fingerprint, name, images),
            Store(limit_bytes=cache.limit_bytes),
            dtype=cache.dtype if name == "train" else "fp32",
            views=cache.views,
            also={there for other in cache.depths if (there := boundary_name(blocks, other)) is not None},
            wait_seconds=cache.wait_seconds,
            filled=self._note_filling,
        )

    def _note_filling(self, seconds: float) -> None:
        self.filled_seconds += seconds

"""Boundary activations computed once, kept on disk, and read by every trial that stands on the same ones.

An entry is a function of its key alone. So a view is passed through the network whole, in index order and in chunks of
fixed size, and between two blocks activations are rounded to the stored type, wherever a pass began and whatever it
was asked to keep: a pass that starts from a stored boundary ends in the same bits as one that starts from the images.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.activations.base import Derived, as_rows, from_rows
from raysearch.activations.live import LiveActivations
from raysearch.activations.store import DTYPES, Store, Writer
from raysearch.data.dataset import Split
from raysearch.models.boundary import prepare
from raysearch.models.head import Pool
from raysearch.models.memory import is_out_of_memory
from raysearch.models.precision import PRECISIONS
from raysearch.recipe import Recipe

logger = logging.getLogger(__name__)

FORMAT = 1
"""The version of the entries; raise it when what is written, how images are augmented or how a pass is made changes."""
POOLED = "pooled"
"""The boundary at depth 0: average and maximum pooling together, of which each recipe reads what it wants."""


@dataclass(frozen=True)
class CacheSettings:
    """What of a search's activations is cached, and how: the planner's choice, in plain values."""

    depths: tuple[int, ...]
    """The depths whose boundaries are cached."""
    views: int = 1
    """Augmented views before they repeat."""
    dtype: str = "fp16"
    """The type of stored training activations; those of validation images are exact (fp32)."""
    seed: int | None = None
    """Only augmentation with this seed is cached: the search's. Refits have their own, and read a view once."""
    limit_bytes: int | None = None
    """The most that the whole cache may take; None: a quarter of the free disk."""
    wait_seconds: float = 600.0
    """How long a process waits for another that fills what it wants, before it goes on live."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or self.views < 1:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)} and views at least 1, got {self}")

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> CacheSettings:
        """The settings that `dataclasses.asdict` made a tree of, also after a journey through JSON."""
        return cls(**{**tree, "depths": tuple(tree["depths"])})


Caches = CacheSettings | Mapping[str, CacheSettings | None] | None
"""The settings of a search; where it chooses among several networks, by the name of each. None: nothing is cached."""


def caches_from_json(tree: Mapping[str, Any] | None, *, several: bool = False) -> Caches:
    """The settings that a tree of JSON has; `several`: it has those of each network, by name."""
    if several:
        return {name: CacheSettings.from_json(one) if one else None for name, one in (tree or {}).items()}
    return CacheSettings.from_json(tree) if tree else None


class CachedActivations(Derived):
    """What `live` computes, rounded to `dtype`, from disk where it is there already.

    The first to read a view fills it; others wait for that. Where it cannot be filled (no room, no permission, a
    process that fills it for too long) activations are computed live, and the log says so.

    Args:
        live: computes them; its prefix is a classifier's (see `cut`) and has at least one block.
        about: what they are of, as plain JSON: weights, images. Augmentation, precision and device are taken from
            `live` itself.
        store: where they are kept.
        dtype: fp16 or fp32.
        views: view v is view v % views.
        also: names of boundaries to keep on the way to this one, where a pass comes by.
        wait_seconds: for another process, before going on live.
        filled: told the seconds that each filling of a view took, or the waiting for another process that fills it.
    """

    def __init__(
        self,
        live: LiveActivations,
        about: Mapping[str, Any],
        store: Store,
        *,
        dtype: str = "fp16",
        views: int = 1,
        also: Collection[str] = (),
        wait_seconds: float = 600.0,
        filled: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        super().__init__(live)
        self._live, self._about, self._store, self._dtype = live, dict(about), store, dtype
        self._views = views if live.varies else 1
        self._wait_seconds = wait_seconds
        with live.frozen() as prefix:
            children = dict(prefix.named_children())
        pool = children.pop("pool", None)
        if not children:
            raise ValueError("the prefix has no block: there is nothing to save by caching")
        self._pooling: str | None = None
        self._blocks: list[tuple[str, nn.Module]] = [*children.items()]
        if isinstance(pool, Pool):
            self._pooling = pool.kind
            self._blocks.append((POOLED, Pool("both", pool.tokens)))
        self._boundary = self._blocks[-1][0]
        self._kept_names = {*also, self._boundary}
        self._view: int | None = None
        self._rows: np.ndarray | None = None
        self._filled = filled

    @property
    def varies(self) -> bool:
        return self._views > 1

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        view %= self._views
        if view != self._view:
            self._rows = None  # lets go of the last view, before room is made for this one
            self._rows, self._view = self._open(view), view
        if self._rows is None:
            return self._live.batch(indices, view)
        return gather(self._rows, indices, self._live.device, self._columns(self._rows.shape[-1]))

    def _columns(self, stored: int) -> slice:
        """The places of the last dimension that belong to this pooling."""
        half = stored // 2
        return {"avg": slice(half), "max": slice(half, None)}.get(self._pooling or "", slice(None))

    def _open(self, view: int) -> np.ndarray | None:
        key = self._key(view)
        rows = self._store.open(key, self._boundary)
        if rows is not None:
            return rows
        began = time.perf_counter()
        try:
            with self._store.turn(key, self._wait_seconds):
                rows = self._store.open(key, self._boundary)  # whoever we waited for has filled it
                return rows if rows is not None else self._fill(key, view)
        except (OSError, RuntimeError, MemoryError) as error:
            if not isinstance(error, OSError) and not is_out_of_memory(error):  # a timeout is an OSError
                raise
            logger.warning("view %d at %s stays live: %s", view, self._boundary, error)
            return None
        finally:
            self._filled(time.perf_counter() - began)

    def _key(self, view: int) -> dict[str, Any]:
        live, augmenter = self._live, self._live.augmenter
        augmentation = augmenter and {
            "ranges": augmenter.ranges.model_dump(mode="json"),
            "strength": augmenter.strength,
            "seed": augmenter.seed,
        }
        return {
            **self._about,
            "format": FORMAT,
            "images": len(self),
            "augmentation": augmentation,
            "view": view,
            "precision": live.precision,
            "device": live.device.type,  # the last bits of another kind of processor are others
            "dtype": self._dtype,
        }

    def _fill(self, key: dict[str, Any], view: int) -> np.ndarray | None:
        """One pass, from the nearest boundary that is there, writing every one that is wanted on the way."""
        began = time.perf_counter()
        start, stored = self._nearest(key)
        blocks = self._blocks[start:]
        wanted = {name: (len(self), *self._shapes[name]) for name, _ in blocks if name in self._kept_names}
        writers = self._store.writers(key, wanted, self._dtype)
        if writers is None and len(wanted) > 1:
            writers = self._store.writers(key, {self._boundary: wanted[self._boundary]}, self._dtype)
        if writers is None:
            logger.warning("view %d at %s stays live: the cache has no room for it", view, self._boundary)
            return None
        try:
            with self._live.frozen():
                for indices in self._chunks():
                    self._pass(blocks, self._inputs(indices, view, stored), writers)
            for writer in writers.values():
                writer.commit()
        finally:
            for writer in writers.values():
                writer.abandon()
        logger.info("filled %s, view %d, in %.1f s", ", ".join(writers), view, time.perf_counter() - began)
        return self._store.open(key, self._boundary)

    def _nearest(self, key: dict[str, Any]) -> tuple[int, np.ndarray | None]:
        """How many blocks need not be run again, and what comes out of them; 0 and None: begin with the images."""
        for done in range(len(self._blocks) - 1, 0, -1):
            rows = self._store.open(key, self._blocks[done - 1][0])
            if rows is not None:
                return done, rows
        return 0, None

    def _chunks(self) -> Iterator[np.ndarray]:
        size = self.at_once
        yield from (np.arange(at, min(at + size, len(self))) for at in range(0, len(self), size))

    def _inputs(self, indices: np.ndarray, view: int, stored: np.ndarray | None) -> Tensor:
        if stored is None:
            return prepare(self._live.images(indices, view), self._live.device)
        return gather(stored, indices, self._live.device).to(self._computed)

    def _pass(self, blocks: Sequence[tuple[str, nn.Module]], maps: Tensor, writers: Mapping[str, Writer]) -> None:
        for name, block in blocks:
            rows = block(maps).to(PRECISIONS[self._dtype])
            if self._dtype == "fp16":
                rows = rows.clamp(-65504, 65504)  # what was too large is infinite by now
            if name in writers:
                writers[name].write(as_rows(rows).cpu().numpy())
            maps = rows.to(self._computed)

    @property
    def _computed(self) -> torch.dtype:
        return PRECISIONS[self._live.precision]

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one image's activations at each boundary, maps with channels last."""
        shapes = {}
        with self._live.frozen():
            maps = prepare(self._live.images(np.arange(1), 0), self._live.device)
            for name, block in self._blocks:
                maps = block(maps)
                shapes[name] = tuple(as_rows(maps).shape[1:])
        return shapes


def gather(rows: np.ndarray, indices: np.ndarray, device: torch.device, columns: slice = slice(None)) -> Tensor:
    """Some rows as float32 on the device, feature maps (n, c, h, w) channels_last; one copy, to CUDA without waiting.

    Args:
        rows: (images, features), (images, h, w, c) or (images, tokens, c), fp16 or fp32.
        indices: which, integer (n,).
        device: where they go.
        columns: of the last dimension.
    """
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(rows):
        raise IndexError(f"indices must be in [0, {len(rows)}), got {indices.min()} to {indices.max()}")
    dtype = torch.float16 if rows.dtype == np.float16 else torch.float32
    buffer = torch.empty((len(indices), *rows.shape[1:]), dtype=dtype, pin_memory=device.type == "cuda")
    np.take(rows, indices, axis=0, out=buffer.numpy(), mode="clip")  # "raise" would copy twice
    # Whole rows: some columns of them would first be copied to memory that is not pinned.
    there = buffer.to(device, non_blocking=device.type == "cuda")
    return from_rows(there[..., columns].float())


def boundary_name(blocks: Sequence[str], depth: int) -> str | None:
    """The last frozen block at a depth, where the frozen part ends; `POOLED` at depth 0; None if nothing is frozen."""
    if depth == 0:
        return POOLED
    return blocks[-depth - 1] if depth < len(blocks) else None


def provenance(recipe: Recipe, weights: str, fingerprint: str, split: str, images: Split) -> dict[str, Any]:
    """What activations were made of, for `CachedActivations`.

    Args:
        recipe: names the backbone, image size and fit.
        weights: digest of the backbone's tensors.
        fingerprint: of the dataset.
        split: name, for people.
        images: the very images, in their order, which the paths tell: a quick look takes a few, a refit joins splits.
            An entry belongs to them, and not to the way in which they were chosen.
    """
    paths = hashlib.sha256(json.dumps([fingerprint, *images.paths]).encode()).hexdigest()
    names = {"backbone": recipe.backbone, "image_size": recipe.image_size, "fit": recipe.fit}
    return {**names, "weights": weights, "split": split, "paths": paths}

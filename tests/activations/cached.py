"""Cached activations of a few made-up images, also for processes that tests start."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysearch.activations import live as live_module
from raysearch.activations.cache import CachedActivations
from raysearch.activations.live import LiveActivations
from raysearch.activations.store import Store
from raysearch.data.augment import Augmenter
from raysearch.models.boundary import build_classifier, cut
from raysearch.recipe import Augmentation, Recipe, Stage

CPU = torch.device("cpu")
IMAGES = 11
PIXELS = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)


def classifier(backbone: str = "simple_cnn", pooling: str = "avg") -> Any:
    return build_classifier(
        Recipe(backbone=backbone, image_size=32, pooling=pooling, schedule=(Stage(depth=0, epochs=1),)), 3
    )


def live(depth: int = 2, *, strength: float = 0.0, seed: int = 1, precision: str = "fp32", **network: Any) -> Any:
    prefix, _ = cut(classifier(**network), depth)
    augmenter = Augmenter(Augmentation(), strength, seed) if strength else None
    return LiveActivations(PIXELS, prefix, augmenter=augmenter, device=CPU, precision=precision)


def cached(root: Path, depth: int = 2, *, limit_bytes: int | None = None, about: Any = None, **settings: Any) -> Any:
    """A cache of `live` with what is left of the settings."""
    names = {"dtype", "views", "also", "wait_seconds", "filled"} & settings.keys()
    of_cache = {"dtype": "fp32"} | {name: settings.pop(name) for name in names}
    made_of = {"weights": settings.get("backbone", "simple_cnn"), "backbone": "simple_cnn", "split": "train"}
    return CachedActivations(live(depth, **settings), about or made_of, Store(root, limit_bytes), **of_cache)


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def fill_slowly(root: str, seconds: float) -> None:
    """Fills view 0 in chunks of two images, and says so on stdout before each."""
    live_module.MOST_AT_ONCE = 2
    activations = cached(Path(root), 1, strength=0.5)
    images = activations._live.images

    def slowly(indices: np.ndarray, view: int) -> np.ndarray:
        if len(indices) == 2:  # one alone is looked at for its shape
            say("chunk")
            time.sleep(seconds)
        return images(indices, view)

    activations._live.images = slowly
    activations.batch(np.arange(2), 0)
    say("filled")


def hold(root: str, depth: int) -> None:
    """Reads view 0, and keeps it in use until stdin is closed."""
    activations = cached(Path(root), depth)
    activations.batch(np.arange(2), 0)
    say("holding")
    input()

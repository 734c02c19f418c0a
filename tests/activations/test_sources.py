"""Disk, memory or live: what decides it, and that what is kept belongs to the images that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysearch.activations.base import size_bytes
from raysearch.activations.cache import CachedActivations, CacheSettings, provenance
from raysearch.activations.kept import KeptActivations
from raysearch.activations.live import LiveActivations
from raysearch.activations.sources import Boundary, Sources
from raysearch.activations.upkeep import list_entries
from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Split
from raysearch.models.boundary import build_classifier, cut
from raysearch.recipe import Augmentation, Recipe, Stage

CPU = torch.device("cpu")
RECIPE = Recipe(backbone="simple_cnn", image_size=32, schedule=(Stage(depth=2, epochs=1),))
AUGMENTER = Augmenter(Augmentation(), 0.5, seed=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path))


def split(n: int, seed: int) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return Split(pixels, np.arange(n, dtype=np.int64) % 3, tuple(f"{seed}/{i}.png" for i in range(n)))


TRAIN, VAL = split(12, 1), split(6, 2)
BOTH = Split.join(TRAIN, VAL)


def boundary(depth: int = 2, fingerprint: str = "f") -> Boundary:
    return Boundary(RECIPE, depth, cut(build_classifier(RECIPE, 3), depth)[0], weights="w", fingerprint=fingerprint)


def sources(memory_bytes: int = 1 << 30, *depths: int) -> Sources:
    return Sources(CPU, memory_bytes, CacheSettings(depths, views=2) if depths else None)


def test_kept_only_where_they_fit_and_stay_the_same():
    size = size_bytes(LiveActivations(TRAIN.pixels, boundary().prefix, augmenter=None, device=CPU, precision="fp32"))
    assert isinstance(sources(size - 1).activations(boundary(), "train", TRAIN), LiveActivations)
    assert isinstance(sources(size).activations(boundary(), "train", TRAIN), KeptActivations)
    moving = sources(10 * size).activations(boundary(), "train", TRAIN, augmenter=AUGMENTER)
    assert isinstance(moving, LiveActivations)


def test_from_disk_where_the_depth_is_cached():
    from_disk = sources(1 << 30, 2)
    for name, images, augmenter in (("train", TRAIN, AUGMENTER), ("train", TRAIN, None), ("val", VAL, None)):
        assert isinstance(from_disk.activations(boundary(), name, images, augmenter=augmenter), CachedActivations)
    assert isinstance(from_disk.activations(boundary(1), "val", VAL), KeptActivations)
    from_disk.activations(boundary(), "val", VAL).batch(np.arange(2), 0)
    assert from_disk.filled_seconds > 0


@pytest.mark.parametrize("cached", [False, True])
def test_folds_of_one_size_are_told_apart(cached):
    """What is kept, in memory or on disk, is found again by the images, not by how many they are."""
    read = sources(1 << 30, *([2] if cached else []))
    for fold in range(3):
        images = BOTH.take(np.arange(fold, 18, 3))
        copied = Split(np.asarray(images.pixels), images.labels, images.paths)
        got = read.activations(boundary(), "val", images).batch(np.arange(6), 0)
        torch.testing.assert_close(got, sources(0).activations(boundary(), "val", copied).batch(np.arange(6), 0))
        assert torch.equal(read.activations(boundary(), "val", images).batch(np.arange(6), 0), got)


def test_other_images_under_the_same_names_are_told_apart_by_the_dataset():
    other = Split(split(6, 3).pixels, VAL.labels, VAL.paths)
    read = sources()
    one = read.activations(boundary(), "val", VAL)
    assert read.activations(boundary(fingerprint="g"), "val", other) is not one
    assert read.activations(boundary(), "val", VAL) is one


def test_an_entry_is_found_again_however_its_images_were_chosen():
    """A split, and a view of it with the same images in the same order, read the same file."""
    again = BOTH.take(np.arange(12))
    assert provenance(RECIPE, "w", "f", "train", again) == provenance(RECIPE, "w", "f", "train", TRAIN)
    sources(1 << 30, 2).activations(boundary(), "train", TRAIN, augmenter=AUGMENTER).batch(np.arange(12), 1)
    files = [entry.path for entry in list_entries()]
    assert len(files) == 1
    sources(1 << 30, 2).activations(boundary(), "train", again, augmenter=AUGMENTER).batch(np.arange(12), 1)
    assert [entry.path for entry in list_entries()] == files


def test_entries_made_before_are_found_by_the_same_key():
    """Recorded once: another key would compute anew what lies on everybody's disk."""
    key = provenance(RECIPE, "w", "f", "train", TRAIN)
    assert key == {
        "backbone": "simple_cnn",
        "image_size": 32,
        "fit": "squash",
        "weights": "w",
        "split": "train",
        "paths": "6abc65cdd6b2d662a63125983aaa714dabfce6282b431d2daed83c340b70390f",
    }

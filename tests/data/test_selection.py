"""Splits by index are views: their images are those of a copy, and none is copied or read before it is asked for."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysearch.activations.live import LiveActivations
from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Dataset, Split
from raysearch.data.selection import Selection, evenly_spaced
from raysearch.models.boundary import build_classifier, cut
from raysearch.recipe import Augmentation, Recipe, Stage
from raysearch.winner.evaluate import evaluate_model

CLASSES = ("cat", "dog", "owl")
CPU = torch.device("cpu")


def split(n: int, seed: int, size: int = 16) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return Split(pixels, np.arange(n, dtype=np.int64) % 3, tuple(f"{seed}/{i}.png" for i in range(n)))


def copied(*splits: Split) -> Split:
    """The copying way."""
    return Split(
        np.concatenate([np.asarray(one.pixels) for one in splits]),
        np.concatenate([one.labels for one in splits]),
        tuple(path for one in splits for path in one.paths),
    )


def assert_same(view: Split, other: Split) -> None:
    np.testing.assert_array_equal(np.asarray(view.pixels), other.pixels)
    np.testing.assert_array_equal(view.labels, other.labels)
    assert view.paths == other.paths
    assert view.pixels.shape == other.pixels.shape
    assert len(view) == len(view.pixels) == len(other)


def test_a_part_of_joined_splits_is_what_the_copying_way_gives():
    train, val = split(20, 1), split(7, 2)
    indices = np.array([26, 3, 3, 19, 20, 0])
    view, whole = Split.join(train, val).take(indices), copied(train, val)
    assert_same(view, Split(whole.pixels[indices], whole.labels[indices], tuple(whole.paths[i] for i in indices)))
    assert_same(Split.join(view, train), copied(view, train))
    assert_same(view.take(np.array([], np.int64)), Split(whole.pixels[:0], whole.labels[:0], ()))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.data())
def test_a_selection_is_indexed_as_an_array_is(sizes, data):
    """Whatever was joined and taken before, empty parts too."""
    parts = [split(n, seed, size=2).pixels for seed, n in enumerate(sizes)]
    joined, whole = Selection.join(parts), np.concatenate(parts)
    n = len(whole)
    chosen = np.array(data.draw(st.lists(st.integers(-n, n - 1), max_size=8)) if n else [], np.int64)
    selection, expected = joined.take(chosen), whole[chosen]
    assert selection.shape == expected.shape
    for key in (slice(None), slice(1, -1), slice(None, None, -2), expected[:, 0, 0, 0] > 99, np.arange(len(chosen))):
        np.testing.assert_array_equal(selection[key], expected[key])
    np.testing.assert_array_equal([*selection], [*expected])
    with pytest.raises(IndexError):
        selection[len(chosen)]


def test_images_of_two_sizes_cannot_be_joined():
    with pytest.raises(ValueError, match=r"one size.*\(8, 8, 3\), \(16, 16, 3\)"):
        Split.join(split(3, 1), split(3, 2, size=8))


@pytest.fixture
def mapped(tmp_path: Path) -> Dataset:
    """24 MB of training images and as many of validation, 200 each, in files."""
    splits = {}
    for seed, name in enumerate(("train", "val", "test")):
        made = split(200, seed, size=200)
        np.save(tmp_path / f"{name}.npy", made.pixels)
        splits[name] = replace(made, pixels=np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    return Dataset("made up", CLASSES, 200, "squash", "f00d", **splits, skipped=(), folder=tmp_path)


def folds(dataset: Dataset) -> list[Split]:
    """Halves of the validation images, the joined train and val, a fifth of those, the joined halves."""
    half, other = dataset.halved(0)
    both = Split.join(dataset.train, dataset.val)
    return [half.val, other, both, both.take(np.arange(0, 400, 5)), Split.join(half.val, other)]


def test_no_pixel_is_copied_by_taking_halving_and_joining(mapped):
    tracemalloc.start()
    try:
        made = folds(mapped)
        peak = tracemalloc.get_traced_memory()[1]
        batch = made[2].pixels[np.array([3, 399])]
        peak_of_batch = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    image = 200 * 200 * 3
    assert peak < 2 * image, "bytes at most while 1,080 images were chosen"
    assert peak_of_batch < peak + 5 * image
    np.testing.assert_array_equal(batch, np.stack([mapped.train.pixels[3], mapped.val.pixels[199]]))
    assert np.shares_memory(made[2].pixels[3], mapped.train.pixels)
    assert np.shares_memory(made[3].pixels[79], mapped.val.pixels)


def mapped_bytes(path: Path) -> int:
    """How much of a file this process has in its memory."""
    blocks = Path("/proc/self/smaps").read_text().split("\n")
    kilobytes, inside = 0, False
    for line in blocks:
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            kilobytes += int(line.split()[1])
    return 1024 * kilobytes


@pytest.mark.skipif(sys.platform != "linux", reason="what of a file is in memory is asked of Linux")
def test_a_batch_touches_its_own_images_alone(mapped):
    made = folds(mapped)
    before = [mapped_bytes(mapped.folder / f"{name}.npy") for name in ("train", "val")]
    made[2].pixels[np.array([7, 390, 8, 391])]
    for name, already in zip(("train", "val"), before, strict=True):
        touched = mapped_bytes(mapped.folder / f"{name}.npy") - already
        assert 2 * 120_000 <= touched <= 4e6, f"{touched} bytes of 24 MB"


@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_activations_and_their_augmented_views_are_those_of_the_copying_way(strength):
    train, val = split(12, 1), split(6, 2)
    recipe = Recipe(backbone="simple_cnn", image_size=16, schedule=(Stage(depth=2, epochs=1),))
    prefix, _ = cut(build_classifier(recipe, 3), 2)
    augmenter = Augmenter(Augmentation(), strength, seed=3)
    one, other = (
        LiveActivations(pixels, prefix, augmenter=augmenter, device=CPU, precision="fp32")
        for pixels in (Split.join(train, val).pixels, copied(train, val).pixels)
    )
    indices = np.array([17, 2, 11, 12])
    assert one.shape == other.shape
    assert torch.equal(one.batch(indices, 4), other.batch(indices, 4))


@pytest.mark.parametrize("augment", [None, Augmenter(Augmentation(), 0.5, seed=0)])
def test_a_model_is_evaluated_on_a_view_as_on_a_copy(augment):
    view = Split.join(split(12, 1), split(6, 2)).take(np.arange(17, -1, -2))
    recipe = Recipe(backbone="simple_cnn", image_size=16, schedule=(Stage(depth=0, epochs=1),))
    model = build_classifier(recipe, 3)
    one, other = (evaluate_model(model, s, CLASSES, augment=augment, batch_size=4) for s in (view, copied(view)))
    assert one.metrics == other.metrics
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


@given(n=st.integers(0, 3000), most=st.integers(1, 400))
def test_evenly_spaced_places_reach_from_end_to_end_in_steps_that_differ_by_one(n, most):
    places = evenly_spaced(n, most)
    assert len(places) == min(n, most)
    if n:
        assert (places[0], places[-1]) == (0, n - 1 if most > 1 else 0)
    steps = np.diff(places)
    assert not len(steps) or (steps.min() >= 1 and np.ptp(steps) <= 1)

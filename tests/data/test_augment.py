"""The augmenter draws what albumentations' five transforms draw, from seeds alone."""

from __future__ import annotations

import subprocess
import sys

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raysearch.data.augment import Augmenter, _uniform
from raysearch.recipe import Augmentation

NONE = {"flip": 0.0, "rotation_degrees": 0.0, "zoom": 0.0, "contrast": 0.0, "noise": 0.0}


def photographs(n: int, size: int = 24, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in coarse])


def test_strength_zero_returns_the_input_itself() -> None:
    images = photographs(4)
    assert Augmenter(Augmentation(), 0.0, 3)(images, np.arange(4), 5) is images


@settings(max_examples=25, deadline=None)
@given(
    strength=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32),
    view=st.integers(0, 10_000),
    order=st.permutations(range(8)),
    size=st.integers(1, 8),
)
def test_pixels_do_not_depend_on_the_batch(strength: float, seed: int, view: int, order: list[int], size: int) -> None:
    images, indices = photographs(8), np.arange(100, 108)
    augmenter = Augmenter(Augmentation(), strength, seed)
    whole = augmenter(images, indices, view)
    chosen = order[:size]
    np.testing.assert_array_equal(augmenter(images[chosen], indices[chosen], view), whole[chosen])


def test_pixels_are_the_same_in_another_process() -> None:
    code = (
        "import sys, numpy as np; from raysearch.recipe import Augmentation;"
        "from raysearch.data.augment import Augmenter;"
        "x = np.arange(3 * 16 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 16, 16, 3);"
        "sys.stdout.buffer.write(Augmenter(Augmentation(), 0.7, 11)(x, np.array([5, 0, 9]), 4).tobytes())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    images = np.arange(3 * 16 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 16, 16, 3)
    assert Augmenter(Augmentation(), 0.7, 11)(images, np.array([5, 0, 9]), 4).tobytes() == other


@pytest.mark.parametrize("changed", ["seed", "view", "index"])
def test_seed_view_and_index_each_change_the_pixels(changed: str) -> None:
    images = photographs(1)
    first = Augmenter(Augmentation(), 1.0, 1)(images, np.array([1]), 1)
    draw = {"seed": 1, "view": 1, "index": 1} | {changed: 2}
    second = Augmenter(Augmentation(), 1.0, draw["seed"])(images, np.array([draw["index"]]), draw["view"])
    assert (first != second).any()


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_flips_come_at_their_probability_whatever_the_strength(strength: float) -> None:
    images = photographs(400)
    augmented = Augmenter(Augmentation(**NONE | {"flip": 0.5}), strength, 0)(images, np.arange(400), 0)
    mirrored = (augmented == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((augmented == images).all(axis=(1, 2, 3)) | mirrored).all()
    assert 160 < mirrored.sum() < 240


@pytest.mark.parametrize("transform", sorted(NONE.keys() - {"flip"}))
def test_each_range_is_read_and_scaled_by_strength(transform: str) -> None:
    images, indices = photographs(64), np.arange(64)
    ranges = Augmentation(**NONE | {transform: 20.0 if transform == "rotation_degrees" else 0.3})

    def change(strength: float) -> float:
        augmented = Augmenter(ranges, strength, 0)(images, indices, 0)
        return float(np.abs(augmented.astype(float) - images).mean())

    assert 0 < change(0.3) < change(1.0)


def test_flip_alone_is_an_exact_mirror() -> None:
    images = photographs(32)
    flipped = Augmenter(Augmentation(**NONE | {"flip": 1.0}), 1.0, 0)(images, np.arange(32), 0)
    np.testing.assert_array_equal(flipped, images[:, :, ::-1])


@pytest.mark.parametrize("shape", [(24, 24), (20, 24)])
def test_the_one_warp_is_rotate_then_affine_at_the_same_draws(shape: tuple[int, int]) -> None:
    """On ramps of 9 grey levels a pixel, a third of a pixel would show; checked where no border is seen."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    ramps = np.stack([rows * 9 + 10, columns * 9 + 10, 120 + 4 * rows - 4 * columns], -1).astype(np.uint8)
    n = 16
    augmenter = Augmenter(Augmentation(**NONE | {"rotation_degrees": 20.0, "zoom": 0.2}), 1.0, 0)
    ours = augmenter(np.repeat(ramps[None], n, axis=0), np.arange(n), 0)
    draws = _uniform(0, np.arange(n), 0)
    border = cv2.BORDER_REFLECT_101
    inside = (slice(6, -6), slice(6, -6))
    for k in range(n):
        angle = float(40 * draws["angle"][k] - 20)
        scale = {"x": float(0.8 + 0.4 * draws["scale_x"][k]), "y": float(0.8 + 0.4 * draws["scale_y"][k])}
        rotated = A.Rotate(limit=(angle, angle), p=1.0, border_mode=border)(image=ramps)["image"]
        theirs = A.Affine(scale=scale, p=1.0, border_mode=border)(image=rotated)["image"]
        assert np.abs(ours[k][inside].astype(int) - theirs[inside]).max() <= 2


def test_noise_and_contrast_have_albumentations_levels() -> None:
    n = 300
    grey = np.full((n, 32, 32, 3), 128, np.uint8)
    peer = A.Compose(
        [
            A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.2, p=1.0),
            A.GaussNoise(std_range=(0.0, 0.05), p=1.0),
        ],
        seed=0,
    )
    theirs = np.stack([peer(image=image)["image"] for image in grey]).reshape(n, -1)
    ours = Augmenter(Augmentation(), 1.0, 0)(grey, np.arange(n), 0).reshape(n, -1)
    assert ours.std(1).mean() == pytest.approx(theirs.std(1).mean(), abs=0.8)
    assert ours.mean(1).mean() == pytest.approx(theirs.mean(1).mean(), abs=3.0)
    assert ours.mean(1).std() == pytest.approx(theirs.mean(1).std(), rel=0.2)


def test_extreme_ranges_stay_images() -> None:
    ranges = Augmentation(flip=1.0, rotation_degrees=180.0, zoom=0.99, contrast=1.0, noise=1.0)
    images = photographs(16)
    augmented = Augmenter(ranges, 1.0, 0)(images, np.arange(16), 0)
    assert augmented.shape == images.shape
    assert augmented.dtype == np.uint8


@pytest.mark.parametrize(("strength", "seed"), [(-0.1, 0), (1.5, 0), (float("nan"), 0), (0.5, -1)])
def test_bad_arguments_are_refused_with_the_value(strength: float, seed: int) -> None:
    with pytest.raises(ValueError, match="got"):
        Augmenter(Augmentation(), strength, seed)

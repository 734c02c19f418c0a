"""The five transforms (flip, rotation, zoom, contrast, Gaussian noise), seeded per image and view.

The only module that knows albumentations. The distribution is that of its HorizontalFlip, Rotate, Affine,
RandomBrightnessContrast and GaussNoise composed one after the other (`benchmarks/augment.py` compares them), but flip,
rotation and zoom are one warp here, and the noise is cut from a block of normal numbers made once per process.
"""

from __future__ import annotations

import os
from functools import cache

import numpy as np
from numpy.typing import NDArray

from raysearch.recipe import Augmentation

# Importing albumentations would otherwise ask the network for its newest version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
from albumentations.augmentations.geometric.functional import warp_affine_with_value_extension

_NOISE_BLOCK = 1 << 21
_DRAWS = ("flip", "angle", "scale_x", "scale_y", "contrast", "noise", "offset", "sign")

_FLIP = A.HorizontalFlip(p=1.0)
_CONTRAST = A.RandomBrightnessContrast(p=1.0)


class Augmenter:
    """Draws and applies one augmentation per image.

    The same (seed, index, view) and image give the same pixels in any process and any batch. The draws do not depend on
    `strength`, which only scales them: a view at a higher strength is the same view, stronger.

    Args:
        ranges: each transform's full-strength range.
        strength: in [0, 1]; scales every amplitude, 0 is the identity. Flips come at their probability at any other.
        seed: of all draws.

    Raises:
        ValueError: strength outside [0, 1] or a negative seed.
    """

    def __init__(self, ranges: Augmentation, strength: float, seed: int) -> None:
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"strength must be in [0, 1], got {strength=}")
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed=}")
        self.ranges = ranges
        self.strength = strength
        self.seed = seed
        self._flip = ranges.flip if strength else 0.0  # there is no half-mirrored image
        self._rotation = np.deg2rad(ranges.rotation_degrees * strength)
        self._zoom = ranges.zoom * strength
        self._contrast = ranges.contrast * strength
        self._noise = ranges.noise * strength
        self._identity = not any((self._flip, self._rotation, self._zoom, self._contrast, self._noise))

    def __call__(self, images: NDArray[np.uint8], indices: NDArray[np.integer], view: int) -> NDArray[np.uint8]:
        """Augment a batch.

        Args:
            images: uint8, shape (n, h, w, 3).
            indices: shape (n,); each image's number in its split, which seeds its draws.
            view: which view of the images; an epoch's number.

        Returns:
            uint8, shape (n, h, w, 3); `images` itself if nothing can change.
        """
        if len(images) != len(indices):
            raise ValueError(f"one index per image is needed, got {len(images)} images and {len(indices)} indices")
        if self._identity:
            return images
        n, height, width, channels = images.shape
        draws = _uniform(self.seed, indices, view)
        flip = draws["flip"] < self._flip
        angle = (2 * draws["angle"] - 1) * self._rotation
        scale_x = 1 + (2 * draws["scale_x"] - 1) * self._zoom
        scale_y = 1 + (2 * draws["scale_y"] - 1) * self._zoom
        matrices = _warp_matrices(height, width, flip, angle, scale_x, scale_y)
        contrast = (1 + (2 * draws["contrast"] - 1) * self._contrast).tolist()
        # The block holds each number once; a random sign doubles the patterns that can be cut from it.
        sigma = (draws["noise"] * self._noise * 255 * np.where(draws["sign"] < 0.5, -1, 1)).astype(np.float32)
        size = height * width * channels
        block = _noise_block(max(_NOISE_BLOCK, 4 * size))
        offsets = (draws["offset"] * (len(block) - size)).astype(np.int64).tolist()
        warps = bool(self._rotation or self._zoom)
        margin = self._margin(height, width)

        out = np.empty(images.shape, np.uint8)
        noise = np.empty(images.shape[1:], np.int16)  # reused: at 224 px a fresh array costs more than what fills it
        for i in range(n):
            image = np.asarray(images[i])
            if warps:
                image = _warp(image, matrices[i], margin)
            elif flip[i]:
                image = _FLIP.apply(image)
            if self._contrast:
                image = _CONTRAST.apply(image, alpha=contrast[i], beta=0.0)
            if self._noise:
                window = block[offsets[i] : offsets[i] + size].reshape(noise.shape)
                # To whole grey levels toward zero, as albumentations' add_noise does, in a third of its time.
                np.multiply(window, sigma[i], out=noise, casting="unsafe")
                noise += image
                np.clip(noise, 0, 255, out=noise)
                image = noise
            np.copyto(out[i], image, casting="unsafe")
        return out

    def _margin(self, height: int, width: int) -> int:
        """How far outside the image, in pixels, the strongest rotation and zoom look; 0 if too far to be worth padding.

        A function of the ranges, not of a draw: the warp's rounding must not depend on what else is in the batch.
        """
        angles = np.linspace(0.0, min(float(self._rotation), np.pi / 2), 64)
        cos, sin = np.cos(angles), np.sin(angles)
        reach = max(float((one * cos + other * sin).max()) for one, other in ((height, width), (width, height)))
        reach /= 1 - self._zoom
        outside = int(np.ceil((reach - min(height, width)) / 2)) + 2
        return outside if outside < min(height, width) else 0


def _warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], margin: int) -> NDArray[np.uint8]:
    """Warp an RGB image, shape (h, w, 3), with reflected borders.

    OpenCV reads four bytes a pixel twice as fast as three, and fastest where no pixel lies outside; so the image is
    given a fourth channel and a reflected margin first.
    """
    height, width = image.shape[:2]
    rgba = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    if margin:
        rgba = cv2.copyMakeBorder(rgba, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
        matrix = np.concatenate([matrix[:, :2], matrix[:, 2:] - margin * matrix[:, :2].sum(1, keepdims=True)], axis=1)
    warped = warp_affine_with_value_extension(
        rgba, matrix, (width, height), cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101, 0
    )
    rgb: NDArray[np.uint8] = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)
    return rgb


def _warp_matrices(
    height: int,
    width: int,
    flip: NDArray[np.bool_],
    angle: NDArray[np.float64],
    scale_x: NDArray[np.float64],
    scale_y: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Flip, then rotate, then scale about the image's centre: source to destination, shape (n, 2, 3)."""
    mirror = np.where(flip, -1.0, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [scale_x * cos * mirror, scale_x * sin, -scale_y * sin * mirror, scale_y * cos]
    linear = np.stack(rows, axis=-1).reshape(-1, 2, 2)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.concatenate([linear, (centre - linear @ centre)[..., None]], axis=-1)


@cache
def _noise_block(length: int) -> NDArray[np.float32]:
    """Standard normal numbers, the same in every process; images cut windows from it at random offsets."""
    generator = np.random.Generator(np.random.PCG64(0x5EED))
    block = generator.standard_normal(length, dtype=np.float32)
    block.flags.writeable = False
    return block


def _uniform(seed: int, indices: NDArray[np.integer], view: int) -> dict[str, NDArray[np.float64]]:
    """Uniform numbers in [0, 1), one per draw and image, as a hash of (seed, view, index, draw).

    A counter-based generator: nothing depends on what was drawn before, and a whole batch is a few vector operations.
    """
    key = _mix(_mix(np.array([seed], np.uint64)) ^ np.uint64(view))
    per_image = _mix(key ^ np.asarray(indices).astype(np.uint64))
    bits = {name: _mix(per_image + np.uint64(slot)) >> np.uint64(11) for slot, name in enumerate(_DRAWS)}
    return {name: value.astype(np.float64) * 2.0**-53 for name, value in bits.items()}


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's step and finaliser (Steele, Lea, Flood 2014); array arithmetic wraps modulo 2**64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

"""Augmentation at strength 1 beside albumentations' five transforms composed one after the other.

    python benchmarks/augment.py

Prints one JSON line. Both rates are images a second on one core with every transform applied (p=1), the best of several
rounds that alternate between the two. Then both draw 1,000 images from the default ranges (flip with probability 0.5),
and angle, scale, flips, per-channel mean and variance, and noise level are measured on the pixels themselves and
compared: mean and standard deviation of each, the two-sample Kolmogorov-Smirnov statistic and its p value.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from raysearch.data.augment import Augmenter
from raysearch.data.pixels import load
from raysearch.recipe import Augmentation

Images = NDArray[np.uint8]


def peer(ranges: Augmentation, flip: float, seed: int) -> Callable[[Images], Images]:
    """The five transforms at full strength as a user composes them (`plain_tune.py` has the same five)."""
    compose = A.Compose(
        [
            A.HorizontalFlip(p=flip),
            A.Rotate(limit=ranges.rotation_degrees, p=1.0, border_mode=cv2.BORDER_REFLECT_101),
            A.Affine(scale=(1 - ranges.zoom, 1 + ranges.zoom), p=1.0, border_mode=cv2.BORDER_REFLECT_101),
            A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=ranges.contrast, p=1.0),
            A.GaussNoise(std_range=(0.0, ranges.noise), p=1.0),
        ],
        seed=seed,
    )
    return lambda images: np.stack([compose(image=image)["image"] for image in images])


def ours(ranges: Augmentation, seed: int) -> Callable[[Images], Images]:
    """raysearch's augmenter, a new view a call."""
    augmenter = Augmenter(ranges, strength=1.0, seed=seed)
    views = iter(range(1 << 30))
    return lambda images: augmenter(images, np.arange(len(images)), next(views))


def rates(images: Images, rounds: int) -> dict[str, float]:
    """Images a second of both, each transform applied to each image."""
    ranges = Augmentation(flip=1.0)
    pipelines = {"peer": peer(ranges, 1.0, 0), "ours": ours(ranges, 0)}
    seconds = dict.fromkeys(pipelines, float("inf"))
    for pipeline in pipelines.values():
        pipeline(images[:8])
    for _ in range(rounds):
        for name, pipeline in pipelines.items():
            start = time.perf_counter()
            pipeline(images)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    result = {f"{name}_images_per_second": round(len(images) / taken, 1) for name, taken in seconds.items()}
    return {**result, "ratio": round(seconds["peer"] / seconds["ours"], 2)}


def fiducials(n: int, size: int) -> Images:
    """A red, a green and a blue disc near the centre: three points, which fix an affine map."""
    image = np.zeros((size, size, 3), np.uint8)
    for channel, (x, y) in enumerate(_POINTS):
        disc = np.zeros((size, size), np.uint8)
        cv2.circle(disc, (round(size / 2 + x), round(size / 2 + y)), 8, 255, -1, cv2.LINE_AA)
        image[..., channel] = disc
    return np.repeat(image[None], n, axis=0)


_POINTS = ((26, 0), (-13, 22), (-13, -22))


def centroids(image: Images) -> NDArray[np.float64]:
    """Where the three discs are, shape (3, 2), x and y in pixels."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    weights = np.where(image > 100, image, 0).astype(np.float64).reshape(-1, 3)
    places = np.stack([columns.ravel(), rows.ravel()], axis=1)
    found: NDArray[np.float64] = (weights.T @ places) / weights.sum(axis=0)[:, None]
    return found


def geometry(before: Images, after: Images) -> dict[str, NDArray[np.float64]]:
    """Angle in degrees, scale along x and y, and flip of each image, from the map source -> result.

    The map is scale @ rotation @ mirror, so each row's length is a scale and the determinant's sign is the mirror.
    """
    source = centroids(before[0])
    linear = np.stack(
        [np.linalg.solve(source[1:] - source[0], (found := centroids(image))[1:] - found[0]).T for image in after]
    )
    mirror = np.sign(np.linalg.det(linear))
    scales = np.linalg.norm(linear, axis=2)
    return {
        "angle_degrees": np.degrees(np.arctan2(linear[:, 0, 1], linear[:, 0, 0] * mirror)),
        "scale_x": scales[:, 0],
        "scale_y": scales[:, 1],
        "flip": (mirror < 0).astype(np.float64),
    }


def colours(after: Images) -> dict[str, NDArray[np.float64]]:
    """Mean and variance of each channel of each image."""
    values = after.reshape(len(after), -1, 3).astype(np.float32)
    names = ("red", "green", "blue")
    means = {f"mean_{name}": values[..., k].mean(1).astype(np.float64) for k, name in enumerate(names)}
    return means | {f"variance_{name}": values[..., k].var(1).astype(np.float64) for k, name in enumerate(names)}


def compare(one: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, list[float] | float]:
    """[peer, ours] mean and standard deviation, and the Kolmogorov-Smirnov test."""
    test = ks_2samp(one, other)
    return {
        "mean": [round(float(x.mean()), 4) for x in (one, other)],
        "std": [round(float(x.std()), 4) for x in (one, other)],
        "ks": round(float(test.statistic), 4),
        "p": round(float(test.pvalue), 4),
    }


def distribution(photographs: Images, size: int) -> dict[str, dict[str, list[float] | float]]:
    """Both pipelines on the same images, measured on what comes out."""
    n = len(photographs)
    ranges = Augmentation()
    measured: list[dict[str, NDArray[np.float64]]] = []
    for pipeline in (peer(ranges, ranges.flip, 1), ours(ranges, 1)):
        discs = fiducials(n, size)
        grey = np.full((n, size, size, 3), 128, np.uint8)
        noise = {"noise_level": np.array([image.std() for image in pipeline(grey)], dtype=np.float64)}
        measured.append(geometry(discs, pipeline(discs)) | colours(pipeline(photographs)) | noise)
    return {name: compare(measured[0][name], measured[1][name]) for name in measured[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=1000, help="for the comparison of distributions")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        pixels = load("cifar10-mini", image_size=arguments.image_size, cache=Path(scratch), progress=False).train.pixels
        photographs = np.array(pixels[: arguments.images])
    small = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in photographs[:256]])
    result = {
        "claim": "augmentation",
        "image_size": arguments.image_size,
        "cores": 1,
        "cpu": platform.processor() or platform.machine(),
        **rates(photographs[:128], arguments.rounds),
        "at_32px": rates(small, arguments.rounds),
        "images_compared": len(photographs),
        "peer_then_ours": distribution(photographs, arguments.image_size),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""A small classifier that has really learned something, and images for it: what tests of `best/` stand on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from raysearch.models.boundary import build_classifier, prepare
from raysearch.recipe import Recipe, Stage

CLASSES = ("blue", "green", "red")
_COLORS = {"blue": (30, 30, 220), "green": (30, 220, 30), "red": (220, 30, 30)}
RECIPE = Recipe(backbone="simple_cnn", image_size=16, weights="random", schedule=(Stage(depth=4, epochs=1),))


def picture(name: str, seed: int, size: tuple[int, int] = (20, 24)) -> np.ndarray:
    """A noisy image of that colour, uint8 (height, width, 3)."""
    noise = np.random.default_rng(seed).normal(0, 20, (*size, 3))
    return np.clip(np.array(_COLORS[name]) + noise, 0, 255).astype(np.uint8)


def write_pictures(folder: Path, per_class: int, classes: tuple[str, ...] = CLASSES, first_seed: int = 0) -> Path:
    """Class folders of PNGs."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            Image.fromarray(picture(name, first_seed + i)).save(folder / name / f"{i:03d}.png")
    return folder


def classifier() -> nn.Sequential:
    """A `simple_cnn` that tells the three colours apart; the same tensors at every call."""
    model = build_classifier(RECIPE, len(CLASSES))
    images = np.stack([picture(name, seed, (16, 16)) for seed in range(8) for name in CLASSES])
    labels = torch.arange(3).repeat(8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inputs = prepare(images, torch.device("cpu"))
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model.eval()

"""A bench on a few made-up images, for tests that open stages of real backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysearch.data.dataset import Dataset, Split
from raysearch.data.pixels import load
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe, Stage
from raysearch.record.goal import Goal
from raysearch.training.bench import Bench
from raysearch.training.loop import Trainer
from raysearch.training.stage import open_stage

CLASSES = ("blue", "green", "red")


def split(n: int, seed: int, size: int) -> Split:
    """Noise with one channel brighter; which one is the class."""
    labels = np.arange(n) % 3
    pixels = np.random.default_rng(seed).integers(0, 160, (n, size, size, 3))
    pixels[np.arange(n), :, :, 2 - labels] += 60
    return Split(pixels.astype(np.uint8), labels.astype(np.int64), tuple(f"{i}.png" for i in range(n)))


def bench(backbone: str = "simple_cnn", size: int = 32, **changes: Any) -> Bench:
    """Untrained weights, fp32, CPU."""
    parts = {name: split(n, seed, size) for seed, (name, n) in enumerate((("train", 24), ("val", 12), ("test", 3)))}
    dataset = Dataset("made up", CLASSES, size, "squash", "f00d", **parts, skipped=(), folder=Path())
    settings = {"dataset": dataset, "weights": load_weights(backbone, "random", 0)}
    settings["goal"] = Goal.of(changes.pop("metric", "accuracy"), changes.pop("require", ()))
    return Bench(**(settings | {"device": torch.device("cpu"), "precision": "fp32"} | changes))


def decoded(folder: Path) -> Dataset:
    """The images of an .npz that is written to `folder`, 24, 12 and 6 of them, decoded at 32 px beside it."""
    arrays = {}
    for name, n in (("train", 24), ("val", 12), ("test", 6)):
        made = split(n, 0, 32)
        arrays |= {f"{name}_images": made.pixels, f"{name}_labels": made.labels[:, None]}
    np.savez(folder / "made.npz", **arrays)
    return load(str(folder / "made.npz"), image_size=32, cache=folder / "cache", progress=False)


def recipe(backbone: str = "simple_cnn", size: int = 32, depths: tuple[int, ...] = (0, 1, 2), **changes: Any) -> Recipe:
    """A schedule through these depths, two epochs each."""
    stage = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01}
    schedule = changes.pop("schedule", tuple(Stage(depth=depth, **stage) for depth in depths))
    return Recipe(backbone=backbone, image_size=size, schedule=schedule, **changes)


def trained(bench: Bench, recipe: Recipe, index: int = 0, **start: Any) -> Trainer:
    """A stage opened and trained to its end."""
    trainer = open_stage(bench, recipe, index, **start)
    while not trainer.finished:
        trainer.run_epoch()
    return trainer


def handed_over(trainer: Trainer) -> dict[str, Any]:
    """What the next stage is opened with."""
    return {
        "start": trainer.best_state,
        "expected_loss": trainer.best["val_loss"],
        "expected_signature": trainer.signature,
    }

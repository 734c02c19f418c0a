"""Whether test-time augmentation pays: the winner of a run on labelled images, over several ways to look at them.

    python benchmarks/tta.py RUN --data SOURCE [--images 10000]

The ways: the image alone; with its mirror image (`raysearch predict --tta`); with 8 views of the recipe's own
augmentation, at full and at half strength. Probabilities are averaged. Prints one JSON line: accuracy and log-loss of
each, and the paired gain of accuracy over the image alone with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from machine import machine

from raysearch.data.augment import Augmenter
from raysearch.intervals import mean_interval
from raysearch.record.folder import locate
from raysearch.winner.answers import probabilities
from raysearch.winner.best import load_best
from raysearch.winner.dataset import dataset_for

VIEWS = 8
BATCH = 250


def main() -> None:
    """Predict the test split of the source in every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=10000)
    options = parser.parse_args()
    best = load_best(locate(options.run))
    model, device = best.model(), torch.device("cpu")
    split = dataset_for(best, options.data).test
    split = split.take(np.unique(np.linspace(0, len(split) - 1, min(options.images, len(split))).astype(int)))
    pixels = np.asarray(split.pixels)

    def shares(images: np.ndarray, mirrored: bool = False) -> np.ndarray:
        batches = np.array_split(images, max(len(images) // BATCH, 1))
        return np.concatenate([probabilities(model, batch, device, mirrored) for batch in batches])

    def with_views(strength: float) -> np.ndarray:
        augment, indices = Augmenter(best.recipe.augmentation, strength, seed=0), np.arange(len(split))
        views = [shares(augment(pixels, indices, view)) for view in range(1, VIEWS + 1)]
        return np.mean([alone, *views], axis=0)

    alone = shares(pixels)
    ways = {"alone": alone, "mirrored": shares(pixels, mirrored=True)}
    ways |= {f"{VIEWS} views at {strength:g}": with_views(strength) for strength in (0.5, 1.0)}
    right = {name: (way.argmax(axis=1) == split.labels).astype(float) for name, way in ways.items()}
    figures = {
        name: {
            "accuracy": round(float(right[name].mean()), 4),
            "log_loss": round(float(-np.log(way[np.arange(len(split)), split.labels]).mean()), 4),
            "gain": [round(value, 4) for value in mean_interval(right[name] - right["alone"], 0.95)],
        }
        for name, way in ways.items()
    }
    run = {"run": Path(options.run).name, "backbone": best.recipe.backbone, "images": len(split)}
    print(json.dumps({"benchmark": "tta", **run, **figures, "machine": machine()}))


if __name__ == "__main__":
    main()

"""Best validation accuracy on cached fp16 activations against live ones: the same recipe over several seeds.

    python benchmarks/cache_accuracy.py [--seeds 0 1 2 3 4] [--epochs 6]

The bundled images and DenseNet121 at 32 px. One recipe: a head for ten epochs without augmentation, then two blocks
open for --epochs with augmentation at strength 0.5, one-cycle, learning rate 5e-4. For each seed it is trained twice by
`train_recipe`, the order alternating:
    live     no cache: augmentation and the frozen prefix in every step
    cached   fp16 files at both depths, six views before they repeat, filled as they are read
A view's number in the cache is its epoch's modulo six, so after ten epochs of the head the two see other draws of the
same augmentation: on one seed they differ as two trainings do, and what counts is the difference of the means beside
the spread over seeds. The verdict is |difference| <= pooled standard deviation. What is compared is the best of the
last stage's epochs (the head it starts from counts as its epoch 0). Seconds include filling, in a cache that is empty
for each seed; run it alone if they are to mean anything. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import torch
from machine import machine

from raysearch.activations.cache import CacheSettings
from raysearch.activations.upkeep import list_entries
from raysearch.data.dataset import Dataset
from raysearch.data.pixels import load
from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import Recipe, Stage
from raysearch.training.bench import Bench
from raysearch.training.numerics import choose_precision
from raysearch.training.path import train_recipe

CPU = torch.device("cpu")
DEPTH = 2
CACHE = CacheSettings(depths=(0, DEPTH), views=6, dtype="fp16")

Figures = dict[str, Any]


def make_recipe(seed: int, head_epochs: int, epochs: int) -> Recipe:
    """A head, then two blocks."""
    head = Stage(depth=0, epochs=head_epochs, strength=0.0)
    fine = Stage(depth=DEPTH, epochs=epochs, course="one_cycle", learning_rate=5e-4, strength=0.5)
    return Recipe(backbone="densenet121", weights="bundled", image_size=32, schedule=(head, fine), seed=seed)


def train(dataset: Dataset, weights: Weights, recipe: Recipe, precision: str, cache: CacheSettings | None) -> Figures:
    """One training, in a cache of its own.

    Raises:
        RuntimeError: the cache was to be used and stayed empty.
    """
    with tempfile.TemporaryDirectory(prefix="raysearch-cache-accuracy-") as folder:
        os.environ["RAYSEARCH_CACHE"] = folder
        started = time.perf_counter()
        trainer = train_recipe(Bench(dataset, weights, CPU, precision, cache=cache), recipe)
        seconds = time.perf_counter() - started
        files = len(list_entries())
    least = files_read(recipe) if cache else 0
    if files < least or (files and not cache):
        raise RuntimeError(f"{least} files should be in the cache, {files} are: is there room in the temporary folder?")
    return {"val_accuracy": trainer.best["val_accuracy"], "epoch": trainer.best["epoch"], "seconds": round(seconds, 1)}


def files_read(recipe: Recipe) -> int:
    """The validation images at both depths, the head's one view, the other stage's; with fewer, something was live."""
    return 2 + 1 + min(CACHE.views, recipe.schedule[-1].epochs)


def compare(live: list[float], cached: list[float]) -> Figures:
    """Means, standard deviations, and whether the difference of the means is within the pooled one."""
    spread = {name: statistics.stdev(values) for name, values in (("live", live), ("cached", cached))}
    pooled = math.sqrt((spread["live"] ** 2 + spread["cached"] ** 2) / 2)
    difference = statistics.fmean(cached) - statistics.fmean(live)
    return {
        "live": live,
        "cached": cached,
        "live_mean": round(statistics.fmean(live), 4),
        "cached_mean": round(statistics.fmean(cached), 4),
        "live_std": round(spread["live"], 4),
        "cached_std": round(spread["cached"], 4),
        "difference": round(difference, 4),
        "pooled_std": round(pooled, 4),
        "within_pooled_std": abs(difference) <= pooled,
    }


def main() -> None:
    """Train, seed by seed, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10-mini", help="a SOURCE as raysearch.tune takes it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--head-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=6, help="of the stage with two blocks open")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=choose_precision(CPU))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error(f"--seeds: at least two, for there is no spread of one; got {options.seeds}")
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    found: dict[str, list[Figures]] = {"live": [], "cached": []}
    with tempfile.TemporaryDirectory(prefix="raysearch-cache-accuracy-") as folder:
        dataset = load(options.data, image_size=32, cache=Path(folder), progress=False)
        weights = load_weights("densenet121", "bundled", 0)
        for number, seed in enumerate(options.seeds):
            recipe = make_recipe(seed, options.head_epochs, options.epochs)
            for arm in ("live", "cached") if number % 2 == 0 else ("cached", "live"):
                cache = CACHE if arm == "cached" else None
                found[arm].append(train(dataset, weights, recipe, options.precision, cache))
                print(f"seed {seed} {arm}: {found[arm][-1]}", file=sys.stderr)
    accuracies = {arm: [one["val_accuracy"] for one in ones] for arm, ones in found.items()}
    summary = {
        "benchmark": "cache_accuracy",
        "precision": options.precision,
        "seeds": options.seeds,
        "epochs": [options.head_epochs, options.epochs],
        **compare(accuracies["live"], accuracies["cached"]),
        "seconds": {arm: [one["seconds"] for one in ones] for arm, ones in found.items()},
        "machine": machine(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()

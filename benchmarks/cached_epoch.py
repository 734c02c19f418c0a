"""A trial's epoch on cached boundary activations: against the frozen network in every step, and against memory.

    python benchmarks/cached_epoch.py [--cases vgg19-d1-64 ...] [--images 32:1024 64:256 224:48] [--repetitions 3]
        [--precision fp32|bf16]

Random weights and random images, no file of anybody's is needed. Three arms a case, each one of our own trainers:
    live     augmentation (strength 0.5) and the frozen prefix in every step, as a trial trains without a cache
    cached   the same suffix on fp16 activations from files that are there already; filling them is reported apart
    memory   the same suffix on float32 activations that lie in memory as `gather` gives them: no reader is faster
The arms take turns, an epoch each; their first epochs are thrown away, and of the others the median counts. An epoch is
what `Trainer.run_epoch` does: training, and an evaluation on a small validation set (an eighth as many images), whose
activations are in memory or on disk in every arm; a search's larger one would bring the arms closer together.
"limit" is what the arithmetic allows live over cached: (prefix + 3 suffix) / (3 suffix), in multiply-adds of one image,
a backward pass counted as two forward ones. Augmentation is left out of it, and it takes both parts for equally fast.
Files have just been written, so they are read from the page cache: that favours "cached", and is so in a search whose
cache fits into memory. Run it alone on the machine. Prints a table on stderr and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import machine
from torch.utils.flop_counter import FlopCounterMode

from raysearch.activations.cache import CacheSettings
from raysearch.activations.kept import TensorActivations
from raysearch.activations.upkeep import list_entries
from raysearch.data.dataset import Dataset, Split
from raysearch.models.boundary import build_classifier, cut
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe, Stage
from raysearch.training.bench import Bench
from raysearch.training.loop import Trainer
from raysearch.training.numerics import choose_precision
from raysearch.training.stage import open_stage

CPU = torch.device("cpu")
CLASSES = tuple(f"class {number}" for number in range(10))
VIEWS = 2
"""Cached; epochs alternate between them, so that each opens another file, as in a search."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is trained."""

    backbone: str
    depth: int
    image_size: int

    @property
    def name(self) -> str:
        """What --cases calls it."""
        return f"{self.backbone}-d{self.depth}-{self.image_size}"

    def recipe(self, epochs: int, batch_size: int) -> Recipe:
        """One stage at this depth; the learning rate is too low to lead anywhere."""
        stage = Stage(depth=self.depth, epochs=epochs, batch_size=batch_size, learning_rate=1e-6, strength=0.5)
        return Recipe(backbone=self.backbone, weights="random", image_size=self.image_size, schedule=(stage,))


CASES = {
    case.name: case
    for case in (
        *(Case("vgg19", 1, size) for size in (64, 224)),
        *(Case("densenet121", depth, size) for depth in (1, 2) for size in (32, 64, 224)),
    )
}


def noise(image_size: int, images: int) -> Dataset:
    """Random images with labels in turn."""
    random, splits = np.random.default_rng(0), {}
    for name, n in (("train", images), ("val", max(8, images // 8)), ("test", 1)):
        pixels = random.integers(0, 256, (n, image_size, image_size, 3), np.uint8)
        labels = np.arange(n, dtype=np.int64) % len(CLASSES)
        splits[name] = Split(pixels, labels, tuple(f"{name}/{number}.png" for number in range(n)))
    return Dataset(
        "noise", CLASSES, image_size, "squash", "noise", splits["train"], splits["val"], splits["test"], (), Path()
    )


def fill(trainer: Trainer) -> float:
    """Fills what a trainer on cached activations reads; seconds a view of the training images."""
    started = time.perf_counter()
    for view in range(VIEWS):
        trainer.images.train.activations.batch(np.arange(1), view)
    seconds = time.perf_counter() - started
    trainer.images.val.activations.batch(np.arange(1), 0)
    return seconds / VIEWS


def check_cache() -> None:
    """Raises RuntimeError if there is anything but the views and the validation images, for it was read live then."""
    if (files := len(list_entries())) != VIEWS + 1:
        raise RuntimeError(
            f"{VIEWS + 1} files should be in the cache, {files} are: is there room in the temporary folder?"
        )


def multiply_adds(case: Case) -> tuple[float, float]:
    """Those of prefix and suffix for one image, forward."""
    prefix, suffix = cut(build_classifier(case.recipe(1, 1), len(CLASSES)).eval(), case.depth)
    with torch.no_grad():
        with FlopCounterMode(display=False) as of_prefix:
            activations = prefix(torch.zeros(1, 3, case.image_size, case.image_size))
        with FlopCounterMode(display=False) as of_suffix:
            suffix(activations)
    return of_prefix.get_total_flops() / 2, of_suffix.get_total_flops() / 2


def run_case(case: Case, images: int, options: argparse.Namespace) -> Figures:
    """All three arms, an epoch each in turn."""
    began, repetitions = time.perf_counter(), options.repetitions
    dataset, weights = noise(case.image_size, images), load_weights(case.backbone, "random", 0)
    recipe = case.recipe(1 + repetitions, options.batch_size)
    without = Bench(dataset, weights, CPU, options.precision)
    settings = CacheSettings(depths=(case.depth,), views=VIEWS, dtype="fp16")
    with_cache = Bench(dataset, weights, CPU, options.precision, cache=settings)
    with tempfile.TemporaryDirectory(prefix="raysearch-cached-epoch-") as folder:
        os.environ["RAYSEARCH_CACHE"] = folder
        live, cached, memory = (open_stage(bench, recipe, 0) for bench in (without, with_cache, without))
        fill_seconds = fill(cached)
        check_cache()
        rows = cached.images.train.activations.batch(np.arange(images), 0).movedim(1, -1)
        train = replace(memory.images.train, activations=TensorActivations(rows.contiguous()))
        memory.images = replace(memory.images, train=train)
        seconds = take_turns({"live": live, "cached": cached, "memory": memory}, repetitions)
        check_cache()
    prefix, suffix = multiply_adds(case)
    median = {arm: statistics.median(taken) for arm, taken in seconds.items()}
    return {
        "images": images,
        "validation_images": len(dataset.val.labels),
        "kib_an_image": round(rows[0].numel() * 2 / 1024, 1),
        **{f"{arm}_seconds": round(taken, 4) for arm, taken in median.items()},
        "fill_seconds": round(fill_seconds, 4),
        "live_over_cached": round(median["live"] / median["cached"], 3),
        "memory_over_cached": round(median["memory"] / median["cached"], 3),
        "limit": round((prefix + 3 * suffix) / (3 * suffix), 3),
        "prefix_mega_macs": round(prefix / 1e6, 1),
        "suffix_mega_macs": round(suffix / 1e6, 1),
        "epochs": {arm: [round(one, 4) for one in taken] for arm, taken in seconds.items()},
        "case_seconds": round(time.perf_counter() - began, 1),
    }


def take_turns(trainers: dict[str, Trainer], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each arm's epochs, the first one left out; who begins changes from turn to turn."""
    seconds: dict[str, list[float]] = {arm: [] for arm in trainers}
    arms = list(trainers)
    for turn in range(1 + repetitions):
        for arm in arms[turn % len(arms) :] + arms[: turn % len(arms)]:
            started = time.perf_counter()
            trainers[arm].run_epoch()
            if turn:
                seconds[arm].append(time.perf_counter() - started)
    return seconds


def table(cases: dict[str, Figures]) -> str:
    """The figures as people read them."""
    columns: dict[str, Callable[[Figures], str]] = {
        "images": lambda case: str(case["images"]),
        "live s": lambda case: f"{case['live_seconds']:.2f}",
        "cached s": lambda case: f"{case['cached_seconds']:.3f}",
        "memory s": lambda case: f"{case['memory_seconds']:.3f}",
        "fill s": lambda case: f"{case['fill_seconds']:.2f}",
        "live/cached": lambda case: f"{case['live_over_cached']:.2f}",
        "limit": lambda case: f"{case['limit']:.2f}",
        "memory/cached": lambda case: f"{case['memory_over_cached']:.3f}",
    }
    lines = [f"{'case':<20}" + "".join(f"{name:>15}" for name in columns)]
    lines += [f"{name:<20}" + "".join(f"{show(case):>15}" for show in columns.values()) for name, case in cases.items()]
    return "\n".join(lines)


def images_by_size(words: list[str]) -> dict[int, int]:
    """["32:1024", "224:48"] -> {32: 1024, 224: 48}.

    Raises:
        ValueError: another form, or no images.
    """
    found = {int(size): int(images) for size, images in (word.split(":") for word in words)}
    if min(found.values(), default=1) < 1:
        raise ValueError(f"there must be images, got {found}")
    return found


def main() -> None:
    """Run the cases one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="PX:N", help="training images at a size (32:1024 64:256 224:48)"
    )
    parser.add_argument("--repetitions", type=int, default=3, help="epochs of each arm that count")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=choose_precision(CPU))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    try:
        images = {32: 1024, 64: 256, 224: 48} | images_by_size(options.images)
    except ValueError as error:
        parser.error(f"--images {' '.join(options.images)}: {error}")
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    cases: dict[str, Figures] = {}
    for name in options.cases:
        cases[name] = run_case(CASES[name], images[CASES[name].image_size], options)
        print(f"{name}: {cases[name]['case_seconds']} s", file=sys.stderr)
    print(table(cases), file=sys.stderr)
    summary = {
        "benchmark": "cached_epoch",
        "precision": options.precision,
        "repetitions": options.repetitions,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "cases": cases,
        "machine": machine(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()

"""What several workers a trial cost and bring: the start of a crew, an order to one that is there, images a second.

    python benchmarks/workers.py [--workers 2] [--backbone densenet121] [--depth 2] [--epochs 3] [--images 1500]
        [--batch-size 96] [--repetitions 3]

A crew of workers of one thread each, as a search starts it, trains on random images at 32 px, from random weights:
    first_trial   seconds from the order to its first epoch's result, that epoch aside: Ray Train's job, its processes,
                  their imports, the stage
    next_trial    the same of the segments after it: the way of an order and its answer, and opening the stage
Images a second are of whole epochs, validation on an eighth as many images included, the first of each segment aside:
    alone         one worker of one thread
    threads       one worker of as many threads as the crew has workers
    crew          the crew
Arms take turns, and of each one's epochs the median counts. On a CPU the crew competes with "threads" for the same
cores: what several GPUs bring this does not say. Run it alone on the machine. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from machine import machine

from raysearch.data.pixels import load
from raysearch.recipe import Recipe, Stage
from raysearch.record.line import Row
from raysearch.search.messages import Result, Segment, Trained
from raysearch.training.numerics import choose_precision
from raysearch.workers.config import BenchConfig, PackOptions, WorkplaceConfig
from raysearch.workers.crew import Crews
from raysearch.workers.session import ray_session
from raysearch.workers.workplace import Workplace

PIXELS = 32
CLASSES = 10

Step = Callable[[str, Segment], Row]
"""Trains one epoch of a segment by this name; its row."""


def made_up_images(folder: Path, images: int) -> Path:
    """Noise, in the form of MedMNIST, decoded; the folder of it."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, n in (("train", images), ("val", images // 8), ("test", CLASSES)):
        arrays[f"{name}_images"] = rng.integers(0, 256, (n, PIXELS, PIXELS, 3), dtype=np.uint8)
        arrays[f"{name}_labels"] = (np.arange(n) % CLASSES)[:, None]
    np.savez(folder / "noise.npz", **arrays)
    return load(str(folder / "noise.npz"), image_size=PIXELS, cache=folder / "cache", progress=False).folder


def segment(options: argparse.Namespace, name: str) -> Segment:
    """A trial that starts from the weights alone, whole."""
    stage = Stage(depth=options.depth, epochs=options.epochs, batch_size=options.batch_size, strength=0.0)
    recipe = Recipe(backbone=options.backbone, weights="random", image_size=PIXELS, schedule=(stage,))
    return Segment(
        name=f"{name}.1",
        trial=name,
        recipe=recipe,
        stage=0,
        from_epoch=0,
        to_epoch=options.epochs,
        parent=None,
        ended_rate=None,
    )


def trial(step: Step, options: argparse.Namespace, name: str) -> tuple[float, list[float]]:
    """Seconds before the first epoch, and of each epoch."""
    began = time.perf_counter()
    one = segment(options, name)
    rows = [step(name, one)]
    before = time.perf_counter() - began - rows[0]["seconds"]
    rows += [step(name, one) for _ in range(options.epochs - 1)]
    return before, [row["seconds"] for row in rows]


def row_of(results: Sequence[Result]) -> Row:
    """The epoch that a step of one trial trained."""
    (one,) = results
    assert isinstance(one, Trained)
    return one.row


def by_crew(crews: Crews) -> Step:
    """Steps made as a relay makes them."""
    desk: Any = ray.get_actor(crews.desk)

    def step(name: str, one: Segment) -> Row:
        return row_of(ray.get(desk.step.remote(0, name, one))["results"])

    return step


def by_one(config: WorkplaceConfig, threads: int) -> Step:
    """Steps made as a trial actor makes them; in this process, so the threads are set anew each time."""
    workplace, taken = Workplace.open(config), ""

    def step(name: str, one: Segment) -> Row:
        nonlocal taken
        torch.set_num_threads(threads)
        if name != taken:
            workplace.take(one)
            taken = name
        return row_of(workplace.step())

    return step


def main() -> None:
    """Run the arms in turn, and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--depth", type=int, default=2, help="blocks that are trained")
    parser.add_argument("--epochs", type=int, default=3, help="of a trial, at least 2")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--repetitions", type=int, default=3, help="trials of each arm")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raysearch-workers-") as folder:
        precision = choose_precision(torch.device("cpu"))
        bench = BenchConfig(
            dataset=str(made_up_images(Path(folder), options.images)),
            backbone=options.backbone,
            weights="random",
            seed=0,
            device="cpu",
            precision=precision,
            metric="accuracy",
            max_batches=None,
            halves=False,
        )
        packs = PackOptions(folds=0, reduction=3, first_rung_epochs=None)
        config = WorkplaceConfig(bench=bench, checkpoints=folder, threads=1, heads=packs)
        starts: list[float] = []
        epochs: dict[str, list[float]] = {"alone": [], "threads": [], "crew": []}
        with ray_session(None, options.workers), Crews(options.workers, {"CPU": 1, "GPU": 0}, config) as crews:
            steps = {"alone": by_one(config, 1), "threads": by_one(config, options.workers), "crew": by_crew(crews)}
            for repetition in range(options.repetitions):
                for arm, step in steps.items():
                    before, seconds = trial(step, options, f"{arm}{repetition}")
                    epochs[arm] += seconds[1:]
                    starts += [before] if arm == "crew" else []
            began = time.perf_counter()
        found = {
            "first_trial_seconds": round(starts[0], 2),
            "next_trial_seconds": round(statistics.median(starts[1:]), 3),
            "end_seconds": round(time.perf_counter() - began, 2),
            "images_a_second": {
                arm: round(options.images / statistics.median(seconds), 1) for arm, seconds in epochs.items()
            },
        }
    print(json.dumps({"benchmark": "workers", **vars(options), "precision": precision, **found, "machine": machine()}))


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()

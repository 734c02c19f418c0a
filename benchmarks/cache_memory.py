"""Anonymous memory of a process that trains on cached activations, which are several times as large as it may grow.

    python benchmarks/cache_memory.py [--limit-mib 256] [--views 8] [--images 3584] [--arms cached arrays]

DenseNet121 with random weights, its last block open, 224 px; one view of the activations a training epoch. The files
hold random numbers: filling them through the network would take long and change nothing here. Two arms, each a process
of its own with one trainer (`open_stage`), and the same files' worth of data:
    cached   ours: read through `CachedActivations`, which maps the files
    arrays   the same trainer on all views as np.load() gives them, whole in memory: it trains no faster for it
After an epoch on one repeated row, which allocates all that training needs, comes the baseline; from there on the
"cached" arm may allocate --limit-mib and no more (RLIMIT_DATA: private writable memory; mapped files are none). What
does not fit is refused, and the trainer then halves its batches: "micro_batch" as it was says that nothing was. Whether
np.load() of all views fits under the same limit is tried too, and the limit lifted for the rest of the arm.
RssAnon of /proc/self/status is sampled after every epoch; RssFile are mapped pages, which the system takes back when it
needs them. Linux only. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from torch import Tensor

from raysearch.activations.base import MOST_AT_ONCE, Activations
from raysearch.activations.cache import CachedActivations, CacheSettings
from raysearch.activations.store import Store
from raysearch.activations.upkeep import list_entries
from raysearch.data.dataset import Dataset, Split
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe, Stage
from raysearch.training.bench import Bench
from raysearch.training.loop import Trainer
from raysearch.training.numerics import choose_precision
from raysearch.training.stage import open_stage

CPU = torch.device("cpu")
CLASSES = tuple(f"class {number}" for number in range(10))
STATUS = Path("/proc/self/status")
BLOCK = 64
"""Rows of random numbers, written again and again."""

Figures = dict[str, Any]


class Repeated:
    """One row of zeros as often as wanted, for an epoch that allocates what training needs."""

    at_once = MOST_AT_ONCE

    def __init__(self, images: int, shape: tuple[int, ...]) -> None:
        self.images, self.shape, self.varies = images, shape, False

    def __len__(self) -> int:
        return self.images

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        """Zeros, float32 (n, c, h, w)."""
        return torch.zeros(len(indices), *self.shape).to(memory_format=torch.channels_last)


class Arrays:
    """Views in memory, fp16 (n, h, w, c), as one would load them."""

    at_once = MOST_AT_ONCE

    def __init__(self, views: list[np.ndarray]) -> None:
        self.views, self.varies = views, True
        height, width, channels = views[0].shape[1:]
        self.shape: tuple[int, ...] = (channels, height, width)

    def __len__(self) -> int:
        return len(self.views[0])

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        """Rows of a view, float32 (n, c, h, w)."""
        return torch.from_numpy(self.views[view % len(self.views)][indices]).float().movedim(-1, 1)


def open_trainer(options: argparse.Namespace) -> Trainer:
    """A trainer on cached activations of one black image, repeated as often as wanted, which takes no memory."""
    splits, size = {}, options.image_size
    for name, n in (("train", options.images), ("val", options.val_images), ("test", 1)):
        pixels = np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (n, size, size, 3))
        labels = np.arange(n, dtype=np.int64) % len(CLASSES)
        splits[name] = Split(pixels, labels, tuple(f"{name}/{number}.png" for number in range(n)))
    dataset = Dataset(
        "black", CLASSES, size, "squash", "black", splits["train"], splits["val"], splits["test"], (), Path()
    )
    stage = Stage(
        depth=options.depth,
        epochs=1 + options.epochs,
        batch_size=options.batch_size,
        learning_rate=1e-6,
        course="constant",
        strength=0.5,
    )
    recipe = Recipe(backbone=options.backbone, weights="random", image_size=size, schedule=(stage,))
    settings = CacheSettings(depths=(options.depth,), views=options.views, limit_bytes=1 << 50)
    weights = load_weights(options.backbone, "random", 0)
    return open_stage(Bench(dataset, weights, CPU, choose_precision(CPU), cache=settings), recipe, 0)


def write_views(options: argparse.Namespace, folder: Path) -> int:
    """Fills the cache, and for the other arm a .npy file a view; bytes of the cache's training views."""
    trainer = open_trainer(options)
    train = trainer.images.train.activations
    assert isinstance(train, CachedActivations)
    channels, height, width = train.shape
    shape = (options.images, height, width, channels)
    block = np.random.default_rng(0).random((BLOCK, *shape[1:]), np.float32).astype(np.float16)
    store, boundary = Store(limit_bytes=1 << 50), train._boundary

    def blocks() -> Iterator[np.ndarray]:
        yield from (block[: min(BLOCK, options.images - start)] for start in range(0, options.images, BLOCK))

    for view in range(options.views):
        key = train._key(view)
        with store.turn(key, 0):
            writers = store.writers(key, {boundary: shape}, "fp16")
            if writers is None:
                raise RuntimeError(f"no room for view {view} in {store.root}")
            for rows in blocks():
                writers[boundary].write(rows)
            writers[boundary].commit()
        if "arrays" in options.arms:
            array = np.lib.format.open_memmap(npy(folder, view), "w+", np.float16, shape)
            for start, rows in zip(range(0, options.images, BLOCK), blocks(), strict=True):
                array[start : start + len(rows)] = rows
    trainer.images.val.activations.batch(np.arange(1), 0)  # filled through the network, once for both arms
    return 2 * options.views * int(np.prod(shape))


def npy(folder: Path, view: int) -> Path:
    """The file of the other arm's view."""
    return folder / f"view{view}.npy"


def cached_arm(options: argparse.Namespace, folder: Path) -> Figures:
    """Ours, with the limit on."""
    trainer = open_trainer(options)
    cached = trainer.images.train.activations
    baseline = warmed_up(trainer)
    allow(options.limit_mib)
    read_from(trainer, cached)
    figures = trained(trainer, options, baseline)
    if (files := len(list_entries())) != options.views + 1:
        raise RuntimeError(f"{options.views + 1} files were written, {files} are there: others were read")
    return {"limit": "on", **figures}


def arrays_arm(options: argparse.Namespace, folder: Path) -> Figures:
    """All views loaded; first under the limit, to see whether it goes."""
    trainer = open_trainer(options)
    baseline = warmed_up(trainer)
    allow(options.limit_mib)
    try:
        views, fits = [np.load(npy(folder, view)) for view in range(options.views)], True
    except MemoryError:
        fits = False
    allow(None)
    if not fits:
        views = [np.load(npy(folder, view)) for view in range(options.views)]
    read_from(trainer, Arrays(views))
    return {"limit": "off", "fits_under_limit": fits, **trained(trainer, options, baseline)}


def read_from(trainer: Trainer, activations: Activations) -> None:
    """Makes it train on these activations of its images from now on."""
    train = replace(trainer.images.train, activations=activations)
    trainer.images = replace(trainer.images, train=train)


def warmed_up(trainer: Trainer) -> float:
    """Anonymous MiB after an epoch that reads none of the files but those of the validation images."""
    train = trainer.images.train
    read_from(trainer, Repeated(len(train), train.activations.shape))
    trainer.run_epoch()
    return mib("RssAnon")


def trained(trainer: Trainer, options: argparse.Namespace, baseline: float) -> Figures:
    """Memory after each epoch."""
    anonymous, mapped, seconds = [], [], []
    for epoch in range(options.epochs):
        started = time.perf_counter()
        row = trainer.run_epoch()
        seconds.append(round(time.perf_counter() - started, 2))
        anonymous.append(round(mib("RssAnon"), 1))
        mapped.append(round(mib("RssFile"), 1))
        print(f"epoch {epoch + 1}: RssAnon {anonymous[-1]} MiB, {seconds[-1]} s", file=sys.stderr)
    return {
        "baseline_mib": round(baseline, 1),
        "epochs_mib": anonymous,
        "growth_mib": round(max(anonymous) - baseline, 1),
        "file_mapped_mib": mapped,
        "micro_batch": row["micro_batch"],
        "epoch_seconds": seconds,
    }


def mib(name: str) -> float:
    """A line of this process's status, in MiB."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def allow(more_mib: int | None) -> None:
    """Lets this process allocate so much more than it has now; None: as much as it was allowed at first."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if more_mib is None else int((mib("VmData") + more_mib) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


ARMS: dict[str, Callable[[argparse.Namespace, Path], Figures]] = {"cached": cached_arm, "arrays": arrays_arm}


def main() -> None:
    """Write the files, then run every arm in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--limit-mib", type=int, default=256)
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=3584, help="training images")
    parser.add_argument("--val-images", type=int, default=64)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=8, help="a view each; more than --views read them again")
    parser.add_argument("--batch-size", type=int, default=16, help="small: what a step needs must fit under the limit")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--in-process", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not STATUS.is_file():
        parser.exit(2, f"{STATUS} is not there: this benchmark needs Linux\n")
    torch.set_num_threads(options.threads)
    if options.in_process:
        print(json.dumps(ARMS[options.in_process](options, Path(os.environ["RAYSEARCH_CACHE"]))))
        return
    with tempfile.TemporaryDirectory(prefix="raysearch-cache-memory-") as folder:
        os.environ["RAYSEARCH_CACHE"] = folder
        cache_bytes = write_views(options, Path(folder))
        found: dict[str, Figures] = {}
        for arm in options.arms:
            command = [sys.executable, *sys.argv, "--in-process", arm]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[arm] = json.loads(done.stdout.strip().splitlines()[-1])
    summary = {
        "benchmark": "cache_memory",
        "cache_gib": round(cache_bytes / 2**30, 2),
        "limit_mib": options.limit_mib,
        "views": options.views,
        "images": options.images,
        "batch_size": options.batch_size,
        **found,
        "machine": machine(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()

"""What threads that wait for each other cost a network's forward pass, on a quiet machine and on a busy one.

    python benchmarks/threads.py [--busy 2] [--images 512]

DenseNet121 at 32 px answers batches of 256 images on as many threads as there are cores: with OpenMP's own way to wait
("own"), with threads that sleep at once ("passive"), and as raysearch sets it ("ours": they spin a little, then
sleep); alone, and beside --busy processes that each keep a core busy. Seconds a batch, the least of three passes; each
is a process of its own, since OpenMP is told once. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from machine import machine
from peer import ROOT

WAYS = {"own": {}, "passive": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}, "ours": None}
"""Environment variables of each way; None: what the package sets."""
SCRIPT = """
import sys
import time

{first}
import numpy as np
import torch

from raysearch.models.boundary import build_classifier, prepare
from raysearch.recipe import Recipe

torch.set_num_threads(int(sys.argv[1]))
stage = {{"depth": 0, "epochs": 1, "learning_rate": 1e-3}}
network = build_classifier(Recipe(backbone="densenet121", image_size=32, schedule=[stage]), 10).eval()
pixels = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
batches, seconds = int(sys.argv[2]) // 256, []
with torch.inference_mode():
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(batches):
            network(prepare(pixels, torch.device("cpu")))
        seconds.append((time.perf_counter() - began) / batches)
print(min(seconds))
"""


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


@contextmanager
def beside(processes: int) -> Iterator[None]:
    """Processes that keep cores busy."""
    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(processes)]
    for one in busy:
        one.start()
    try:
        yield
    finally:
        for one in busy:
            one.kill()


def seconds_of(way: str, images: int) -> float:
    """Seconds a batch, one way."""
    asked = WAYS[way]
    own = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    # torch comes before the package, whose own setting is then too late.
    script = SCRIPT.format(first="import raysearch" if asked is None else "import torch")
    command = [sys.executable, "-c", script, str(os.cpu_count() or 1), str(images)]
    done = subprocess.run(command, cwd=ROOT, env=own | (asked or {}), capture_output=True, text=True, check=True)
    return round(float(done.stdout), 3)


def main() -> None:
    """Measure each way, quiet and busy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--images", type=int, default=512)
    options = parser.parse_args()
    quiet = {way: seconds_of(way, options.images) for way in WAYS}
    with beside(options.busy):
        busy = {way: seconds_of(way, options.images) for way in WAYS}
    found = {"benchmark": "threads", "busy_processes": options.busy, "seconds_quiet": quiet, "seconds_busy": busy}
    print(json.dumps({**found, "machine": machine()}))


if __name__ == "__main__":
    main()

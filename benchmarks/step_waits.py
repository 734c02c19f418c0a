"""How long a process is kept by a training step whose indices come from pageable or from pinned memory. Needs CUDA.

    python benchmarks/step_waits.py [--steps 200] [--batch 64]

A step is queued as the loop queues it: indices go to the device, and choose the rows that a convolution is trained on.
Milliseconds until a step is queued, and until all are done, a step. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import torch
from machine import machine
from torch import Tensor, nn

from raysearch.models.transfer import to_device


def milliseconds(steps: int, batch: int, device: torch.device, *, pinned: bool) -> dict[str, float]:
    """Of one way, a step."""
    network = nn.Conv2d(256, 256, 3, padding=1).to(device)
    rows, random = torch.randn(1024, 256, 28, 28, device=device), np.random.default_rng(0)

    def step() -> None:
        indices = random.integers(0, len(rows), batch)
        places: Tensor = to_device(indices, device) if pinned else torch.from_numpy(indices).to(device)
        network(rows[places]).square().mean().backward()

    for _ in range(10):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    queued = time.perf_counter() - began
    torch.cuda.synchronize()
    return {"queued": 1000 * queued / steps, "done": 1000 * (time.perf_counter() - began) / steps}


def main() -> None:
    """Both ways, twice, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("step_waits.py needs CUDA, which this machine has not")
    device, ways = torch.device("cuda"), {"pageable": False, "pinned": True}
    found = [
        {name: milliseconds(options.steps, options.batch, device, pinned=pinned) for name, pinned in ways.items()}
        for _ in range(2)
    ]
    print(json.dumps({**machine(), "gpu": torch.cuda.get_device_name(), **vars(options), "milliseconds": found}))


if __name__ == "__main__":
    main()

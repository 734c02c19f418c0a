"""Seconds to take in 50,000 small JPEG files: this checkout against another one, in turns.

    python benchmarks/intake.py --other ../before

Each turn is a process of its own with a cache of its own, and lists, checks, digests and decodes all files. The files
are read once before, so that all turns find them in memory. Prints one line of JSON: the seconds of each turn of each
checkout, the least of each, and by how much this one is slower.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
CLASSES = 20
SIDE = 64  # pixels of a file
_TURN = """
import sys, time
from raysearch.data.pixels import load
began = time.perf_counter()
data = load(sys.argv[1], image_size=32, progress=False)
print(time.perf_counter() - began, len(data.train) + len(data.val) + len(data.test))
"""


def write_class(folder: Path, images: int, seed: int) -> None:
    """One class's files: noise of 8 x 8 pixels, enlarged, so that a file has the size of a small photo's."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(images):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=85)


def turn(checkout: Path, images: Path, expected: int) -> float:
    """Seconds of one intake by the code of a checkout."""
    with tempfile.TemporaryDirectory(prefix="intake-cache-") as cache:
        environment = os.environ | {"PYTHONPATH": str(checkout), "RAYSEARCH_CACHE": cache}
        command = [sys.executable, "-c", _TURN, str(images)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=cache)
    seconds, found = done.stdout.split()
    if int(found) != expected:
        raise RuntimeError(f"{checkout} took in {found} images of {expected}")
    return float(seconds)


def main() -> None:
    """Makes the files, and times both checkouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, metavar="DIR", help="The checkout to compare with.")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    each = options.images // CLASSES
    seconds: dict[str, list[float]] = {"this": [], "other": []}
    with tempfile.TemporaryDirectory(prefix="intake-images-") as folder:
        root = Path(folder) / "photos"
        with ProcessPoolExecutor() as pool:
            for number in range(CLASSES):
                pool.submit(write_class, root / f"class{number:02}", each, number)
        for _ in range(options.turns):
            for name, checkout in (("other", options.other.resolve()), ("this", HERE)):
                seconds[name].append(round(turn(checkout, root, each * CLASSES), 2))
    least = {name: min(values) for name, values in seconds.items()}
    slower = least["this"] / least["other"] - 1
    print(
        json.dumps(
            {"images": each * CLASSES, "cores": os.cpu_count(), "seconds": seconds, "least": least, "slower": slower}
        )
    )


if __name__ == "__main__":
    main()

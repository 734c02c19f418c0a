"""Whether heads on frozen features rank networks as one would: seconds of each, the ranking, a decoy among them.

    python benchmarks/which_network.py [--data PATH/TO/cifar10.zip] [--vgg19 PATH/TO/FILE.safetensors] [--seed 0]

1,500 training and 500 validation images of the source are drawn as `payoff.py` draws them. `raysearch networks` ranks
the bundled DenseNet121, VGG19 with the weights of a file (both were trained on CIFAR-100) and ResNet18 with random
weights, which must come last. The cache is empty, so the seconds of a network are those of its features and heads; all
seconds are those of the command, with decoding and with what measuring predictions takes. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path

from machine import machine
from payoff import DATA, drawn

from raysearch.cli.main import main as raysearch

TRAIN, VAL = 1500, 500
DECOY = "resnet18"
SHOWN = (
    *("backbone", "origin", "figure", "low", "high", "behind", "behind_low", "surely_behind"),
    *("milliseconds", "milliseconds_in_batch", "parameters", "seconds"),
)


def main() -> None:
    """Draw, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--vgg19", type=Path, default=DATA.with_name("vgg19_cifar100.safetensors"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raysearch-networks-") as scratch:
        os.environ["RAYSEARCH_CACHE"] = str(Path(scratch) / "cache")
        manifest = drawn(options.data, Path(scratch), TRAIN, VAL, options.seed)
        backbones = f"densenet121=bundled,vgg19={options.vgg19},{DECOY}=random"
        said, began = io.StringIO(), time.perf_counter()
        with contextlib.redirect_stdout(said):
            code = raysearch(["networks", "--data", str(manifest), "--backbones", backbones, "--json"])
        seconds = time.perf_counter() - began
    if code:
        raise SystemExit(code)
    told = json.loads(said.getvalue())
    ranked = [{name: one[name] for name in SHOWN} for one in told["networks"]]
    for one in ranked:
        one["origin"] = Path(one["origin"]).name
    line = {
        "benchmark": "which_network",
        "data": options.data.name,
        "seed": options.seed,
        "images": told["images"],
        "ranking": [one["backbone"] for one in ranked],
        "decoy_last_and_surely_behind": ranked[-1]["backbone"] == DECOY and ranked[-1]["surely_behind"],
        "seconds": round(seconds, 1),
        "networks": ranked,
    }
    print(json.dumps({**line, **machine()}))


if __name__ == "__main__":
    main()

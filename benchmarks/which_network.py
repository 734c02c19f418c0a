"""Whether heads on frozen features rank networks as one would: seconds of each, the ranking, a decoy among them.

    python benchmarks/which_network.py [--data PATH/TO/cifar10.zip] [--vgg19 PATH/TO/FILE.safetensors] [--seed 0]
                                       [--fine-tune TRIALS]

1,500 training and 500 validation images of the source are drawn as `payoff.py` draws them. `raysearch networks` ranks
the bundled DenseNet121, VGG19 with the weights of a file (both were trained on CIFAR-100) and ResNet18 with random
weights, which must come last. The cache is empty, so the seconds of a network are those of its features and heads; all
seconds are those of the command, with decoding and with what measuring predictions takes. Prints one JSON line.

With --fine-tune, the ranking by heads is held to the one after fine-tuning: a search of `which_network --preset quick
--refits 0` with each network by itself, TRIALS trials each; and all of them in one search, with as many trials together
for the two that are left. The line then has the seconds of both, what the best trial of each came to on validation and
on test images, and whether the one search chose what the many would have chosen.
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
from typing import Any

from machine import machine
from payoff import DATA, drawn

from raysearch.cli.main import main as raysearch
from raysearch.run import Run

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
    parser.add_argument("--fine-tune", type=int, metavar="TRIALS")
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
        trials = options.fine_tune
        tuned = None if trials is None else fine_tuned(manifest, backbones, trials, options.seed, Path(scratch))
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
    if tuned is not None:
        line["fine_tuned"] = tuned
    print(json.dumps({**line, **machine()}))


def fine_tuned(manifest: Path, backbones: str, trials: int, seed: int, scratch: Path) -> dict[str, object]:
    """Each network searched by itself, and all of them in one search.

    Args:
        manifest: the images.
        backbones: NAME=WEIGHTS,…
        trials: of each network.
        seed: of the searches.
        scratch: where runs are kept.
    """
    alone = {name.partition("=")[0]: searched(manifest, name, trials, seed, scratch) for name in backbones.split(",")}
    together = searched(manifest, backbones, 2 * trials, seed, scratch)
    order = sorted(alone, key=lambda name: alone[name]["validation"], reverse=True)
    return {
        "ranking": order,
        "alone": alone,
        "seconds_alone": round(sum(one["seconds"] for one in alone.values()), 1),
        "together": together,
        "same_choice": together["backbone"] == order[0],
    }


def searched(manifest: Path, backbones: str, trials: int, seed: int, scratch: Path) -> dict[str, Any]:
    """A search of `which_network` with these networks: what it chose, what that is worth, and how long it took."""
    began = time.perf_counter()
    name = f"tuned-{backbones.count(',')}-{backbones.partition('=')[0]}"
    how = {
        "preset": "quick",
        "trials": trials,
        "refits": 0,
        "seed": seed,
        "results": scratch / "results",
        "quiet": True,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        run = Run.start("which_network", manifest, backbone=backbones, run_name=name, **how)
    evaluation = run.evaluation
    assert evaluation is not None
    return {
        "backbone": run.best.recipe.backbone,
        "validation": float(run.trials["val_accuracy"].max()),
        "test": evaluation["test"]["accuracy"]["mean"],
        "seconds": round(time.perf_counter() - began, 1),
    }


if __name__ == "__main__":
    main()

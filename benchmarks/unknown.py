"""How well the winner of a run tells images of another kind: `raysearch predict --unknown`.

    python benchmarks/unknown.py RUN --data SOURCE --other DIR_OR_NPZ

Prints one JSON line: the area under the ROC curve of the test images of SOURCE against all images of the other source;
the share of the others that is told at 5 % false alarms; and at the limit that is stored with the model, the share of
the others that is told and that of the test images, which is to be near 5 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from machine import machine

from raysearch.record.folder import locate
from raysearch.winner.best import load_best
from raysearch.winner.dataset import dataset_for
from raysearch.winner.detection import measure_detection


def main() -> None:
    """Measure the distances of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", required=True)
    parser.add_argument("--other", required=True)
    options = parser.parse_args()
    best = load_best(locate(options.run))
    test = dataset_for(best, options.data).test
    found = measure_detection(best, [test.pixels], options.other, torch.device("cpu"))
    about = {"run": Path(options.run).name, "backbone": best.recipe.backbone, "known_images": len(test)}
    figures = {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
    print(json.dumps({"benchmark": "unknown", **about, "other": options.other, **figures, "machine": machine()}))


if __name__ == "__main__":
    main()

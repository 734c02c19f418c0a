"""Whether a trained embedding finds more images of the class that was asked for: precision at 10 and 20.

    python benchmarks/similarity.py [--data PATH/TO/cifar10-mini.zip] [--seeds 0 1 2] [--samples 10] [--heads 64]

Four networks make vectors of the test images: `simple_cnn` trained from scratch (`--space baseline`, its default,
pooled features), the bundled DenseNet121 with average and with maximum pooling, and the embeddings of `--space
similarity` on the same DenseNet121. What is trained is trained once a seed of the search. Prints one JSON line: for
each, the precision among the first 10 and 20 results on samples of 256 and 512 test images and on all of them, a mean
over seeds and samples with the standard deviations over either, and what chance gives.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

from raysearch.data.dataset import Dataset
from raysearch.data.pixels import load
from raysearch.data.reading import AS_IT_IS
from raysearch.insight.embedder import Embedder
from raysearch.insight.index import Index, Maker, Measured, measure
from raysearch.models.weights import load_weights
from raysearch.run import Run

FROZEN = "densenet121"
CPU = torch.device("cpu")


def main() -> None:
    """Train, look at the test images, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10-mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=15, help="of the network from scratch")
    parser.add_argument("--results", type=Path, help="keeps the runs there, and takes those that are there already")
    options = parser.parse_args()
    dataset = load(options.data, progress=False)
    found: dict[str, list[list[Measured]]] = {}
    with tempfile.TemporaryDirectory(prefix="raysearch-similarity-") as scratch:
        for name, embedder in embedders(options, options.results or Path(scratch), dataset):
            index = of_test_images(dataset, embedder)
            found.setdefault(name, []).append(measure(index, repeats=options.samples))
    line = {
        "benchmark": "similarity",
        "data": Path(options.data).name,
        "images": {name: len(split) for name, split in dataset.splits.items()},
        "seeds": options.seeds,
        "samples": options.samples,
        "networks": {name: over_seeds(rows) for name, rows in found.items()},
    }
    print(json.dumps({**line, "machine": machine()}))


def embedders(options: argparse.Namespace, scratch: Path, dataset: Dataset) -> Iterator[tuple[str, Embedder]]:
    """Each network; those that are trained once a seed."""
    weights = load_weights(FROZEN, "bundled", 0)
    for pooling in ("avg", "max"):
        how = (dataset.image_size, "squash", pooling, CPU)
        yield f"{FROZEN} {pooling}", Embedder.of_backbone(FROZEN, weights, *how)
    for seed in options.seeds:
        how_trained = {"data": options.data, "seed": seed, "results": scratch, "quiet": True, "refits": 1, "folds": 0}
        frozen = {"backbone": FROZEN, "weights": "bundled", "trials": options.heads}
        yield "embedding head", trained("similarity", **frozen, **how_trained)
        yield "simple_cnn from scratch", trained("baseline", trials=1, max_epochs=options.epochs, **how_trained)


def trained(space: str, **flags: Any) -> Embedder:
    """The winner of a search."""
    folder = flags["results"] / f"{space}-{flags['seed']}"
    with contextlib.redirect_stdout(sys.stderr):
        there = (folder / "evaluation.json").is_file()
        run = Run.open(folder) if there else Run.start(space, run_name=folder.name, **flags)
    return Embedder.of_best(run.best, None, CPU)


def of_test_images(dataset: Dataset, embedder: Embedder) -> Index:
    """The test images by what a network makes of them."""
    test = dataset.test
    return Index(
        test.paths,
        np.array(dataset.classes)[test.labels],
        np.full(len(test), "test"),
        embedder.vectors(test, "test", dataset.fingerprint),
        Maker.of(embedder, dataset, AS_IT_IS, None),
    )


def over_seeds(rows: list[list[Measured]]) -> dict[str, dict[str, float | None]]:
    """The figures of one network, by what was searched in and how many results count."""
    figures = {}
    for alike in zip(*rows, strict=True):
        one, precisions = alike[0], [row.precision for row in alike]
        spreads = [row.spread for row in alike if row.spread is not None]
        figures[f"of {one.images} images, first {one.first}"] = {
            "precision": round(float(np.mean(precisions)), 4),
            "over_samples": round(float(np.mean(spreads)), 4) if spreads else None,
            "over_seeds": round(float(np.std(precisions, ddof=1)), 4) if len(precisions) > 1 else None,
            "chance": round(one.chance, 4),
        }
    return figures


if __name__ == "__main__":
    main()

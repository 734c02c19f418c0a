"""What an audit finds of what was planted: wrong labels, and copies of test images among the training images.

    python benchmarks/audit.py --data SOURCE [--weights bundled] [--seeds 0 1 2] [--planted 60] [--out FILE.jsonl]

Labels: 5 % of all labels are made wrong at random. Of the 5 % of images whose label is the least likely out of fold,
the share that was planted is precision and recall at once; beside it the same by scikit-learn's logistic regression on
the same features with cleanlab, as its tutorials do it; and precision and recall of what is flagged.

Copies: `--planted` test images each are put among the training images as they are, re-encoded (JPEG, quality 50 to 90),
mirrored and cropped; said are the shares that are found, and, against false alarms,
other pairs that are found, for 1,000 images: all but true copies that the source has itself are false alarms.

Prints one JSON line for each seed and each of the two. With --whole, first one more: seconds and peak memory of the
command `raysearch audit --out` on all images, with an empty cache and again with what the first left in it.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from numpy.typing import NDArray
from peer import run
from PIL import Image

from raysearch.activations.neighbours import Neighbours
from raysearch.data.dataset import Dataset, Split
from raysearch.data.pixels import load
from raysearch.insight.duplicates import find_duplicates
from raysearch.insight.embedder import Embedder
from raysearch.insight.label_errors import find_label_errors
from raysearch.models.weights import Weights, load_weights
from raysearch.training.heads.out_of_fold import FOLDS, out_of_fold

SHARE = 0.05
BACKBONE = "densenet121"
KINDS = ("exact", "re-encoded", "mirrored", "cropped")


def main() -> None:
    """Plant and look, for every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", default="bundled")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[0, 1, 2], help="of what is planted; none: --whole alone"
    )
    parser.add_argument("--planted", type=int, default=60)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.whole:
        print(json.dumps({"what": "whole", **whole(options.data, options.weights), **machine()}), flush=True)
    weights = load_weights(BACKBONE, options.weights, 0)
    dataset = load(options.data, keep_copies=True)
    embedder = _embedder(dataset, weights)
    images = Split.join(dataset.train, dataset.val, dataset.test)
    features = embedder.of_dataset(dataset)
    about = {"data": Path(options.data).name, "weights": weights.origin, "images": len(images), **machine()}
    for seed in options.seeds:
        lines = [
            {"what": "labels", "seed": seed, **labels(features, images.labels, len(dataset.classes), seed)},
            {"what": "copies", "seed": seed, **copies(dataset, weights, options.planted, seed)},
        ]
        for line in lines:
            text = json.dumps({**line, **about})
            print(text, flush=True)
            if options.out is not None:
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(text + "\n")


def whole(data: str, weights: str) -> dict[str, object]:
    """Seconds and peak memory of the command, twice; it is the only child whose memory is looked at."""
    found: dict[str, object] = {"data": Path(data).name}
    source = str(Path(data).resolve()) if Path(data).exists() else data
    with tempfile.TemporaryDirectory(prefix="raysearch-audit-") as folder:
        words = ["audit", "--data", source, "--weights", weights, "--out", f"{folder}/audit", "--json"]
        for name in ("cold", "warm"):
            ended = run([sys.executable, "-m", "raysearch", *words], Path(folder), Path(folder) / "cache")
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # Linux has KiB
            found |= {f"{name}_seconds": round(ended.seconds, 1), f"{name}_peak_mib": round(peak)}
        found["page_mib"] = round((Path(folder) / "audit" / "audit.html").stat().st_size / 2**20, 1)
    return found


def labels(features: NDArray[np.float32], true: NDArray[np.int64], classes: int, seed: int) -> dict[str, float]:
    """What is found of wrong labels."""
    generator = np.random.default_rng(seed)
    planted = generator.choice(len(true), round(SHARE * len(true)), replace=False)
    given = true.copy()
    given[planted] = (true[planted] + generator.integers(1, classes, len(planted))) % classes
    began = time.perf_counter()
    found = find_label_errors(given, out_of_fold(features, given, classes, seed=seed))
    seconds = time.perf_counter() - began
    return {
        "at_5_percent": _at(found.confidence, planted),
        "flagged": len(found.places),
        "precision": round(float(np.isin(found.places, planted).mean()), 4) if len(found.places) else 0.0,
        "recall": round(float(np.isin(planted, found.places).mean()), 4),
        "plain_at_5_percent": _at(_plain(features, given, seed), planted),
        "seconds": round(seconds, 1),
    }


def copies(dataset: Dataset, weights: Weights, planted: int, seed: int) -> dict[str, object]:
    """What is found of copies, through a source on the disk and the intake."""
    generator = np.random.default_rng(seed)
    test = np.asarray(dataset.test.pixels)
    originals = generator.choice(len(test), 4 * planted, replace=False)
    changed = [_changed(test[place], KINDS[number // planted], generator) for number, place in enumerate(originals)]
    added = dataset.test.labels[originals]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "planted.npz"
        parts = {
            "train": (np.concatenate([dataset.train.pixels, np.stack(changed)]), [*dataset.train.labels, *added]),
            "val": (np.asarray(dataset.val.pixels), dataset.val.labels),
            "test": (test, dataset.test.labels),
        }
        arrays: dict[str, Any] = {f"{name}_images": pixels for name, (pixels, _) in parts.items()}
        arrays |= {f"{name}_labels": np.array(of) for name, (_, of) in parts.items()}
        np.savez(file, **arrays)
        loaded = load(str(file), keep_copies=True, cache=Path(folder), progress=False)
    everything = Split.join(loaded.train, loaded.val, loaded.test)
    began = time.perf_counter()
    near, _ = Neighbours(_embedder(loaded, weights).of_dataset(loaded)).others(3)
    pairs = {(pair.image, pair.other) for pair in find_duplicates(everything, near)}
    first, offset = len(dataset.train), len(loaded.train) + len(loaded.val)
    wanted = {(first + number, offset + int(place)): KINDS[number // planted] for number, place in enumerate(originals)}
    shares = {
        kind: round(sum(pair in pairs for pair, of in wanted.items() if of == kind) / planted, 4) for kind in KINDS
    }
    others = [pair for pair in pairs if pair not in wanted]
    return {
        "found": shares,
        "other_pairs_per_1000_images": round(1000 * len(others) / len(everything), 2),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _embedder(dataset: Dataset, weights: Weights) -> Embedder:
    return Embedder.of_backbone(BACKBONE, weights, dataset.image_size, dataset.fit, "avg", torch.device("cpu"))


def _at(confidence: NDArray[np.float64], planted: NDArray[np.int64]) -> float:
    """Precision, and recall, among as many images as were planted."""
    return round(float(np.isin(np.argsort(-confidence)[: len(planted)], planted).mean()), 4)


def _plain(features: NDArray[np.float32], given: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=300)
    probabilities = cross_val_predict(model, features, given, cv=folds, method="predict_proba")
    return find_label_errors(given, probabilities).confidence


def _changed(image: NDArray[np.uint8], kind: str, generator: np.random.Generator) -> NDArray[np.uint8]:
    if kind == "exact":
        return image
    if kind == "mirrored":
        return image[:, ::-1]
    seen = Image.fromarray(image)
    if kind == "re-encoded":
        stream = io.BytesIO()
        seen.save(stream, "JPEG", quality=int(generator.integers(50, 91)))
        return np.asarray(Image.open(stream).convert("RGB"))
    side = image.shape[0]
    size = round(side * generator.uniform(0.75, 0.95))
    x, y = generator.integers(0, side - size + 1, 2).tolist()
    return np.asarray(seen.crop((x, y, x + size, y + size)).resize((side, side), Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main()

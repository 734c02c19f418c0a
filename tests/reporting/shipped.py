"""What a search with a final comparison leaves of it: events of its log, and figures of what is shipped."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysearch.intervals import wilson
from raysearch.winner.confidence import calibration_error, reliability
from raysearch.winner.evaluate import detailed_metrics
from raysearch.winner.shipment import Confidence

CLASSES = ["cat", "dog"]


def race(trial: str, folds: int, mean: float, low: float, high: float, images: int = 600) -> dict[str, Any]:
    """A challenger was compared with t0000 after some of three folds."""
    gain = {"mean": mean, "low": low, "high": high, "images": images * folds // 3}
    return {"event": "race", "against": "t0000", "trial": trial, "folds": folds, "goes_on": mean > 0, **gain}


def trained(name: str, seconds: float = 10.0) -> dict[str, Any]:
    """A training on a fold, or a refit, is over."""
    return {"event": name.split("-")[0], "name": name, "trial": name.split("-")[1], "seed": 1000, "seconds": seconds}


BEGUN = {
    "event": "finals",
    "finalists": ["t0000", "t0003", "t0005"],
    "confidence": 0.9,
    "folds": 3,
    "challengers": 2,
    "seeds": 2,
    "refits": 3,
    "on": "train+val",
}
KEPT: list[dict[str, Any]] = [
    BEGUN,
    trained("fold-t0000-1of3-1000"),
    race("t0003", 1, 0.01, -0.02, 0.04),
    race("t0005", 1, -0.03, -0.06, 0.0),
    race("t0003", 2, 0.012, -0.01, 0.034),
    race("t0003", 3, 0.004, -0.009, 0.017),
    trained("refit-t0000-1000", 30.0),
    {"event": "chosen", "trial": "t0000", "default": "t0000", "shipped": "averaged", "points": [], "temperature": 1.5},
]
"""The default is kept: one challenger is dropped after a fold, the other is better by what chance explains."""
REPLACED: list[dict[str, Any]] = [
    *KEPT[:-3],
    race("t0003", 3, 0.021, 0.004, 0.038),
    {"event": "chosen", "trial": "t0003", "default": "t0000", "shipped": "averaged", "points": [], "temperature": 1.5},
]


def answers(images: int, seed: int, right: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two classes, (n, 2), about as sure as right, and the labels."""
    random = np.random.default_rng(seed)
    sure = random.beta(8 * right, 8 * (1 - right), images) * 0.5 + 0.5
    labels = random.integers(2, size=images)
    said = np.where(random.random(images) < sure, labels, 1 - labels)
    second = np.where(said == 1, sure, 1 - sure)
    return np.stack([1 - second, second], axis=1), labels


def share(accuracy: float, images: int) -> dict[str, float]:
    low, high = wilson(accuracy, images)
    return {"accuracy": accuracy, "low": low, "high": high}


def shipped(
    kind: str = "averaged", threshold: float | None = None, images: int = 2000, test_images: int = 1000
) -> dict[str, Any]:
    """What evaluation.json says of what is shipped; `images` of 0: nothing is known out of fold."""
    import torch

    known, truth = answers(max(images, 1), 0)
    found, labels = answers(test_images, 1)
    sure = Confidence.of(known, truth, 1.5, threshold) if images else Confidence()
    boasting = np.where(found > 0.5, found**0.5, 0)
    boasting = np.where(found > 0.5, boasting, 1 - boasting[:, ::-1])
    figures = {
        "kind": kind,
        "cost": {"mirror": 2, "ensemble": 4}.get(kind, 1),
        "temperature": sure.temperature,
        "threshold": threshold,
        "test": detailed_metrics(torch.from_numpy(np.log(found)), labels, CLASSES),
        "calibration_error": {
            "before": calibration_error(boasting, labels),
            "after": calibration_error(found, labels),
        },
        "trainings": {"single": 1, "ensemble": 4}.get(kind, 3),
        "images": images,
        "reliability": {"before": reliability(boasting, labels), "after": reliability(found, labels)},
        "curve": sure.points(),
        "promises": sure.promises(found, labels),
    }
    if images:
        figures["out_of_fold"] = detailed_metrics(torch.from_numpy(np.log(known)), truth, CLASSES)
    if kind == "ensemble":
        members = [{"trial": "t0000", "weight": 0.75, "networks": 3}, {"trial": "t0003", "weight": 0.25, "networks": 1}]
        figures["members"] = members
    return figures


def frontier(out_of_fold: float = 0.68, test: float = 0.68, images: int = 2000) -> list[dict[str, Any]]:
    """Four things that could be shipped, each a little better than the one before."""
    kinds = {"single": 1, "averaged": 1, "mirror": 2, "ensemble": 4}
    return [
        {
            "kind": kind,
            "cost": cost,
            "out_of_fold": share(out_of_fold + 0.008 * i, images),
            "test": share(test + 0.007 * i, images),
        }
        for i, (kind, cost) in enumerate(kinds.items())
    ]


def with_shipped(evaluation: dict[str, Any], **about: Any) -> dict[str, Any]:
    """An evaluation that knows what is shipped; see `shipped`."""
    figures = shipped(**about)
    points = frontier() if figures["images"] else []
    return evaluation | {"shipped": figures, "frontier": points, "refits": 3}

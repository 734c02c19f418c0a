"""Measures finished models: one model on one split, in eval mode and fp32, and the spread over several models.

The figures are those of `raysearch.training.metrics`, the ones that the search itself is led by.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from raysearch.data.pixels import Dataset, Split, load
from raysearch.errors import InputError
from raysearch.models.boundary import prepare
from raysearch.record.metric import larger_is_better
from raysearch.training.metrics import classification_metrics
from raysearch.training.numerics import autocast, full_precision
from raysearch.winner.best import Best

Metrics = dict[str, Any]
"""accuracy, macro_f1, loss, auroc (two classes), per_class: {class: {precision, recall, f1, support}}, confusion:
rows true, columns predicted."""

_PER_CLASS = ("precision", "recall")


class Augment(Protocol):
    """An augmented view of images, as `raysearch.data.augment.Augmenter` makes it."""

    def __call__(self, images: np.ndarray, indices: np.ndarray, view: int) -> np.ndarray:
        """The images (n, h, w, 3) as that view shows them; `indices` are their places in the split."""


@dataclass(frozen=True)
class Evaluation:
    """One model on one split."""

    metrics: Metrics
    probabilities: np.ndarray
    """float64 (n, classes), in the split's order."""


def evaluate_model(
    model: nn.Module,
    split: Split,
    classes: Sequence[str],
    device: torch.device | str = "cpu",
    *,
    augment: Augment | None = None,
    view: int = 1,
    batch_size: int = 256,
) -> Evaluation:
    """Measures one model on one split, in eval mode and fp32.

    Args:
        model: takes prepared images, returns logits (n, classes).
        split: labels are indices into `classes`.
        classes: names in the order of the logits.
        device: where the model goes; it stays there.
        augment: makes view `view` of the images before the model sees them (for "train_augmented"); None: as they are.
        view: which augmented view.
        batch_size: images at a time.

    Raises:
        InputError: the split has no images.
    """
    logits = torch.cat(list(logits_of(model, split, device, augment=augment, view=view, batch_size=batch_size)))
    return Evaluation(detailed_metrics(logits, split.labels, classes), torch.softmax(logits.double(), dim=1).numpy())


def logits_of(
    model: nn.Module,
    split: Split,
    device: torch.device | str = "cpu",
    *,
    augment: Augment | None = None,
    view: int = 1,
    batch_size: int = 256,
) -> Iterator[torch.Tensor]:
    """The logits of a split, float32 on the CPU, batch by batch, in order; arguments as of `evaluate_model`.

    The model's own modes are put back at the end.
    """
    if not len(split.labels):
        raise InputError("the split has no images, so there is nothing to measure")
    device = torch.device(device)
    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    try:
        for start in range(0, len(split.labels), batch_size):
            images = np.asarray(split.pixels[start : start + batch_size])
            if augment is not None:
                images = augment(images, np.arange(start, start + len(images)), view)
            with full_precision(device), torch.inference_mode(), autocast(device, "fp32"):
                batch = model(prepare(images, device)).float().cpu()
            yield batch
    finally:
        for module, training in modes.items():
            module.training = training


def detailed_metrics(logits: torch.Tensor, labels: np.ndarray, classes: Sequence[str]) -> Metrics:
    """The training loop's metrics of logits (n, classes), by class, with F1, support and the confusion matrix."""
    flat = classification_metrics(logits, torch.as_tensor(labels), classes)
    counts = confusion(labels, logits.argmax(dim=1).numpy(), len(classes))
    per_class = {}
    for i, name in enumerate(classes):
        row = {key: float(flat.pop(f"{key}_{name}")) for key in _PER_CLASS}
        positives = counts[i].sum() + counts[:, i].sum()
        f1 = 2 * counts[i, i] / positives if positives else 0.0
        per_class[name] = {**row, "f1": float(f1), "support": int(counts[i].sum())}
    return {**{key: float(value) for key, value in flat.items()}, "per_class": per_class, "confusion": counts.tolist()}


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts, int64 (classes, classes): rows are the true class, columns the predicted one."""
    flat = np.bincount(np.asarray(labels) * n_classes + predicted, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes).astype(np.int64)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """{"mean", "std", "values"}; the sample's standard deviation (n - 1), None where there is but one value."""
    finite = all(math.isfinite(value) for value in values)
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 and finite else None,
        "values": list(values),
    }


def over_models(evaluated: Sequence[Metrics]) -> dict[str, Any]:
    """The metrics of several models on the same split, each as its `spread`.

    The support is the images', so it is one number; the confusion matrix is the mean over the models.
    """
    first = evaluated[0]
    scalars = [key for key in first if isinstance(first[key], float) and all(key in metrics for metrics in evaluated)]
    return {
        **{key: spread([metrics[key] for metrics in evaluated]) for key in scalars},
        "per_class": {
            name: {
                key: row[key]
                if key == "support"
                else spread([metrics["per_class"][name][key] for metrics in evaluated])
                for key in row
            }
            for name, row in first["per_class"].items()
        },
        "confusion": np.mean([metrics["confusion"] for metrics in evaluated], axis=0).tolist(),
    }


def figure(split: Mapping[str, Any], metric: str) -> Any:
    """The figure that a `--metric` names in one split of a document: `recall_<class>` lies under the class."""
    if metric in split:
        return split[metric]
    kind, _, name = metric.partition("_")
    return split["per_class"][name][kind]


def evaluation_document(
    splits: Mapping[str, Sequence[Metrics]],
    *,
    trial: str,
    metric: str,
    best_validation: float,
    chosen_by: Sequence[Metrics],
    others: Mapping[str, tuple[str, Sequence[Metrics]]],
) -> dict[str, Any]:
    """What evaluation.json holds.

    Args:
        splits: the winner's metrics, a model (fresh seed) each, of "train", "train_augmented", "val" and "test".
        trial: the winner's name.
        metric: what the search was led by, e.g. "accuracy".
        best_validation: the winner's figure of it in the search, on the validation images that chose.
        chosen_by: the winner's models on those images; none if they were trained on them.
        others: "default" and "head": the trial's name, and its models' metrics on test.

    Returns: the winner's splits at the top (see `over_models`); "optimism": by how much the search's validation
        figure is better than the mean over the fresh seeds; "others": {name: {"trial", "test"}}.
    """
    document: dict[str, Any] = {"trial": trial, "metric": metric}
    document |= {name: over_models(evaluated) for name, evaluated in splits.items()}
    document["best_validation"] = best_validation
    document["optimism"] = None
    if chosen_by:
        flattery = best_validation - figure(over_models(chosen_by), metric)["mean"]
        document["optimism"] = flattery if larger_is_better(metric) else -flattery
    document["others"] = {name: {"trial": t, "test": over_models(evaluated)} for name, (t, evaluated) in others.items()}
    return document


def dataset_for(best: Best, source: str, *, seed: int = 0) -> Dataset:
    """The images of SOURCE as the classifier wants them, labels numbered as the classifier numbers them, by name.

    Raises:
        InputError: SOURCE has classes that the classifier does not know, or cannot be read.
    """
    dataset = load(source, image_size=best.recipe.image_size, fit=best.recipe.fit, seed=seed)
    unknown = [name for name in dataset.classes if name not in best.labels]
    if unknown:
        raise InputError(
            f"{source!r} has classes that the classifier does not know: {', '.join(unknown)}; "
            f"it knows {', '.join(best.labels)}"
        )
    places = np.array([best.labels.index(name) for name in dataset.classes], dtype=np.int64)

    def renumbered(split: Split) -> Split:
        return Split(split.pixels, places[split.labels], split.paths)

    return replace(
        dataset,
        classes=best.labels,
        train=renumbered(dataset.train),
        val=renumbered(dataset.val),
        test=renumbered(dataset.test),
    )

"""Measures finished models: one model on one split, in eval mode and fp32, and the spread over several models.

The figures are those of `raysearch.training.metrics`, the ones that the search itself is led by.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from raysearch.data.dataset import Split
from raysearch.errors import InputError
from raysearch.models.head import WithEmbeddings, embeds
from raysearch.record.evaluation import ClassFigures, ClassSpreads, EvaluationDocument, Figures, Metrics, Spread
from raysearch.record.metric import RANKED, RETRIEVAL, class_metric, larger_is_better, measured, parts
from raysearch.training.answers import exact_rows
from raysearch.training.decisions import Decisions
from raysearch.training.retrieval import retrieval_metrics

_MOST_RANKED = 50_000_000
"""Logits in all of which images are ranked class by class, which sorts them: a minute's work."""

_MOST_RETRIEVED = 20_000
"""Images that are compared with each other: some seconds' work."""


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
    """Measures one model on one split, in eval mode and fp32; with an embedding head, by its embeddings too.

    Args:
        model: takes prepared images, returns logits (n, classes).
        split: labels are indices into `classes`.
        classes: names in the order of the logits.
        device: where the model goes; it stays there.
        augment: makes view `view` of the images before the model sees them (for "train_augmented"); None: as they are.
        view: which augmented view.
        batch_size: images at a time; fewer where memory runs out.

    Raises:
        InputError: the split has no images.
    """
    asked = WithEmbeddings(model) if embeds(model) and len(split.labels) <= _MOST_RETRIEVED else model
    rows = torch.cat(list(logits_of(asked, split, device, augment=augment, view=view, batch_size=batch_size)))
    logits, embeddings = rows[:, : len(classes)], rows[:, len(classes) :]
    metrics = detailed_metrics(logits, split.labels, classes)
    if embeddings.shape[1]:
        metrics = cast("Metrics", metrics | retrieval_metrics(embeddings, torch.as_tensor(split.labels)))
    return Evaluation(metrics, torch.softmax(logits.double(), dim=1).numpy())


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
    size = batch_size
    try:
        for start in range(0, len(split.labels), batch_size):
            images = np.asarray(split.pixels[start : start + batch_size])
            if augment is not None:
                images = augment(images, np.arange(start, start + len(images)), view)
            rows, size = exact_rows(model, images, device, size)
            yield rows
    finally:
        for module, training in modes.items():
            module.training = training


def detailed_metrics(
    logits: torch.Tensor, labels: np.ndarray, classes: Sequence[str], threshold: float | None = None
) -> Metrics:
    """The training loop's metrics of what a classifier answers, by class, with F1, support and the confusion matrix.

    Log-loss and what ranks are of its probabilities, as they are, whatever the threshold.

    Args:
        logits: shape (n, classes), calibrated if the threshold is of calibrated probabilities.
        labels: shape (n,).
        classes: in their order.
        threshold: of two classes: from which probability of the second on it is the answer; None: the likelier is.
    """
    also = RANKED if logits.numel() <= _MOST_RANKED else ()
    decisions = Decisions(logits, threshold)
    flat = decisions.figures(torch.arange(len(labels)), torch.as_tensor(labels), classes, also)
    counts = confusion(labels, decisions.said.numpy(), len(classes))
    per_class: dict[str, ClassFigures] = {}
    for i, name in enumerate(classes):
        precision, recall, f1 = (flat.pop(f"{kind}:{name}") for kind in ("precision", "recall", "f1"))
        support = int(counts[i].sum())
        per_class[name] = {"precision": precision, "recall": recall, "f1": f1, "support": support}
    scalars = {key: float(value) for key, value in flat.items()}
    return cast("Metrics", {**scalars, "per_class": per_class, "confusion": counts.tolist()})


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts, int64 (classes, classes): rows are the true class, columns the predicted one."""
    flat = np.bincount(np.asarray(labels) * n_classes + predicted, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes).astype(np.int64)


def spread(values: Sequence[float]) -> Spread:
    """One figure of several models: mean, deviation, and the values themselves."""
    finite = all(math.isfinite(value) for value in values)
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 and finite else None,
        "values": list(values),
    }


def over_models(evaluated: Sequence[Metrics]) -> Figures:
    """The metrics of several models on the same split, each as its `spread`; those that all of them have.

    The support is the images', so it is one number; the confusion matrix is the mean over the models.
    """
    scalars = [{key: value for key, value in metrics.items() if isinstance(value, float)} for metrics in evaluated]
    per_class: dict[str, ClassSpreads] = {}
    for name in evaluated[0]["per_class"]:
        rows = [metrics["per_class"][name] for metrics in evaluated]
        per_class[name] = {
            "precision": spread([row["precision"] for row in rows]),
            "recall": spread([row["recall"] for row in rows]),
            "f1": spread([row["f1"] for row in rows]),
            "support": rows[0]["support"],
        }
    figures = {
        **{key: spread([one[key] for one in scalars]) for key in scalars[0] if all(key in one for one in scalars)},
        "per_class": per_class,
        "confusion": np.mean([metrics["confusion"] for metrics in evaluated], axis=0).tolist(),
    }
    return cast("Figures", figures)


def figure(split: Figures, metric: str) -> Spread:
    """The figure that a `--metric` names in one split of a document: `recall:<class>` lies under the class."""
    found: Mapping[str, Any] = split
    if len(several := parts(metric)) > 1:
        each = zip(*(figure(split, one)["values"] for one in several), strict=True)
        return spread([measured(dict(zip(several, values, strict=True)), metric) for values in each])
    if metric in found:
        return found[metric]
    kind, name = class_metric(metric) or (metric, "")
    return found["per_class"][name][kind]


def evaluation_document(
    splits: Mapping[str, Sequence[Metrics]],
    *,
    trial: str,
    metric: str,
    best_validation: float,
    chosen_by: Sequence[Metrics],
    others: Mapping[str, tuple[str, Sequence[Metrics]]],
) -> EvaluationDocument:
    """What evaluation.json holds.

    Args:
        splits: the winner's metrics, a model (fresh seed) each, of "train", "train_augmented", "val" and "test".
        trial: the winner's name.
        metric: what the search was led by, e.g. "accuracy".
        best_validation: the winner's figure of it in the search, on the validation images that chose.
        chosen_by: the winner's models on those images; none if they were trained on them.
        others: "default" and "head": the trial's name, and its models' metrics on test.
    """
    optimism = None
    ranked = [one for one in parts(metric) if one in (*RANKED, *RETRIEVAL)]
    if chosen_by and all(name in one for one in chosen_by for name in ranked):
        flattery = best_validation - figure(over_models(chosen_by), metric)["mean"]
        optimism = flattery if larger_is_better(metric) else -flattery
    document = {
        "trial": trial,
        "metric": metric,
        **{name: over_models(evaluated) for name, evaluated in splits.items()},
        "best_validation": best_validation,
        "optimism": optimism,
        "others": {name: {"trial": t, "test": over_models(evaluated)} for name, (t, evaluated) in others.items()},
    }
    return cast("EvaluationDocument", document)

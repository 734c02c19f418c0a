"""What is measured on a split, and which of it a search may be led by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def classification_metrics(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Figures of a classifier on some images, all computed in float64 on the CPU.

    Args:
        logits: float, shape (n, c).
        labels: integer in [0, c), shape (n,).
        classes: the c names, in the order of the logits.

    Returns: loss (mean cross-entropy: no class weights, no smoothing, so that it compares across recipes), accuracy,
        balanced_accuracy (mean recall), macro_f1 (mean F1), auroc (two classes only, the second being the positive
        one; absent if all labels are equal), then recall_<class> and precision_<class>. The two means run over the
        classes that occur (as a label; for F1 also as a prediction). 0 / 0 counts as 0.
    """
    if logits.shape != (len(labels), len(classes)) or not len(labels):
        raise ValueError(f"logits must have shape (n, c) = ({len(labels)}, {len(classes)}), got {tuple(logits.shape)}")
    return {name: figures.item() for name, figures in stacked_metrics(logits[None], labels, classes).items()}


def stacked_metrics(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
    """The same of k classifiers on the same images: logits (k, n, c) in, a float64 tensor (k,) a figure out."""
    logits, labels = logits.detach().cpu().double(), labels.detach().cpu().long()
    (k, n, c), predicted = logits.shape, logits.argmax(dim=2)
    first = c * torch.arange(k)[:, None]  # each classifier counts in bins of its own
    hits = torch.bincount((labels + first)[predicted == labels], minlength=k * c).view(k, c).double()
    true_count = torch.bincount(labels, minlength=c).double()
    predicted_count = torch.bincount((predicted + first).flatten(), minlength=k * c).view(k, c).double()
    recall, precision = _ratio(hits, true_count), _ratio(hits, predicted_count)
    f1, occurs = _ratio(2 * hits, true_count + predicted_count), true_count + predicted_count > 0
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(k), reduction="none")
    figures = {
        "loss": losses.view(k, n).mean(dim=1),
        "accuracy": hits.sum(dim=1) / n,
        "balanced_accuracy": recall[:, true_count > 0].mean(dim=1),
        "macro_f1": f1.sum(dim=1) / occurs.sum(dim=1),  # f1 is 0 where the class does not occur
    }
    if c == 2 and 0 < true_count[1] < n:
        figures["auroc"] = _auroc(logits[:, :, 1] - logits[:, :, 0], labels == 1)
    for name, r, p in zip(classes, recall.unbind(dim=1), precision.unbind(dim=1), strict=True):
        figures |= {f"recall_{name}": r, f"precision_{name}": p}
    return figures


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1), 0.0)


def _auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """Area under the ROC curve: how often a positive outranks a negative, ties counting half (Mann and Whitney).

    Scores (k, n) and whether each image is positive (n,): (k,), NaN where a score is not finite.
    """
    ascending = scores.sort(dim=1).values
    below, up_to = (torch.searchsorted(ascending, scores, right=ties).double() for ties in (False, True))
    mean_rank = (below + up_to + 1) / 2
    n_positive = int(positive.sum())
    rank_sum = mean_rank[:, positive].sum(dim=1)
    area = (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * (len(positive) - n_positive))
    return torch.where(torch.isfinite(scores).all(dim=1), area, math.nan)

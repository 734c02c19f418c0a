"""What is measured on a split, and which of it a search may be led by."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from raysearch.record.metric import RANKED, lacking, measured, parts


def classification_metrics(
    logits: Tensor, labels: Tensor, classes: Sequence[str], also: Collection[str] | None = ()
) -> dict[str, float]:
    """Figures of a classifier on some images, all computed in float64 on the CPU.

    Args:
        logits: float, shape (n, c).
        labels: integer in [0, c), shape (n,).
        classes: the c names, in the order of the logits.
        also: metrics that are wanted; what ranks (auroc, average_precision) sorts all images once a class, so it is
            measured only where it is among these. AUROC of two classes always is, unless this is None. The balance of
            several (`raysearch.record.metric.measured`) is there if it is among them.

    Returns: loss (mean cross-entropy: no class weights, no smoothing, so that it compares across recipes), accuracy,
        balanced_accuracy (mean recall), macro_f1 (mean F1), auroc and average_precision (means over the classes of
        each one's against all others; absent if all labels are equal), then recall:<class>, precision:<class> and
        f1:<class>. The means run over the classes that occur (as a label; for F1 also as a prediction). 0 / 0 counts
        as 0.
    """
    if logits.shape != (len(labels), len(classes)) or not len(labels):
        raise ValueError(f"logits must have shape (n, c) = ({len(labels)}, {len(classes)}), got {tuple(logits.shape)}")
    return {name: figures.item() for name, figures in stacked_metrics(logits[None], labels, classes, also).items()}


def stacked_metrics(
    logits: Tensor, labels: Tensor, classes: Sequence[str], also: Collection[str] | None = ()
) -> dict[str, Tensor]:
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
    some = [one for one in range(c) if 0 < true_count[one] < n]
    for name, area in zip(RANKED, (_auroc, _average_precision), strict=True):
        if some and also is not None and (name in also or (name == "auroc" and c == 2)):
            each = some[-1:] if c == 2 and name == "auroc" else some  # of two classes it is the same of both
            areas = [area(_against_all(logits, one), labels == one) for one in each]
            figures[name] = torch.stack(areas).mean(dim=0)
    for name, r, p, f in zip(classes, recall.unbind(1), precision.unbind(1), f1.unbind(1), strict=True):
        figures |= {f"recall:{name}": r, f"precision:{name}": p, f"f1:{name}": f}
    for name in also or ():
        if len(several := parts(name)) > 1:
            rows = ({one: figures[one][i].item() for one in several} for i in range(k))
            figures[name] = torch.tensor([measured(row, name) for row in rows], dtype=torch.float64)
    return figures


def lacked(metric: str, labels: Tensor, classes: Sequence[str]) -> list[str]:
    """Classes without whose images a metric is not defined on images of these labels (n,); see `lacking`."""
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    return lacking(metric, dict(zip(classes, counts, strict=True)))


def _against_all(logits: Tensor, one: int) -> Tensor:
    """What ranks images by how surely they are of class `one`, (k, n), of logits (k, n, c).

    Of two classes it is the difference of the logits, which tells apart what rounds to a probability of 1.
    """
    if logits.shape[2] == 2:
        return logits[:, :, one] - logits[:, :, 1 - one]
    return functional.log_softmax(logits, dim=2)[:, :, one].contiguous()


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1), 0.0)


def _auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """Area under the ROC curve: how often a positive outranks a negative, ties counting half (Mann and Whitney).

    Scores (k, n) and whether each image is positive (n,): (k,), NaN where a score is not finite.
    """
    ascending = scores.sort(dim=1).values
    found = scores[:, positive].sort(dim=1).values  # in this order they are looked up ten times as fast
    below, up_to = (torch.searchsorted(ascending, found, right=ties).double() for ties in (False, True))
    n_positive = found.shape[1]
    rank_sum = ((below + up_to + 1) / 2).sum(dim=1)
    area = (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * (len(positive) - n_positive))
    return torch.where(torch.isfinite(scores).all(dim=1), area, math.nan)


def _average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    """Area under the steps of precision over recall: the mean over the positives of the precision at each one's score.

    Scores (k, n) and whether each image is positive (n,): (k,), NaN where a score is not finite.
    """
    found = scores[:, positive].sort(dim=1).values
    before = [torch.searchsorted(ranked, found) for ranked in (scores.sort(dim=1).values, found)]
    at_least = [size - below for size, below in zip((len(positive), found.shape[1]), before, strict=True)]
    area = (at_least[1].double() / at_least[0]).mean(dim=1)
    return torch.where(torch.isfinite(scores).all(dim=1), area, math.nan)

"""How well images are found by their vectors: of the images that are most like one, how many are of its class."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from raysearch.models.head import LEAST_LENGTH
from raysearch.record.metric import RETRIEVAL

_CHUNK = 1 << 24
"""Similarities that are in memory at a time: 64 MiB."""


def wants_embeddings(metrics: Collection[str]) -> bool:
    """Whether one of these metrics is of embeddings, not of answers."""
    return not RETRIEVAL.keys().isdisjoint(metrics)


def retrieval_metrics(vectors: Tensor, labels: Tensor) -> dict[str, float]:
    """precision_at_10 and precision_at_20 of vectors (n, width), by the cosine of the angle between two.

    Each image is asked for once, and looked for among all others. Where there are fewer than 10 or 20 of these, all
    count; of a lone image it is 0.

    Args:
        vectors: float, shape (n, width), on the device where they are compared.
        labels: integer, shape (n,).
    """
    n, labels = len(vectors), labels.to(vectors.device)
    if n < 2:
        return dict.fromkeys(RETRIEVAL, 0.0)
    hits = dict.fromkeys(RETRIEVAL, 0)
    for queries, nearest in _nearest_others(functional.normalize(vectors, dim=1, eps=LEAST_LENGTH)):
        same = labels[nearest] == labels[queries, None]
        for name, first in RETRIEVAL.items():
            hits[name] += int(same[:, :first].sum())
    return {name: found / (n * min(RETRIEVAL[name], n - 1)) for name, found in hits.items()}


def _nearest_others(units: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some vectors at a time, and the places of the others (m, k) that are nearest to each, the nearest first."""
    n, most = len(units), max(RETRIEVAL.values())
    at_a_time = max(1, _CHUNK // n)
    for start in range(0, n, at_a_time):
        queries = slice(start, min(start + at_a_time, n))
        similar = units[queries] @ units.T
        similar.diagonal(start).fill_(-torch.inf)  # an image does not find itself
        yield queries, similar.topk(min(most, n - 1), dim=1).indices

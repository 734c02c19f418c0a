"""Precision at k is that of sklearn's neighbours, whatever is in memory at a time, and the best where classes part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysearch.activations.neighbours import Neighbours
from raysearch.training import retrieval
from raysearch.training.retrieval import retrieval_metrics


def cloud(n: int, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(n)
    labels = random.integers(3, size=n)
    vectors = random.normal(size=(n, width)) + np.eye(3, width)[labels]
    return torch.from_numpy(vectors.astype(np.float32)), torch.from_numpy(labels)


@pytest.mark.parametrize("n", [2, 15, 21, 150])
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 24])
def test_it_is_the_share_of_the_nearest_others(n, chunk, monkeypatch):
    monkeypatch.setattr(retrieval, "_CHUNK", chunk)
    vectors, labels = cloud(n)
    nearest, _ = Neighbours(vectors.numpy()).others(20)
    same = labels.numpy()[nearest] == labels.numpy()[:, None]
    found = retrieval_metrics(vectors, labels)
    for first in (10, 20):
        assert found[f"precision_at_{first}"] == pytest.approx(same[:, :first].mean())


def test_an_image_does_not_find_itself_and_lengths_do_not_count():
    """Each of four classes has 12 images, in one direction and at any length."""
    labels = torch.arange(48) % 4
    vectors = torch.eye(4)[labels] * torch.linspace(0.1, 9, 48)[:, None]
    found = retrieval_metrics(vectors, labels)
    assert found["precision_at_10"] == 1
    assert found["precision_at_20"] == pytest.approx(11 / 20)
    assert retrieval_metrics(vectors[:1], labels[:1]) == {"precision_at_10": 0.0, "precision_at_20": 0.0}

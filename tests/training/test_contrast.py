"""The supervised contrastive loss is that of its paper, on whole batches and on embeddings of length 1."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from raysearch.models.head import logits_and_embeddings, make_head
from raysearch.recipe import Head, Stage
from raysearch.training.contrast import Contrast, contrastive_loss
from raysearch.training.ranks import Ranks

HEAD = Head(kind="embedding", dimensions=4)


def test_the_loss_is_equation_2_of_khosla():
    random = np.random.default_rng(0)
    z = random.normal(size=(7, 3))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labels, weights, t = [0, 1, 0, 2, 1, 0, 1], [1.0, 2.0, 5.0], 0.2  # class 2 has one image, which is like no other
    expected = 0.0
    for i, label in enumerate(labels):
        others = [a for a in range(7) if a != i]
        total = sum(math.exp(z[i] @ z[a] / t) for a in others)
        logs = [math.log(math.exp(z[i] @ z[p] / t) / total) for p in others if labels[p] == label]
        expected += -weights[label] * sum(logs) / len(logs) if logs else 0.0
    found = contrastive_loss(torch.from_numpy(z), torch.tensor(labels), torch.tensor(weights), t)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_without_a_pair_pulls_at_nothing(n):
    embeddings = torch.eye(2)[:n].requires_grad_()
    loss = contrastive_loss(embeddings, torch.arange(n), torch.ones(2), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(embeddings.grad, torch.zeros(n, 2))


def network() -> nn.Sequential:
    return nn.Sequential(OrderedDict(head=make_head(6, HEAD, 3, 0)))


def test_embeddings_have_length_1_and_are_what_the_last_layer_sees():
    suffix, inputs = network().eval(), torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    logits, embeddings = logits_and_embeddings(suffix, inputs)
    assert embeddings.shape == (5, 4)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(suffix.head.linear(embeddings), logits)
    assert torch.equal(logits, suffix(inputs))


def test_only_an_embedding_head_is_contrasted_and_only_whole_batches():
    stage = Stage(depth=0, epochs=1, contrastive=1.0, batch_size=16)
    plain = nn.Sequential(OrderedDict(head=make_head(6, Head(), 3, 0)))
    assert not Contrast.of(stage, plain, torch.ones(3)).contrasts
    assert not Contrast.of(Stage(depth=0, epochs=1), network(), torch.ones(3)).contrasts
    assert Contrast.of(stage, network(), torch.ones(3)).images_at_least == 16
    with pytest.raises(ValueError, match="2 workers share it out"):
        Contrast.of(stage, network(), torch.ones(3), Ranks(0, 2))
    with pytest.raises(ValueError, match="contrastive 1 needs depth 0, got 2"):
        Stage(depth=2, epochs=1, contrastive=1.0)

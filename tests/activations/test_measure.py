"""Measuring says something sane of every depth, and leaves the classifier as it was."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from raysearch.activations.measure import measure
from tests.activations.cached import CPU, classifier
from tests.training.tiny import OutOfMemoryAbove


@pytest.mark.parametrize("images", [2, 3])
def test_where_training_would_shrink_its_batch_a_smaller_one_is_measured(images, caplog):
    network = classifier()
    limited = OrderedDict(network.named_children())
    limited["block1"] = nn.Sequential(OutOfMemoryAbove(images), limited["block1"])
    costs = measure(nn.Sequential(limited), image_size=32, batch_size=8, device=CPU, precision="fp32", depths=[0, 4])
    assert min(costs.depths[0].prefix, costs.depths[0].exact, costs.depths[4].suffix) > 0
    assert "out of memory" in caplog.text


def test_every_depth_is_measured_on_a_copy():
    network = classifier().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    costs = measure(network, image_size=32, batch_size=8, device=CPU, precision="bf16", depths=range(5))
    assert sorted(costs.depths) == [0, 1, 2, 3, 4]
    assert costs.augment > 0
    assert all(min(one.suffix, one.evaluate, one.read) > 0 for one in costs.depths.values())
    assert [one.numbers for one in costs.depths.values()] == [2 * 160, 128 * 16, 64 * 64, 32 * 256, 3 * 1024]
    assert costs.depths[4].prefix == costs.depths[4].exact == 0
    assert costs.depths[0].prefix > 0
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())

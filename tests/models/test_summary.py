"""The table of blocks agrees with what the network really does."""

from __future__ import annotations

import pytest
import torch

from raysearch.models.boundary import build_classifier, cut
from raysearch.models.summary import block_table
from raysearch.recipe import Recipe, Stage
from tests.networks import SMALL, spec_of


@pytest.mark.parametrize("backbone", SMALL)
def test_rows_agree_with_the_network(backbone):
    recipe = Recipe(backbone=backbone, image_size=40, pooling="both", schedule=(Stage(depth=0, epochs=1),))
    classifier = build_classifier(recipe, 6)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    rows = block_table(classifier, 40)
    assert [row.name for row in rows] == [*spec_of(backbone).block_names, "pool", "head"]
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in classifier.parameters())
    maps = torch.zeros(1, 3, 40, 40)
    classifier.eval()
    for row in rows:
        maps = classifier.get_submodule(row.name)(maps)
        assert row.output_shape == tuple(maps.shape[1:])
    for depth in range(len(spec_of(backbone).block_names) + 1):
        trained = {name for name, child in cut(classifier, depth)[1].named_children() if list(child.parameters())}
        assert {row.name for row in rows if row.depth is not None and row.depth <= depth} == trained
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.state_dict().items())

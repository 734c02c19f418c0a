"""Pooling and head compute what their names say, from seeded first weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysearch.models.head import Dropout, Pool, make_head, projection
from raysearch.recipe import Head


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_pooling_is_mean_and_maximum_over_the_map(channels, height, width, seed):
    maps = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))
    mean, peak = maps.flatten(2).mean(2), maps.flatten(2).max(2).values
    torch.testing.assert_close(Pool("avg")(maps), mean)
    assert torch.equal(Pool("max")(maps), peak)
    torch.testing.assert_close(Pool("both")(maps), torch.cat([mean, peak], 1))


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be one of avg, max, both, got 'sum'"):
        Pool("sum")


@pytest.mark.parametrize("kind", ["linear", "hidden", "embedding"])
def test_head_depends_on_the_seed_alone(kind):
    before = torch.get_rng_state()
    heads = [make_head(6, Head(kind=kind), 3, seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert not torch.equal(heads[0]["linear.weight"], heads[2]["linear.weight"])


@pytest.mark.parametrize("kind", ["linear", "hidden"])
def test_dropout_stands_before_the_last_layer_and_does_nothing_at_first(kind):
    head = make_head(6, Head(kind=kind, hidden_units=11), 3, 0).train()
    assert [name for name, _ in head.named_children()][-2:] == ["dropout", "linear"]
    features = torch.randn(4, 6)
    assert torch.equal(head(features), head(features))
    dropout = head.get_submodule("dropout")
    assert isinstance(dropout, Dropout)
    dropout.p = 0.5
    assert not torch.equal(head(features), head(features))


def test_dropout_stands_before_the_projection_of_an_embedding_head():
    """Dropped numbers of an embedding would leave it shorter than 1."""
    head = make_head(6, Head(kind="embedding", dimensions=5), 3, 0).train()
    assert [name for name, _ in head.named_children()] == ["dropout", "embedding", "unit", "linear"]
    head.get_submodule("dropout").p = 0.5
    embeddings = projection(head)(torch.randn(4, 6))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    assert head.get_submodule("embedding").weight.shape == (5, 6)


def test_the_hidden_layer_has_the_width_asked_for():
    head = make_head(6, Head(kind="hidden", hidden_units=11), 3, 0)
    assert head.get_submodule("hidden").weight.shape == (11, 6)
    assert head(torch.randn(4, 6)).shape == (4, 3)

"""Splits are stratified, seeded and disjoint, and keep what the source gave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.data.split import FRACTION, fill_splits


@given(counts=st.lists(st.integers(3, 60), min_size=2, max_size=6), seed=st.integers(0, 1000), given_test=st.booleans())
def test_every_class_is_in_every_split_in_its_share(counts: list[int], seed: int, given_test: bool) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    splits = np.full(len(labels), "train" if given_test else "", "<U5")
    if given_test:
        labels = np.concatenate([labels, np.arange(len(counts))])
        splits = np.concatenate([splits, np.full(len(counts), "test")])
    filled = fill_splits(splits, labels, seed)
    assert (filled[splits == "test"] == "test").all()
    assert given_test <= (np.sum(filled == "test") == len(counts))
    for label, count in enumerate(counts):
        mine = filled[(labels == label) & (splits != "test")]
        assert (mine == "train").any()
        for name in ("val",) if given_test else ("val", "test"):
            assert (mine == name).sum() == max(1, round(FRACTION * count))


def test_the_seed_decides() -> None:
    labels, splits = np.repeat([0, 1], 50), np.full(100, "")
    first, again, other = (fill_splits(splits, labels, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_given_splits_are_untouched() -> None:
    splits = np.array(["train", "val", "test"] * 2)
    assert (fill_splits(splits, np.repeat([0, 1], 3), 0) == splits).all()


def test_too_few_images_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 images for 3 splits"):
        fill_splits(np.full(12, ""), np.array([0] * 10 + [1] * 2), 0)

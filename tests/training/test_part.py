"""Parts of the training images: disjoint, stratified, and trained on as the stage says."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raysearch.data.split import parts
from raysearch.recipe import Stage
from raysearch.training.part import part_of
from raysearch.training.stage import open_stage
from tests.training.bench import bench, recipe


@given(st.lists(st.integers(0, 4), max_size=120), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_parts_are_disjoint_equal_and_stratified(labels, n, seed):
    labels = np.array(labels, dtype=np.int64)
    cut = parts(labels, n, seed)
    sizes = np.bincount(cut, minlength=n)
    assert sizes.sum() == len(labels)
    assert sizes.max() - sizes.min() <= 1
    for label in np.unique(labels):
        of_class = np.bincount(cut[labels == label], minlength=n)
        assert of_class.max() - of_class.min() <= 1
    np.testing.assert_array_equal(cut, parts(labels, n, seed))


def stage(part: str, epochs: int = 6) -> Stage:
    return Stage(depth=1, epochs=epochs, part=part)


def test_named_parts_make_up_the_whole():
    labels = np.arange(100) % 3
    sixths = [part_of(stage(f"{k}/6"), labels, 7, 1) for k in range(1, 7)]
    np.testing.assert_array_equal(np.sort(np.concatenate(sixths)), np.arange(100))
    np.testing.assert_array_equal(part_of(stage("2-4/6"), labels, 7, 1), np.sort(np.concatenate(sixths[1:4])))
    np.testing.assert_array_equal(part_of(stage("all"), labels, 7, 1), np.arange(100))


def test_a_growing_part_only_grows_until_it_is_all():
    labels = np.arange(90) % 3
    seen = [set(part_of(stage("grow/3", epochs=6), labels, 0, epoch)) for epoch in range(1, 7)]
    assert [len(one) for one in seen] == [30, 30, 60, 60, 90, 90]
    assert all(before <= after for before, after in pairwise(seen))


@pytest.mark.parametrize("part", ["0/6", "7/6", "3-2/6", "2-7/6", "grow", "1", "half", "1/0", "a/b"])
def test_parts_that_are_not_there_are_refused(part):
    with pytest.raises(ValidationError):
        stage(part)


def test_a_stage_trains_on_its_part_alone_and_the_next_on_another():
    table = bench()
    schedule = tuple(Stage(depth=1, epochs=1, batch_size=4, part=f"{k}/3") for k in (1, 2, 3))
    seen = []
    for index in range(3):
        trainer = open_stage(table, recipe(schedule=schedule), index)
        fill, images = trainer._fill_gradients, []

        def noting(step, view, fill=fill, images=images):
            images.extend(step.indices.tolist())
            return fill(step, view)

        trainer._fill_gradients = noting
        trainer.run_epoch()
        seen.append(images)
    assert [len(images) for images in seen] == [8, 8, 8]
    assert sorted(chain.from_iterable(seen)) == list(range(24))

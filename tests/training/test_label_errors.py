"""Training images whose labels are most likely wrong leave a stage that asks for it; no other image does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from raysearch.recipe import Stage
from raysearch.training.label_errors import least_sure
from raysearch.training.stage import open_stage
from tests.training.bench import bench, recipe, split

WRONG = np.array([3, 17, 40, 58])
"""Planted among 60 images."""


def cleaning(share: float, depth: int = 1):
    fine = Stage(depth=depth, epochs=1, batch_size=16, learning_rate=1e-3, drop_label_errors=share)
    return recipe(schedule=(Stage(depth=0, epochs=1), fine))


@pytest.fixture(scope="module")
def planted():
    on = bench()
    train = split(60, 5, 32)
    labels = train.labels.copy()
    labels[WRONG] = (labels[WRONG] + 1) % 3
    on.dataset = replace(on.dataset, train=replace(train, labels=labels))
    return on


def kept(trainer) -> set[tuple[float, ...]]:
    """The training images of a stage, by their activations."""
    images = trainer.images.train
    rows = images.activations.batch(np.arange(len(images)), 0).flatten(1)
    return {tuple(row[:50].tolist()) for row in rows}


def test_the_planted_ones_leave_and_no_validation_image_does(planted):
    plain = open_stage(planted, cleaning(0.0), 1)
    assert len(plain.images.train) == 60
    assert not planted.label_doubts, "nothing is computed where nothing is dropped"
    trainer = open_stage(planted, cleaning(4 / 60), 1)
    labels = trainer.images.train.labels
    right = np.delete(planted.dataset.train.labels, WRONG)
    assert labels.tolist() == right.tolist()
    assert kept(trainer) < kept(plain)
    assert len(trainer.images.val) == len(plain.images.val) == len(planted.dataset.val)
    (doubt,) = planted.label_doubts.values()
    assert set(np.argsort(-doubt)[:4]) == set(WRONG)
    trainer.run_epoch()
    assert trainer.finished


def test_it_is_asked_once_and_says_the_same_whatever_the_depth(planted):
    first = open_stage(planted, cleaning(0.05), 1).images.train.labels
    again = replace(planted)
    assert open_stage(again, cleaning(0.05, depth=2), 1).images.train.labels.tolist() == first.tolist()
    known = list(again.label_doubts.items())
    open_stage(again, cleaning(0.1), 1)
    assert list(again.label_doubts.items()) == known


def test_a_fold_is_cleaned_by_its_own_training_images_and_judged_by_all_of_the_others(planted):
    fold = planted.seeing("train+val", (0, 2), seed=0)
    trainer = open_stage(fold, cleaning(0.1), 1)
    assert len(trainer.images.train) == len(fold.fold.train) - int(0.1 * len(fold.fold.train))
    assert len(trainer.images.val) == len(fold.fold.val)
    plain = open_stage(fold, cleaning(0.0), 1)
    assert kept(trainer) < kept(plain)


def test_workers_leave_out_what_the_first_one_says(planted):
    """A process that is not the first computes nothing: it takes what comes from the first."""

    class Second:
        rank, size, first = 1, 2, False

        def total(self, part: torch.Tensor) -> torch.Tensor:
            assert not part.any()
            part[5:] = 1
            return part

        def __getattr__(self, name):
            return getattr(planted.ranks, name)

    other = replace(planted, ranks=Second())
    assert open_stage(other, cleaning(0.1), 1).images.train.labels.tolist() == planted.dataset.train.labels[5:].tolist()
    assert not other.label_doubts


def test_no_class_loses_more_than_half_of_its_images():
    labels = np.array([0] * 16 + [1] * 4)
    doubt = np.where(labels == 1, 0.9, 0.1) + np.arange(20) / 1000
    left = least_sure(doubt, labels, 0.2)
    assert np.bincount(labels[left]).tolist() == [14, 2]
    assert left.tolist() == [*range(14), 16, 17], "the most doubted of each leave"
    assert least_sure(doubt, labels, 0.0).tolist() == list(range(20))
    assert least_sure(np.zeros(20), labels, 0.05).tolist() == list(range(1, 20)), "of equals the first"

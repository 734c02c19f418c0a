"""Folds of all labelled images: what a network is judged by it has not trained on, and frozen work is shared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from raysearch.data.dataset import Dataset, Split
from raysearch.recipe import Stage
from raysearch.training.path import train_recipe
from raysearch.training.stage import open_stage
from tests.training.bench import CLASSES, bench, recipe, split

FOLDS = 3


def test_each_image_is_judged_once_by_networks_that_were_trained_on_all_the_others():
    table = bench()
    n, judged = len(table.dataset.train) + len(table.dataset.val), []
    for which in range(FOLDS):
        fold = table.seeing("train+val", (which, FOLDS), seed=0).fold
        assert sorted([*fold.train, *fold.val]) == list(range(n))
        judged += fold.val.tolist()
    assert sorted(judged) == list(range(n))


def test_a_fold_reads_the_images_that_it_names():
    table = bench()
    seen = table.seeing("train+val", (1, FOLDS), seed=0)
    both = Split.join(table.dataset.train, table.dataset.val)
    images = open_stage(seen, recipe(depths=(0,)), 0).images
    whole = open_stage(
        dataclasses.replace(bench(), dataset=dataclasses.replace(table.dataset, val=both)), recipe(depths=(0,)), 0
    )
    for part, places in ((images.train, seen.fold.train), (images.val, seen.fold.val)):
        assert part.labels.tolist() == both.labels[places].tolist()
        rows = np.arange(len(places))
        torch.testing.assert_close(
            part.activations.batch(rows, 0), whole.images.val.activations.batch(places, 0), rtol=1e-4, atol=1e-5
        )


def test_frozen_work_is_done_once_for_all_folds():
    table, kept = bench(), set()
    for which in range(FOLDS):
        open_stage(table.seeing("train+val", (which, FOLDS), seed=0), recipe(depths=(0,)), 0).run_epoch()
        kept.add(len(table.sources._kept))
    assert kept == {2}, "the images as they are trained on, and as they are judged by"


def test_labels_that_only_memory_can_know_are_not_known_out_of_fold():
    """A planted label tells nothing of its image: who has trained on it knows it, who has not can only guess."""
    random = np.random.default_rng(3)
    made = split(90, 0, 16)
    planted = Split(made.pixels, random.integers(3, size=90).astype(np.int64), made.paths)
    data = Dataset(
        "planted", CLASSES, 16, "squash", "f00d", planted.take(np.arange(60)), planted.take(np.arange(60, 90)),
        planted.take(np.arange(3)), skipped=(), folder=Path(),
    )  # fmt: skip
    table = bench(size=16, dataset=data)
    stage = Stage(depth=3, epochs=40, batch_size=15, learning_rate=5e-3, batch_norm="train", keep="last")
    learnt = recipe(size=16, schedule=(stage,))
    known, guessed = [], []
    for which in range(FOLDS):
        seen = table.seeing("train+val", (which, FOLDS), seed=0)
        trainer = train_recipe(seen, learnt)
        labels = torch.as_tensor(seen.dataset.train.labels[seen.fold.val])
        guessed += (trainer.val_logits.argmax(dim=1) == labels).tolist()
        known.append(trainer.best["train_accuracy"])
    assert min(known) > 0.9
    assert np.mean(guessed) < 0.5


def test_trainings_of_one_head_begin_with_the_same_one():
    table, starts = bench(), []
    for seed in (1000, 1001):
        rows: list[tuple[int, float]] = []
        train_recipe(
            table,
            recipe(depths=(0, 1), seed=seed),
            lambda stage, row, rows=rows: rows.append((stage, row["train_loss"])),
            head_seed=1000,
        )
        starts.append([loss for stage, loss in rows if stage == 0])
        assert [stage for stage, _ in rows] == [0, 0, 1, 1]
    assert starts[0] == starts[1]


def test_evaluating_the_last_epoch_alone_trains_the_same_tensors():
    schedule = (
        Stage(depth=0, epochs=2, batch_size=8, keep="last"),
        Stage(depth=1, epochs=3, batch_size=8, keep="last"),
    )
    rows: list[dict] = []
    often = train_recipe(bench(), recipe(schedule=schedule))
    seldom = train_recipe(bench(), recipe(schedule=schedule), lambda stage, row: rows.append(row), evaluate=False)
    assert all(torch.equal(often.best_state[name], seldom.best_state[name]) for name in often.best_state)
    assert ["val_loss" in row for row in rows] == [False, True, False, False, True]


def test_an_epoch_that_decides_is_always_evaluated():
    rows: list[dict] = []
    train_recipe(bench(), recipe(depths=(1,)), lambda stage, row: rows.append(row), evaluate=False)
    assert all("val_loss" in row for row in rows), "the best epoch is kept"

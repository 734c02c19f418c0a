"""The plan shows the real thing: the batch, the blocks and the needs that a search would have."""

from __future__ import annotations

import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from raysearch.data.augment import Augmenter
from raysearch.data.pixels import load
from raysearch.job.contact_sheet import contact_sheet, first_batch
from raysearch.job.needs import trial_needs
from raysearch.job.preview import Plan, show_plan
from raysearch.models.boundary import build_classifier
from raysearch.models.weights import load_weights
from raysearch.recipe import Recipe, Stage
from raysearch.record.goal import Goal
from raysearch.training.bench import Bench
from raysearch.training.images import Labelled
from raysearch.training.order import quick_look
from raysearch.training.stage import open_stage
from tests.networks import FEW, register_tiny, spec_of
from tests.trained import CLASSES, write_pictures

STAGES = (Stage(depth=0, epochs=2), Stage(depth=2, epochs=3, strength=1.0, batch_size=9))
RECIPE = Recipe(backbone="simple_cnn", weights="random", image_size=16, schedule=STAGES, seed=7)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(str(write_pictures(tmp_path_factory.mktemp("photos") / "photos", 10)), image_size=16, progress=False)


def plan_of(dataset, **changes) -> Plan:
    fields = {
        "dataset": dataset,
        "recipe": RECIPE,
        "weights": ["Weights: random (seed 7) (asked for)"],
        "space_name": "fine_tune",
        "space": {"schedule.1.learning_rate": "loguniform(1e-4, 3e-3)"},
        "depths": [0, 1, 2],
        "heads": 6,
        "head": None,
        "trials": 12,
        "rungs": (1, 2, 6),
        "levels": 1,
        "tested": False,
        "refits": 3,
        "device": "cpu",
        "precision": "fp32",
        "concurrent": 1,
        "workers_per_trial": 1,
        "cpus_per_worker": 2,
        "gpus_per_worker": 0,
        "folder": Path("results/fine_tune-1"),
    }
    return Plan(**{**fields, **changes})


def test_the_plan_says_what_the_search_is_after(dataset, tmp_path):
    console = Console(file=io.StringIO(), width=160)
    goal = Goal.of("macro_f1", ["recall:cat>=0.9"])
    show_plan(plan_of(dataset, goal=goal), tmp_path / "plan.png", console)
    assert "by validation macro_f1, among those with recall:cat>=0.9" in console.file.getvalue()


def test_the_plan_shows_data_blocks_space_work_and_needs(dataset, tmp_path):
    console = Console(file=io.StringIO(), width=160)
    show_plan(plan_of(dataset), tmp_path / "plan.png", console)
    shown = console.file.getvalue()
    for piece in (
        *CLASSES,
        "16 x 16 px (squash)",
        "random (seed 7) (asked for)",
        "loguniform(1e-4, 3e-3)",
        "12 to 72",
        "160 x 1 x 1",
        "MiB",
        "results/fine_tune-1",
        "plan.png",
        "Nothing has been trained",
    ):
        assert piece in shown
    assert f" {len(dataset.train)} " in shown
    rows = {line.split()[1]: line for line in shown.splitlines() if "frozen" in line or "trained" in line}
    assert [rows[name].count("frozen") for name in ("block1", "block3", "block4", "head")] == [3, 2, 1, 0]
    with Image.open(tmp_path / "plan.png") as sheet:
        assert sheet.size[0] > 300


def test_the_plan_of_a_tree_says_how_its_levels_end(dataset, tmp_path):
    console = Console(file=io.StringIO(), width=160)
    show_plan(plan_of(dataset, levels=3, tested=True), tmp_path / "plan.png", console)
    shown = console.file.getvalue()
    assert "3, each from the best of the one before; at the end of each a control and a test" in shown


def test_the_plan_counts_the_images_in_every_size(dataset, tmp_path):
    console = Console(file=io.StringIO(), width=160)
    both = dataclasses.replace(dataset, others={160: dataclasses.replace(dataset, image_size=160)})
    show_plan(plan_of(both), tmp_path / "plan.png", console)
    shown = console.file.getvalue()
    assert "16 x 16 and 160 x 160 px (squash)" in shown
    images = sum(map(len, dataset.splits.values()))
    assert f"{images * (16**2 + 160**2) * 3 / 2**20:.0f} MiB on disk for {images} decoded images" in shown


def test_the_plan_says_what_a_student_learns_from(dataset, tmp_path):
    console = Console(file=io.StringIO(), width=160)
    show_plan(plan_of(dataset, unlabelled=12_000), tmp_path / "plan.png", console)
    assert "learns from 12,000 images without labels" in console.file.getvalue()
    console = Console(file=io.StringIO(), width=160)
    show_plan(plan_of(dataset), tmp_path / "plan.png", console)
    assert "without labels" not in console.file.getvalue()


class Asked:
    """Activations that note which images are read, in which view."""

    shape, varies, at_once = (3, 16, 16), False, 256

    def __init__(self, images: int) -> None:
        self.images, self.batches = images, list[tuple[list[int], int]]()

    def __len__(self) -> int:
        return self.images

    def batch(self, indices: np.ndarray, view: int) -> torch.Tensor:
        self.batches.append((indices.tolist(), view))
        return torch.zeros(len(indices), 3, 16, 16)


@pytest.mark.parametrize("max_batches", [None, 1])
@pytest.mark.parametrize("batch_size", [4, 9, 14])
@pytest.mark.parametrize("part", ["all", "2/3", "2-3/3", "grow/3", "2/6", "grow/6"])
def test_the_sheet_shows_the_images_that_the_loop_would_train_on_first(dataset, part, batch_size, max_batches):
    """Asked of the loop itself, opened as a trial opens it, so that the two cannot drift apart."""
    stage = STAGES[1].model_copy(update={"part": part, "batch_size": batch_size})
    recipe = RECIPE.model_copy(update={"schedule": (STAGES[0], stage)})
    weights = load_weights("simple_cnn", "random", 0)
    table = Bench(dataset, weights, torch.device("cpu"), "fp32", max_batches=max_batches)
    trainer = open_stage(table, recipe, 1)
    train = Asked(len(trainer.images.train))
    labels = trainer.images.train.labels
    trainer.images = dataclasses.replace(trainer.images, train=Labelled(train, labels))
    trainer.step = stepping(trainer)
    trainer.run_epoch()
    split = quick_look(dataset.train, max_batches, batch_size)
    np.testing.assert_array_equal(split.labels, labels)
    indices, view = first_batch(recipe, split)
    assert train.batches[0] == (indices.tolist(), view)
    assert view == STAGES[0].epochs


def stepping(trainer):
    """A step that reads its images and trains nothing."""

    def step(taken, view, rate):
        trainer.images.train.activations.batch(taken.indices, view)
        return torch.zeros(()), torch.zeros(())

    return step


def test_a_quick_look_shows_the_images_that_it_takes(dataset):
    """They are evenly spaced ones of all, and counted anew."""
    sheet = np.asarray(contact_sheet(dataset, RECIPE, max_batches=1))
    split = quick_look(dataset.train, 1, 9)
    indices, view = first_batch(RECIPE, split)
    seen = Augmenter(RECIPE.augmentation, 1.0, RECIPE.seed)(split.pixels[indices], indices, view)
    assert np.abs(first_tile(sheet) - seen[0]).max() <= 1
    assert np.abs(first_tile(np.asarray(contact_sheet(dataset, RECIPE))) - seen[0]).max() > 10


def first_tile(sheet: np.ndarray) -> np.ndarray:
    factor = 112 // 16
    return sheet[6 : 6 + 16 * factor : factor, 6 : 6 + 16 * factor : factor].astype(int)


def test_the_sheet_holds_the_augmented_pixels_as_the_network_sees_them(dataset):
    indices, view = first_batch(RECIPE, dataset.train)
    expected = Augmenter(RECIPE.augmentation, 1.0, RECIPE.seed)(dataset.train.pixels[indices], indices, view)
    assert np.abs(first_tile(np.asarray(contact_sheet(dataset, RECIPE))) - expected[0]).max() <= 1
    assert np.abs(expected[0].astype(int) - dataset.train.pixels[indices[0]]).max() > 10  # it was augmented


@pytest.mark.parametrize("backbone", ["vgg19", *FEW])
def test_needs_grow_with_depth_and_leave_the_classifier_as_it_was(backbone, monkeypatch):
    register_tiny(monkeypatch)
    recipe = RECIPE.model_copy(update={"backbone": backbone, "image_size": 32})
    classifier = build_classifier(recipe, 3)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    needs = [trial_needs(classifier, recipe, depth) for depth in range(len(spec_of(backbone).block_names) + 1)]
    for shallow, deep in itertools.pairwise(needs):
        assert deep.trained_parameters > shallow.trained_parameters
        assert deep.checkpoint_bytes > shallow.checkpoint_bytes
        assert deep.training_bytes > shallow.training_bytes
    assert needs[-1].trained_parameters == sum(p.numel() for p in classifier.parameters())
    assert all(p.requires_grad for p in classifier.parameters())
    assert all(module.training for module in classifier.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.state_dict().items())


def test_workers_are_counted_where_there_are_several(dataset, tmp_path):
    said = []
    for workers in (1, 3):
        console = Console(file=io.StringIO(), width=160)
        show_plan(plan_of(dataset, workers_per_trial=workers), tmp_path / "plan.png", console)
        said.append(console.file.getvalue())
    assert "3, which share out every batch: batch sizes and learning rates are those of one" in said[1]
    assert "3 x 2" in said[1]
    assert "workers of each trial" not in said[0]
    assert " x 2 " not in said[0].partition("What a trial needs")[2]


def test_needs_grow_with_the_batch():
    classifier = build_classifier(RECIPE, 3)
    larger = RECIPE.model_copy(update={"schedule": (STAGES[0], STAGES[1].model_copy(update={"batch_size": 900}))})
    assert trial_needs(classifier, larger, 2).training_bytes > trial_needs(classifier, RECIPE, 2).training_bytes


def test_memory_on_the_gpu_is_told_apart(dataset, tmp_path):
    console = Console(file=io.StringIO(), width=160)
    show_plan(plan_of(dataset, gpus_per_worker=0.5, device="cuda"), tmp_path / "plan.png", console)
    assert "on the GPU" in console.file.getvalue()

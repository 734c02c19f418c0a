"""A student's images: which answers are learned from, and that what a fold holds out has no part in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from raysearch.data.unlabelled import Unlabelled
from raysearch.models.boundary import build_classifier
from raysearch.recipe import Recipe
from raysearch.training.bench import Bench
from raysearch.training.distillation import HARD_SHARE
from raysearch.training.path import train_recipe
from raysearch.training.stage import open_stage
from raysearch.training.student import TeacherAnswers, answers_of, before_student
from tests.training.bench import bench, recipe, split

CPU = torch.device("cpu")


class Channels(nn.Module):
    """Answers by the mean of each channel, and by the left half of the picture alone if it is asked to."""

    def __init__(self, *, left: bool = False) -> None:
        super().__init__()
        self.left = left

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        seen = inputs[..., : inputs.shape[-1] // 2] if self.left else inputs
        return 20 * seen.mean(dim=(2, 3)).flip(1)


def taught(**changes: object) -> tuple[Bench, Recipe]:
    one = recipe(depths=(1,), **changes)
    return bench(unlabelled=Unlabelled({32: split(40, 9, 32)}, "beef")), one


def test_answers_are_the_mean_over_networks_and_the_mirror_image():
    images, still = split(9, 3, 32), recipe(depths=(1,))
    both = [
        build_classifier(
            still,
            3,
        ),
        Channels(),
    ]
    found = answers_of(both, images, still, CPU)
    pixels = np.asarray(images.pixels)
    one, other = (answers_of([network], images, still, CPU).probabilities for network in both)
    assert np.allclose(found.probabilities, (one + other) / 2, atol=1e-6)
    flipped = replace(images, pixels=np.ascontiguousarray(pixels[:, :, ::-1]))
    assert np.allclose(answers_of(both, flipped, still, CPU).probabilities, found.probabilities, atol=1e-6)
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


def test_an_answer_that_changes_with_the_view_is_not_learned_from():
    images = split(6, 3, 32)
    pixels = np.asarray(images.pixels).copy()
    pixels[0, :, :16] = (200, 0, 0)  # left and right are of two classes
    pixels[0, :, 16:] = (0, 200, 0)
    images, still = replace(images, pixels=pixels), recipe(depths=(1,))
    found = answers_of([Channels(left=True)], images, still, CPU)
    assert found.confidence[0] == 0
    assert (found.confidence[1:] > 0.4).all()
    never = still.model_copy(update={"augmentation": still.augmentation.model_copy(update={"flip": 0.0})})
    assert answers_of([Channels(left=True)], images, never, CPU).confidence[0] > 0.4


def test_the_surest_half_of_each_class_is_kept():
    probabilities = np.repeat(np.eye(3, dtype=np.float32), (4, 2, 4), axis=0)
    confidence = np.array([0.9, 0.8, 0.95, 0.7, 0.3, 0.2, 0, 0, 0.5, 0.6], dtype=np.float32)
    answers = TeacherAnswers(probabilities, confidence)
    assert answers.surest(100).tolist() == [0, 2, 4, 9]
    assert answers.surest(0).tolist() == []
    assert answers.surest(2).tolist() == [2], "a quarter of each class"


@pytest.mark.parametrize("fold", [None, (0, 3)])
def test_a_student_has_its_labels_its_teachers_answers_and_nothing_of_what_is_held_out(tmp_path, fold):
    on, one = taught()
    student, unlabelled = before_student(on, [Channels()], one, tmp_path / "answers.safetensors", 0, fold)
    n = len(on.dataset.train) + len(on.dataset.val)
    seen = student.fold
    labelled, chosen = seen.train[seen.train < n], seen.train[seen.train >= n]
    assert len(chosen) == unlabelled > 0
    held_out = on.seeing("train+val", fold, 0).fold
    if fold is None:
        assert labelled.tolist() == list(range(n))
    else:
        assert labelled.tolist() == held_out.train.tolist()
        assert seen.val.tolist() == held_out.val.tolist()
        assert not set(seen.val.tolist()) & set(seen.train.tolist())
    assert student.dataset.train.labels[:n].tolist() == [*on.dataset.train.labels, *on.dataset.val.labels]
    assert (
        student.dataset.train.labels[chosen].tolist() == student.teacher.probabilities[chosen].argmax(axis=1).tolist()
    )
    assert set(student.teacher.hard[:n].tolist()) == {np.float32(HARD_SHARE).item()}
    assert not student.teacher.hard[n:].any()
    assert student.dataset.fingerprint != on.dataset.fingerprint


def test_a_student_of_another_image_size_learns_from_images_of_that_size(tmp_path):
    on, _ = taught()
    small = replace(on.dataset, image_size=16, train=split(12, 1, 16), val=split(6, 2, 16), fingerprint="small")
    on.dataset = replace(on.dataset, train=split(12, 1, 32), val=split(6, 2, 32), others={16: small})
    on.unlabelled = Unlabelled({32: split(40, 9, 32), 16: split(40, 9, 16)}, "beef")
    one = recipe(size=16, depths=(1,))
    student, unlabelled = before_student(on, [Channels()], one, tmp_path / "answers.safetensors", 0, (0, 3))
    assert unlabelled > 0
    assert student.dataset.train.pixels[np.arange(1)].shape == (1, 16, 16, 3)
    assert student.dataset.sizes.keys() == {16}
    trainer = train_recipe(student, one)
    assert len(trainer.val_logits) == len(student.fold.val)


def test_answers_are_kept_and_are_not_asked_for_again(tmp_path):
    on, one = taught()
    file = tmp_path / "answers.safetensors"
    first, _ = before_student(on, [Channels()], one, file, 0, None)
    again, _ = before_student(on, [], one, file, 0, None)  # nobody is there to be asked
    assert np.array_equal(first.teacher.probabilities, again.teacher.probabilities)
    other = replace(on, unlabelled=Unlabelled({32: split(40, 10, 32)}, "cafe"))
    with pytest.raises((RuntimeError, ValueError)):
        before_student(other, [], one, file, 0, None)


def test_where_every_image_without_a_label_is_a_copy_of_one_that_has_one_the_labelled_ones_are_left(tmp_path):
    on, one = taught()
    on = replace(on, unlabelled=Unlabelled({32: split(40, 9, 32).take(np.arange(0))}, "beef"))
    student, unlabelled = before_student(on, [Channels()], one, tmp_path / "answers.safetensors", 0, (0, 3))
    assert unlabelled == 0
    assert student.fold.train.tolist() == on.seeing("train+val", (0, 3), 0).fold.train.tolist()


def test_the_teachers_are_asked_of_no_image_that_is_held_out_and_in_a_quick_look_of_few(tmp_path, monkeypatch):
    on, one = taught()
    student, _ = before_student(on, [Channels()], one, tmp_path / "whole.safetensors", 0, (0, 3))
    said = student.teacher.probabilities.sum(axis=1)
    assert not said[student.fold.val].any()
    assert np.allclose(said[student.fold.train], 1, atol=1e-5)
    monkeypatch.setattr("raysearch.training.student._BATCH", 8)
    quick, _ = before_student(replace(on, max_batches=1), [Channels()], one, tmp_path / "quick.safetensors", 0, (0, 3))
    assert (quick.teacher.probabilities.sum(axis=1) > 0).sum() == 16, "eight with a label, eight without"


def test_a_student_trains_as_any_recipe_does(tmp_path):
    on, one = taught()
    two = recipe(depths=(0, 1))
    student, _ = before_student(on, [Channels()], two, tmp_path / "answers.safetensors", 0, (0, 3))
    trainer = train_recipe(student, two)
    assert len(trainer.val_logits) == len(student.fold.val)
    assert trainer.images.train.teacher is not None
    assert len(trainer.images.train) == len(student.fold.train)
    assert one.depth == two.depth


def test_groups_of_images_without_labels_are_none_of_the_labelled_ones(tmp_path):
    on, one = taught()
    train, val = (replace(each, groups=np.arange(len(each))) for each in (on.dataset.train, on.dataset.val))
    on.dataset = replace(on.dataset, train=train, val=val)
    new = split(40, 9, 32)
    on.unlabelled = Unlabelled({32: replace(new, groups=np.arange(40) // 2)}, "beef")
    student, _ = before_student(on, [Channels()], one, tmp_path / "answers.safetensors", 0, None)
    groups, n = student.dataset.train.groups, len(train) + len(val)
    assert not set(groups[:n]) & set(groups[n:])
    assert np.unique(groups[n:]).tolist() == list(range(24, 44))


def test_labels_that_teachers_gave_have_no_part_in_label_errors(tmp_path):
    """The share is of the labels that somebody gave, and none of the others leaves."""
    on, one = taught()
    cleaning = one.model_copy(update={"schedule": (one.schedule[0].model_copy(update={"drop_label_errors": 0.2}),)})
    student, unlabelled = before_student(on, [Channels()], one, tmp_path / "answers.safetensors", 0, None)
    hard = open_stage(student, cleaning, 0).images.train.teacher.hard
    assert (hard > 0).sum() == 36 - int(0.2 * 36)
    assert (hard == 0).sum() == unlabelled > 0
    (doubt,) = student.label_doubts.values()
    assert len(doubt) == 36

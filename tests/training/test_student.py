"""A student's images and teachers: who is asked of what, and that what a fold holds out has no part in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from raysearch.data.unlabelled import Unlabelled
from raysearch.models.boundary import prepare
from raysearch.recipe import Recipe
from raysearch.training.bench import Bench
from raysearch.training.distillation import HARD_SHARE
from raysearch.training.path import assemble, train_recipe
from raysearch.training.stage import open_stage
from raysearch.training.student import before_student
from tests.training.bench import bench, recipe, split

CPU = torch.device("cpu")


def teacher(one: Recipe) -> nn.Sequential:
    """A network of the recipe, with the weights that it starts from."""
    return assemble(bench(), one, {})


def taught(**changes: object) -> tuple[Bench, Recipe]:
    one = recipe(depths=(1,), **changes)
    return bench(unlabelled=Unlabelled({32: split(40, 9, 32)}, "beef")), one


@pytest.mark.parametrize("fold", [None, (0, 3)])
def test_a_student_has_its_labels_its_teachers_answers_and_nothing_of_what_is_held_out(fold):
    on, one = taught()
    student, unlabelled = before_student(on, [teacher(one)], 32, 0, fold)
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
    said = teacher(one)(prepare(student.dataset.train.pixels[chosen], CPU)).argmax(dim=1)
    assert student.dataset.train.labels[chosen].tolist() == said.tolist()
    assert set(student.teacher.hard[:n].tolist()) == {np.float32(HARD_SHARE).item()}
    assert not student.teacher.hard[n:].any()
    assert student.dataset.fingerprint != on.dataset.fingerprint


def test_a_student_of_another_image_size_learns_from_images_of_that_size():
    on, _ = taught()
    small = replace(on.dataset, image_size=16, train=split(12, 1, 16), val=split(6, 2, 16), fingerprint="small")
    on.dataset = replace(on.dataset, train=split(12, 1, 32), val=split(6, 2, 32), others={16: small})
    on.unlabelled = Unlabelled({32: split(40, 9, 32), 16: split(40, 9, 16)}, "beef")
    one = recipe(size=16, depths=(1,))
    student, unlabelled = before_student(on, [teacher(one)], 16, 0, (0, 3))
    assert unlabelled > 0
    assert student.dataset.train.pixels[np.arange(1)].shape == (1, 16, 16, 3)
    assert student.dataset.sizes.keys() == {16}
    trainer = train_recipe(student, one)
    assert len(trainer.val_logits) == len(student.fold.val)


def test_where_every_image_without_a_label_is_a_copy_of_one_that_has_one_the_labelled_ones_are_left():
    on, one = taught()
    on = replace(on, unlabelled=Unlabelled({32: split(40, 9, 32).take(np.arange(0))}, "beef"))
    student, unlabelled = before_student(on, [teacher(one)], 32, 0, (0, 3))
    assert unlabelled == 0
    assert student.fold.train.tolist() == on.seeing("train+val", (0, 3), 0).fold.train.tolist()


def test_of_many_images_at_most_five_times_as_many_as_have_labels_and_in_a_quick_look_a_batch(monkeypatch):
    on, one = taught()
    many = replace(on, unlabelled=Unlabelled({32: split(200, 9, 32)}, "beef"))
    assert before_student(many, [teacher(one)], 32, 0, (0, 3))[1] == 5 * 36
    monkeypatch.setattr("raysearch.training.student._BATCH", 8)
    assert before_student(replace(on, max_batches=1), [teacher(one)], 32, 0, (0, 3))[1] == 8


def test_a_student_trains_as_any_recipe_does_by_labels_alone_where_its_teachers_blocks_are_still_frozen():
    on, _ = taught()
    two = recipe(depths=(0, 1))
    student, unlabelled = before_student(on, [teacher(two), teacher(two)], 32, 0, (0, 3))
    head = open_stage(student, two, 0)
    assert head.images.train.teacher is None
    assert len(head.images.train) == len(student.fold.train) - unlabelled
    trainer = train_recipe(student, two)
    assert len(trainer.val_logits) == len(student.fold.val)
    assert len(trainer.images.train) == len(student.fold.train)
    seen = trainer.images.train.activations.batch(np.arange(4), 0)
    names = [name for network in trainer.images.train.teacher.networks for name, _ in network.named_children()]
    assert names == [name for name, _ in trainer.suffix.named_children()] * 2
    whole = assemble(on, two, {})
    expected = torch.softmax(whole(prepare(student.dataset.train.pixels[student.fold.train[:4]], CPU)), 1)
    assert torch.allclose(trainer.images.train.teacher.answers(seen), expected, atol=1e-5)


def test_groups_of_images_without_labels_are_none_of_the_labelled_ones():
    on, one = taught()
    train, val = (replace(each, groups=np.arange(len(each))) for each in (on.dataset.train, on.dataset.val))
    on.dataset = replace(on.dataset, train=train, val=val)
    new = split(40, 9, 32)
    on.unlabelled = Unlabelled({32: replace(new, groups=np.arange(40) // 2)}, "beef")
    student, _ = before_student(on, [teacher(one)], 32, 0, None)
    groups, n = student.dataset.train.groups, len(train) + len(val)
    assert not set(groups[:n]) & set(groups[n:])
    assert np.unique(groups[n:]).tolist() == list(range(24, 44))


def test_labels_that_teachers_gave_have_no_part_in_label_errors():
    """The share is of the labels that somebody gave, and none of the others leaves."""
    on, one = taught()
    cleaning = one.model_copy(update={"schedule": (one.schedule[0].model_copy(update={"drop_label_errors": 0.2}),)})
    student, unlabelled = before_student(on, [teacher(one)], 32, 0, None)
    hard = open_stage(student, cleaning, 0).images.train.teacher.hard
    assert (hard > 0).sum() == 36 - int(0.2 * 36)
    assert (hard == 0).sum() == unlabelled > 0
    (doubt,) = student.label_doubts.values()
    assert len(doubt) == 36

"""What a student minimises: by hand, and what it comes down to at its ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysearch.recipe import Stage
from raysearch.training.distillation import Distillation, Teacher
from raysearch.training.images import Images
from raysearch.training.loop import Trainer
from raysearch.training.losses import Loss
from tests.training import tiny

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 1, 0, 1])


def teacher(probabilities: list[list[float]], hard: list[float]) -> Teacher:
    return Teacher(np.array(probabilities, dtype=np.float32), np.array(hard, dtype=np.float32))


def loss(**stage) -> Loss:
    return Loss.of(Stage(depth=0, epochs=1, **stage), LABELS, ("cat", "dog"))


def test_by_hand():
    found = Distillation(loss(), teacher([[0.9, 0.1]], [0.3]), CPU, temperature=2.0)
    # At temperature 2 the teacher says 3 : 1 and the student, whose logits are equal, 1 : 1.
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    expected = 0.3 * math.log(2) + 0.7 * 4 * divergence
    assert found.summed(torch.zeros(1, 2), torch.tensor([0]), np.array([0])).item() == pytest.approx(expected, rel=1e-5)
    weighed = Distillation(loss(class_weights={"dog": 3.0}), teacher([[0.9, 0.1]], [0.0]), CPU)
    assert weighed.summed(torch.zeros(1, 2), torch.tensor([1]), np.array([0])).item() == pytest.approx(
        3 * 4 * divergence, rel=1e-5
    )


def test_each_image_has_its_own_row_of_the_teacher():
    found = Distillation(loss(), teacher([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]], [0.0, 0.0, 1.0]), CPU)
    at = torch.zeros(2, 2)
    assert found.summed(at[:1], torch.tensor([0]), np.array([0])).item() == pytest.approx(0, abs=1e-6)
    both = found.summed(at, torch.tensor([0, 1]), np.array([1, 2])).item()
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert both == pytest.approx(4 * divergence + math.log(2), rel=1e-5)


@given(st.integers(0, 1000), st.sampled_from(["none", "balanced"]), st.sampled_from(["cross_entropy", "focal"]))
def test_of_labels_alone_it_is_the_loss_of_labels(seed, weights, kind):
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
    plain = loss(class_weights=weights, loss=kind, label_smoothing=0.1)
    found = Distillation(plain, teacher([[0.5, 0.5]] * 4, [1.0] * 4), CPU)
    expected = plain.summed(logits, LABELS).item()
    assert found.summed(logits, LABELS, np.arange(4)).item() == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 1000))
def test_who_answers_as_the_teacher_does_has_no_soft_loss_and_no_gradient(seed):
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    same = torch.softmax(logits.detach(), dim=1).tolist()
    found = Distillation(loss(), teacher(same, [0.0] * 4), CPU).summed(logits, LABELS, np.arange(4))
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.abs().max().item() < 1e-5


@pytest.mark.parametrize("mixing", ["none", "cutmix"])
def test_a_student_learns_what_its_teacher_says_against_its_labels(mixing):
    """The teacher calls every image by the next class: so does the student, whose labels count for nothing."""
    activations, labels = tiny.images(60, 1)
    said = np.eye(3, dtype=np.float32)[(labels + 1) % 3] * 0.97 + 0.01
    train = tiny.labelled(tiny.InMemory(activations))
    learnt = Images(
        tiny.CLASSES,
        type(train)(train.activations, train.labels, Teacher(said, np.zeros(60, np.float32))),
        tiny.labelled(tiny.InMemory(tiny.images(30, 2)[0])),
    )
    stage = Stage(depth=1, epochs=20, batch_size=8, learning_rate=2e-2, mixing=mixing, keep="last")
    trained = Trainer(tiny.suffix(), stage, learnt, seed=0, goal=tiny.Goal("accuracy"), device=CPU)
    tiny.run(trained)
    answers = trained.val_logits.argmax(dim=1).numpy()
    assert (answers == (np.arange(30) + 1) % 3).mean() > 0.8


def test_some_of_the_images_have_their_own_answers():
    given_answers = teacher([[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]], [0.3, 0.0, 0.3])
    train = tiny.labelled(tiny.InMemory(tiny.images(3, 1)[0]))
    taken = type(train)(train.activations, train.labels, given_answers).take(np.array([2, 0]))
    assert taken.teacher.probabilities.tolist() == given_answers.probabilities[[2, 0]].tolist()
    assert taken.teacher.hard.tolist() == given_answers.hard[[2, 0]].tolist()

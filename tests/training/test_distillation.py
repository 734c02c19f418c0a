"""What a student minimises: by hand, and what it comes down to at its ends."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from raysearch.recipe import Stage
from raysearch.training.distillation import Distillation, Teacher
from raysearch.training.images import Images
from raysearch.training.loop import Trainer
from raysearch.training.losses import Loss
from tests.training import tiny

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 1, 0, 1])


def says(probabilities: list[list[float]]) -> torch.Tensor:
    """An input to which `teacher` answers with these."""
    return torch.tensor(probabilities).log()


def teacher(hard: list[float]) -> Teacher:
    return Teacher((nn.Sequential(nn.Identity()),), np.array(hard, dtype=np.float32))


def loss(**stage) -> Loss:
    return Loss.of(Stage(depth=0, epochs=1, **stage), LABELS, ("cat", "dog"))


def test_by_hand():
    seen, undecided = says([[0.9, 0.1]]), torch.zeros(1, 2)
    found = Distillation(loss(), teacher([0.3]), CPU, temperature=2.0).of(seen, undecided)
    # At temperature 2 the teacher says 3 : 1 and the student, whose logits are equal, 1 : 1.
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    expected = 0.3 * math.log(2) + 0.7 * 4 * divergence
    assert found(torch.tensor([0]), np.array([0])).item() == pytest.approx(expected, rel=1e-5)
    weighed = Distillation(loss(class_weights={"dog": 3.0}), teacher([0.0]), CPU).of(seen, undecided)
    assert weighed(torch.tensor([1]), np.array([0])).item() == pytest.approx(3 * 4 * divergence, rel=1e-5)


def test_each_image_has_its_own_share_of_the_label():
    found = Distillation(loss(), teacher([0.0, 0.0, 1.0]), CPU).of(says([[0.9, 0.1], [0.1, 0.9]]), torch.zeros(2, 2))
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    both = found(torch.tensor([0, 1]), np.array([1, 2])).item()
    assert both == pytest.approx(4 * divergence + math.log(2), rel=1e-5)


def test_several_teachers_answer_by_the_mean_of_their_probabilities():
    other = nn.Sequential(nn.Linear(2, 2))
    both = Teacher((nn.Sequential(nn.Identity()), other), np.zeros(3, np.float32))
    inputs = torch.randn(3, 2)
    expected = (torch.softmax(inputs, 1) + torch.softmax(other(inputs), 1)) / 2
    assert torch.allclose(both.answers(inputs), expected, atol=1e-6)


@given(st.integers(0, 1000), st.sampled_from(["none", "balanced"]), st.sampled_from(["cross_entropy", "focal"]))
def test_of_labels_alone_it_is_the_loss_of_labels(seed, weights, kind):
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
    plain = loss(class_weights=weights, loss=kind, label_smoothing=0.1)
    found = Distillation(plain, teacher([1.0] * 4), CPU).of(torch.zeros(4, 2), logits)
    expected = plain.summed(logits, LABELS).item()
    assert found(LABELS, np.arange(4)).item() == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 1000))
def test_who_answers_as_the_teacher_does_has_no_soft_loss_and_no_gradient(seed):
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    found = Distillation(loss(), teacher([0.0] * 4), CPU).of(logits.detach(), logits)(LABELS, np.arange(4))
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad.abs().max().item() < 1e-5


class Next(nn.Module):
    """Calls an image by the class after the one that a trained network calls it by."""

    def __init__(self, trained: nn.Module) -> None:
        super().__init__()
        self.trained, self.seen = trained, []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append(inputs)
        return self.trained(inputs).roll(1, dims=1)


@pytest.mark.parametrize("mixing", ["none", "cutmix"])
def test_a_student_learns_what_its_teacher_says_of_what_it_sees_against_its_labels(mixing):
    """The teacher calls every image by the next class: so does the student, whose labels count for nothing."""
    train, val = (tiny.labelled(tiny.InMemory(tiny.images(*which)[0])) for which in ((60, 1), (30, 2)))
    stage = Stage(depth=1, epochs=20, batch_size=8, learning_rate=2e-2, mixing=mixing, keep="last")
    plain = Trainer(
        tiny.suffix(), stage, Images(tiny.CLASSES, train, val), seed=0, goal=tiny.Goal("accuracy"), device=CPU
    )
    tiny.run(plain)
    says_next = Next(plain.suffix.eval().requires_grad_(False))
    learnt = Images(tiny.CLASSES, replace(train, teacher=Teacher((says_next,), np.zeros(60, np.float32))), val)
    trained = Trainer(tiny.suffix(), stage, learnt, seed=0, goal=tiny.Goal("accuracy"), device=CPU)
    tiny.run(trained)
    answers = trained.val_logits.argmax(dim=1).numpy()
    assert (answers == (np.arange(30) + 1) % 3).mean() > 0.8
    known = train.activations.batch(np.arange(60), 0)
    as_they_are = [(one[:, None] == known).flatten(2).all(dim=2).any(dim=1).all() for one in says_next.seen]
    assert all(as_they_are) == (mixing == "none"), "where images are mixed, the teacher sees the mixture"


def test_some_of_the_images_have_their_own_shares():
    train = tiny.labelled(tiny.InMemory(tiny.images(3, 1)[0]))
    taken = replace(train, teacher=teacher([0.3, 0.0, 0.4])).take(np.array([2, 0]))
    assert taken.teacher.hard.tolist() == pytest.approx([0.4, 0.3])

"""The losses of a stage: by hand, and what they come down to where they change nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from raysearch.recipe import Stage
from raysearch.training.losses import Loss
from tests.on_mps import OnMps

CLASSES = ("common", "rare")
THREE_TO_ONE = torch.tensor([0, 0, 0, 1])


def loss(labels: torch.Tensor = THREE_TO_ONE, **stage) -> Loss:
    return Loss.of(Stage(depth=0, epochs=1, **stage), labels, CLASSES)


def of_one(found: Loss, logits: tuple[float, float], label: int) -> float:
    return found.summed(torch.tensor([logits]), torch.tensor([label])).item()


def test_focal_loss_by_hand():
    sure = (math.log(3), 0.0)  # p = 3/4
    assert of_one(loss(loss="focal"), sure, 0) == pytest.approx(0.25**2 * -math.log(0.75), rel=1e-6)
    assert of_one(loss(loss="focal"), sure, 1) == pytest.approx(0.75**2 * -math.log(0.25), rel=1e-6)
    weighed = loss(loss="focal", focal_gamma=1.0, class_weights={"rare": 3.0})
    assert of_one(weighed, sure, 1) == pytest.approx(3 * 0.75 * -math.log(0.25), rel=1e-6)
    smoothed = loss(loss="focal", focal_gamma=1.0, label_smoothing=0.2)
    expected = 0.9 * 0.25 * -math.log(0.75) + 0.1 * 0.75 * -math.log(0.25)
    assert of_one(smoothed, sure, 0) == pytest.approx(expected, rel=1e-6)


def test_logit_adjustment_needs_no_float64_where_it_trains():
    labels = THREE_TO_ONE.as_subclass(OnMps)
    assert torch.equal(loss(labels, loss="logit_adjusted").shift, loss(loss="logit_adjusted").shift)


def test_logit_adjustment_by_hand():
    even = (0.0, 0.0)
    assert of_one(loss(loss="logit_adjusted"), even, 1) == pytest.approx(math.log(4), rel=1e-6)
    assert of_one(loss(loss="logit_adjusted"), even, 0) == pytest.approx(-math.log(0.75), rel=1e-6)
    half = loss(loss="logit_adjusted", adjustment_tau=0.5)
    assert of_one(half, even, 1) == pytest.approx(math.log(1 + math.sqrt(3)), rel=1e-6)


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.1]), st.sampled_from(["none", "balanced", {"rare": 3.0}]))
def test_without_their_number_they_are_cross_entropy(seed, smoothing, weights):
    given_logits = torch.randn(9, 2, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(9) % 2
    stage = {"label_smoothing": smoothing, "class_weights": weights}
    plain = loss(labels, **stage)
    expected = functional.cross_entropy(
        given_logits, labels, plain.weights, reduction="sum", label_smoothing=smoothing
    ).item()
    for other in ({}, {"loss": "focal", "focal_gamma": 0.0}, {"loss": "logit_adjusted", "adjustment_tau": 0.0}):
        found = loss(labels, **stage, **other).summed(given_logits, labels)
        assert found.item() == pytest.approx(expected, rel=1e-5)
    barely = loss(labels, **stage, loss="focal", focal_gamma=1e-9).summed(given_logits, labels)
    assert barely.item() == pytest.approx(expected, rel=1e-5), "the focal branch itself"


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_a_certain_image_has_a_loss_and_a_gradient(gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    found = loss(loss="focal", focal_gamma=gamma).summed(logits, torch.tensor([0, 0]))
    found.backward()
    assert found.item() == pytest.approx(400.0)
    assert torch.isfinite(logits.grad).all()


def test_a_class_without_training_images_counts_as_one_of_one():
    assert torch.isfinite(loss(torch.tensor([0, 0]), loss="logit_adjusted").shift).all()

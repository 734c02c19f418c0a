"""Class weights: the formulas, by hand and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from raysearch.errors import InputError
from raysearch.training.class_weights import class_weights

CLASSES = ("a", "b", "c")


@given(st.lists(st.integers(0, 2), max_size=40))
def test_balanced_is_scikit_learns(more):
    labels = np.array([0, 1, 2, *more])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert class_weights("balanced", torch.tensor(labels), CLASSES).numpy() == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.floats(0, 1))
def test_a_power_lies_between_none_and_balanced(labels, power):
    none, balanced, between = (class_weights(s, torch.tensor(labels), CLASSES) for s in ("none", "balanced", power))
    assert torch.equal(none, torch.ones(3))
    assert between.numpy() == pytest.approx((balanced**power).numpy(), rel=1e-5)
    assert torch.isfinite(balanced).all()


def test_the_effective_number_by_hand():
    """Counts 1, 3 and 2 at beta 0.9: 0.1 / 0.1, 0.1 / 0.271 and 0.1 / 0.19, scaled to add up to three."""
    raw = torch.tensor([1.0, 0.1 / 0.271, 0.1 / 0.19])
    found = class_weights("effective:0.9", torch.tensor([0, 1, 1, 1, 2, 2]), CLASSES)
    assert found.numpy() == pytest.approx((3 * raw / raw.sum()).numpy(), rel=1e-6)


@given(st.lists(st.integers(0, 2), max_size=40))
def test_the_effective_number_lies_between_none_and_balanced(more):
    labels = torch.tensor([0, 1, 2, *more])
    none, balanced = class_weights("effective:0.0", labels, CLASSES), class_weights("balanced", labels, CLASSES)
    assert none.tolist() == pytest.approx([1.0, 1.0, 1.0])
    near = class_weights("effective:0.9999999", labels, CLASSES)
    assert (near / near.sum()).numpy() == pytest.approx((balanced / balanced.sum()).numpy(), rel=1e-3)


def test_weights_by_name_leave_the_others_at_one():
    assert class_weights({"b": 3.0}, torch.tensor([0, 1, 2]), CLASSES).tolist() == [1.0, 3.0, 1.0]


def test_a_weight_for_an_unknown_class_is_refused_by_name():
    with pytest.raises(InputError, match="bee"):
        class_weights({"bee": 3.0}, torch.tensor([0, 1, 2]), CLASSES)

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


def test_weights_by_name_leave_the_others_at_one():
    assert class_weights({"b": 3.0}, torch.tensor([0, 1, 2]), CLASSES).tolist() == [1.0, 3.0, 1.0]


def test_a_weight_for_an_unknown_class_is_refused_by_name():
    with pytest.raises(InputError, match="bee"):
        class_weights({"bee": 3.0}, torch.tensor([0, 1, 2]), CLASSES)

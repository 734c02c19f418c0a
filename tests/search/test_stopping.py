"""The stopping rule: a paired test on planted gains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raysearch.search.verdict import judge

RULE = {"confidence": 0.95, "min_gain": 0.01}


def losses(images: int, gain: float, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Of two models on the same images, the second better by exactly this on average."""
    random = np.random.default_rng(seed)
    before = random.exponential(1.0, images)
    saved = random.normal(0.0, noise, images)
    return before, before - (saved - saved.mean() + gain)


@pytest.mark.parametrize(
    ("images", "gain", "verdict"),
    [
        (250, 0.3, "gain"),
        (250, 0.03, "undecided"),
        (250, -0.3, "none"),
        (5000, 0.05, "gain"),
        (5000, 0.0, "undecided"),
        (5000, -0.02, "none"),
        (100_000, 0.005, "none"),  # certain, but not worth a block
    ],
)
def test_planted_gains(images, gain, verdict):
    found = judge(*losses(images, gain), **RULE)
    assert found.verdict == verdict
    assert found.gain == pytest.approx(gain)
    assert found.low < found.gain < found.high
    assert found.images == images


def test_the_interval_is_that_of_a_paired_t_test():
    before, after = losses(60, 0.1)
    found = judge(before, after, confidence=0.9, min_gain=0.0)
    expected = stats.ttest_rel(before, after).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_two_models_that_are_one_have_no_gain():
    before, _ = losses(50, 0.0)
    assert judge(before, before, **RULE).verdict == "none"


@given(st.integers(2, 400), st.floats(-1, 1), st.integers(0, 10**6), st.floats(0.51, 0.999))
@settings(max_examples=100, deadline=None)
def test_turned_round_it_says_the_opposite(images, gain, seed, confidence):
    before, after = losses(images, gain, seed=seed)
    there = judge(before, after, confidence=confidence, min_gain=0.0)
    back = judge(after, before, confidence=confidence, min_gain=0.0)
    assert (back.gain, back.low, back.high) == pytest.approx((-there.gain, -there.high, -there.low))
    assert (there.verdict == "gain") == (back.verdict == "none" and back.high < 0)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        judge([0.1], [0.2], **RULE)

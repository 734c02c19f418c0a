"""Calibration, answers withheld, and a threshold for two classes."""

from __future__ import annotations

import numpy as np
import pytest

from raysearch.winner.confidence import (
    abstention,
    calibration_error,
    decision_threshold,
    reliability,
    risk_coverage,
)
from raysearch.winner.shipment import Confidence


def answers(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes; each answer is right as often as it says."""
    random = np.random.default_rng(seed)
    sure = random.uniform(0.5, 1.0, n)
    labels = random.integers(2, size=n)
    said = np.where(random.random(n) < sure, labels, 1 - labels)
    probabilities = np.empty((n, 2))
    probabilities[np.arange(n), said] = sure
    probabilities[np.arange(n), 1 - said] = 1 - sure
    return probabilities, labels


def test_a_calibrated_classifier_has_next_to_no_calibration_error_and_a_boaster_has():
    probabilities, labels = answers(20_000)
    assert calibration_error(probabilities, labels) < 0.015
    boasting = np.where(probabilities > 0.5, 0.999, 0.001)
    assert calibration_error(boasting, labels) == pytest.approx(0.999 - 0.75, abs=0.02)


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])  # of those at 0.9 a half are right, of those at 0.6 all
    assert calibration_error(probabilities, labels) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_the_promised_error_holds_on_new_images():
    probabilities, labels = answers(4000)
    least = abstention(risk_coverage(probabilities, labels), 0.1)
    assert least is not None
    new, truth = answers(50_000, seed=1)
    given = new.max(axis=1) >= least
    assert 0.1 < given.mean() < 1
    assert (new.argmax(axis=1) != truth)[given].mean() <= 0.1


def test_with_few_images_no_promise_is_made():
    probabilities, labels = answers(20)
    assert abstention(risk_coverage(probabilities, labels), 0.01) is None


def test_the_curve_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    curve = risk_coverage(probabilities, np.array([0, 1, 1]))
    assert curve.confidences.tolist() == [0.9, 0.8, 0.7]
    assert curve.risk.tolist() == pytest.approx([0, 0, 1 / 3])
    assert curve.coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert (curve.bound > curve.risk).all()
    assert curve.bound[0] == pytest.approx(0.95)  # one right answer: 1 - 0.05 ** 1


def test_a_threshold_is_moved_where_that_is_better_and_left_where_it_is_not():
    positive, labels = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1])

    def accuracy(said: np.ndarray) -> float:
        return float((said == labels).mean())

    assert decision_threshold(positive, labels, accuracy) == pytest.approx(0.25)
    assert decision_threshold(np.array([0.1, 0.2, 0.8, 0.9]), labels, accuracy) == 0.5


def test_of_thresholds_that_are_as_good_the_one_nearest_a_half_is_taken():
    """A bound on recall is kept by every threshold below one; the lowest would call everything the second class."""
    positive, labels = np.array([0.01, 0.02, 0.1, 0.2, 0.3, 0.9]), np.array([0, 0, 0, 1, 0, 1])

    assert decision_threshold(positive, labels, lambda said: said[labels == 1].mean()) == pytest.approx(0.15)
    assert decision_threshold(1 - positive, 1 - labels, lambda said: -said[labels == 1].mean()) == pytest.approx(0.85)


def test_of_answers_that_are_equally_sure_all_are_given_or_none():
    """Saturated probabilities are alike: a promise that held for the first of them would not for the rest."""
    sure = np.array([1.0] * 60 + [0.7] * 40)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    labels = np.array([0] * 55 + [1] * 5 + [0] * 40)  # the last of the surest are wrong
    curve = risk_coverage(probabilities, labels)
    assert curve.confidences.tolist() == [1.0, 0.7]
    assert curve.risk.tolist() == pytest.approx([5 / 60, 5 / 100])
    assert abstention(curve, 0.06) is None


def test_a_threshold_decides_which_answers_are_counted_and_how_sure_they_are():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1]])
    curve = risk_coverage(probabilities, np.array([1, 0]), threshold=0.3)
    assert curve.confidences.tolist() == [0.9, 0.4]
    assert curve.risk.tolist() == [0.0, 0.0]
    assert risk_coverage(probabilities, np.array([1, 0])).risk.tolist() == [0.0, 0.5]


def test_bins_say_how_often_answers_are_right():
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.6, 0.4]])
    unsure, surest = reliability(probabilities, np.array([0, 1, 0]))
    assert unsure == {"confidence": pytest.approx(0.6), "accuracy": 1.0, "images": 1}
    assert surest == {"confidence": pytest.approx(0.91), "accuracy": 0.5, "images": 2}


def test_what_was_promised_is_held_to_the_test_images():
    known, test = answers(4000), answers(2000, seed=1)
    promises = Confidence.of(*known, 1.0, None).promises(*test)
    assert [one["error"] for one in promises] == [0.01, 0.02, 0.05, 0.1]
    last = promises[-1]
    assert last["confidence"] is not None
    given = test[0].max(axis=1) >= last["confidence"]
    assert last["test_coverage"] == pytest.approx(given.mean())
    assert last["coverage"] == pytest.approx((known[0].max(axis=1) >= last["confidence"]).mean())
    assert last["test_error"] == pytest.approx((test[0].argmax(axis=1) != test[1])[given].mean())
    assert last["test_error"] <= 0.1
    few = Confidence.of(*answers(20), 1.0, None).promises(*test)
    assert few[0] == {"error": 0.01, "confidence": None, "coverage": None, "test_coverage": None, "test_error": None}
    assert Confidence().promises(*test) == []


def test_images_of_one_patient_promise_no_more_than_one_image_of_each():
    """Four times the same 200 images, each four of one patient: the bound is that of the 200, or nearly."""
    probabilities, labels = answers(200)
    once, four = risk_coverage(probabilities, labels), np.arange(200).repeat(4)
    many = risk_coverage(probabilities[four], labels[four], groups=four)
    blind = risk_coverage(probabilities[four], labels[four])
    assert np.allclose(many.risk, once.risk)
    assert np.allclose(many.bound, once.bound, atol=0.005), "one patient is spent on the mean, and Student's quantile"
    known = once.bound < 1
    assert (blind.bound[known] < once.bound[known]).all()

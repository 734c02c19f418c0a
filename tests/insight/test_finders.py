"""Wrong labels, outliers and shortcuts are found where they were planted, and not where they were not."""

from __future__ import annotations

import numpy as np
import pytest

from raysearch.activations.neighbours import Neighbours
from raysearch.insight.facts import Facts
from raysearch.insight.label_errors import find_label_errors
from raysearch.insight.outliers import find_outliers
from raysearch.insight.shortcuts import find_shortcuts
from raysearch.training.heads.out_of_fold import EPOCHS, out_of_fold


@pytest.fixture(scope="module")
def clouds():
    """Three clouds of 60 points in 8 dimensions, far apart, and their labels."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 60)
    centres = 4 * np.eye(3, 8)
    return (centres[labels] + generator.normal(size=(180, 8))).astype(np.float32), labels


def test_planted_labels_are_the_surest(clouds):
    features, labels = clouds
    given = labels.copy()
    planted = [3, 70, 150]
    given[planted] = (given[planted] + 1) % 3
    done = []
    probabilities = out_of_fold(features, given, 3, seed=1, progress=done.append)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(180))
    assert sum(done) == 5 * EPOCHS
    errors = find_label_errors(given, probabilities)
    assert set(errors.places[:3].tolist()) == set(planted)
    assert (errors.suggested[planted] == labels[planted]).all()
    assert (np.diff(errors.confidence[errors.places]) <= 0).all()


def test_no_image_is_judged_by_heads_that_saw_its_copy(clouds):
    """Features without meaning: only whoever had seen the very image would know its label."""
    generator = np.random.default_rng(0)
    features = np.repeat(generator.normal(size=(60, 200)).astype(np.float32), 2, axis=0)
    labels = np.repeat(generator.integers(0, 2, 60), 2)
    apart = out_of_fold(features, labels, 2, copies=np.repeat(np.arange(60), 2))
    leaking = out_of_fold(features, labels, 2)
    right = [(found.argmax(axis=1) == labels).mean() for found in (apart, leaking)]
    assert right[0] < 0.7 < 0.85 < right[1]


def test_a_class_of_one_image_is_not_called_wrong(clouds):
    features, labels = clouds
    given = labels.copy()
    given[0] = 3
    errors = find_label_errors(given, out_of_fold(features, given, 4))
    assert 0 not in errors.places


def test_the_odd_one_is_the_outlier(clouds):
    features = clouds[0].copy()
    features[7] = -6
    _, similarities = Neighbours(features).others(5)
    assert find_outliers(similarities).places.tolist()[:1] == [7]


def test_equal_images_have_no_outliers():
    _, similarities = Neighbours(np.ones((6, 3), np.float32)).others(10)
    assert similarities.shape == (6, 5)
    assert find_outliers(similarities).places.size == 0


@pytest.mark.parametrize("leak", ["bytes", "borders", None])
def test_a_shortcut_is_named(leak):
    generator = np.random.default_rng(0)
    n, labels = 300, np.repeat([0, 1], 150)
    facts = Facts(
        bytes=generator.integers(900, 1100, n) + 400 * labels * (leak == "bytes"),
        width=np.full(n, 32),
        height=np.full(n, 32),
        brightness=generator.normal(100, 10, n).astype(np.float32),
        contrast=generator.normal(50, 5, n).astype(np.float32),
        borders=(generator.normal(0, 5, (n, 8)) + 20 * labels[:, None] * (leak == "borders")).astype(np.float32),
        corners=generator.normal(0, 5, (n, 4)).astype(np.float32),
    )
    found = {one.by for one in find_shortcuts(facts, labels) if one.found}
    assert found == {"bytes": {"the file size"}, "borders": {"the border"}, None: set()}[leak]


def test_what_tells_patients_apart_is_no_shortcut_where_they_are_few():
    """A random number a patient: images were counted once, and of 288 such the classifier that knows it was sure."""
    patients = np.repeat(np.arange(24), 12)
    numbers, none = np.random.default_rng(5).integers(900, 1100, 24), np.zeros(288, np.float32)
    same, borders = np.full(288, 32), np.zeros((288, 8), np.float32)
    facts = Facts(numbers[patients], same, same, none, none, borders, borders[:, :4])
    [found] = find_shortcuts(facts, patients % 2, groups=patients)
    assert (found.by, found.found) == ("the file size", False)
    [blind] = find_shortcuts(facts, patients % 2, groups=np.arange(288))
    assert blind.low > found.low

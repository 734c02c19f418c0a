"""The figures that lead a search are the ones scikit-learn computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from raysearch.errors import InputError
from raysearch.record.metric import (
    METRICS,
    check_metric,
    class_metric,
    current_name,
    in_words,
    is_share,
    lacking,
    larger_is_better,
    measured,
    parts,
    score,
    tracked_name,
)
from raysearch.training.metrics import classification_metrics
from raysearch.training.retrieval import retrieval_metrics

CLASSES = ("a", "b", "c")


def some(n: int, c: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    # Few distinct values, so that ties occur.
    return torch.tensor(random.integers(-4, 5, (n, c)) / 2).float(), torch.tensor(random.integers(0, c, n))


@given(st.integers(1, 40), st.integers(0, 10_000))
@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
def test_agrees_with_scikit_learn(n, seed):
    logits, labels = some(n, 3, seed)
    found = classification_metrics(logits, labels, CLASSES)
    y, predicted = labels.numpy(), logits.argmax(1).numpy()
    probabilities = torch.softmax(logits.double(), 1).numpy()
    expected = {
        "loss": reference.log_loss(y, probabilities, labels=[0, 1, 2]),
        "accuracy": reference.accuracy_score(y, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(y, predicted),
        "macro_f1": reference.f1_score(y, predicted, average="macro", zero_division=0),
    }
    for kind, function in (
        ("recall", reference.recall_score),
        ("precision", reference.precision_score),
        ("f1", reference.f1_score),
    ):
        each = function(y, predicted, labels=[0, 1, 2], average=None, zero_division=0)
        expected |= {f"{kind}:{name}": value for name, value in zip(CLASSES, each, strict=True)}
    assert found == pytest.approx(expected, abs=1e-12)


@given(st.integers(2, 60), st.integers(0, 10_000))
def test_auroc_of_two_classes_with_ties(n, seed):
    logits, labels = some(n, 2, seed)
    figures = classification_metrics(logits, labels, ("healthy", "ill"))
    if len(labels.unique()) == 1:
        assert "auroc" not in figures
    else:
        expected = reference.roc_auc_score(labels.numpy(), (logits[:, 1] - logits[:, 0]).numpy())
        assert figures["auroc"] == pytest.approx(expected, abs=1e-12)


@given(st.integers(2, 60), st.integers(2, 4), st.integers(0, 10_000))
def test_what_ranks_is_the_mean_over_the_classes_of_each_against_all_others(n, c, seed):
    logits, labels = some(n, c, seed)
    found = classification_metrics(logits, labels, tuple("abcd")[:c], also=("auroc", "average_precision"))
    there = [one for one in range(c) if 0 < (labels == one).sum() < n]
    assert ("average_precision" in found) == ("auroc" in found) == bool(there)
    scores = torch.log_softmax(logits.double(), 1)  # as probabilities rank, and no two are rounded to one
    if c == 2:
        scores = logits - logits.flip(1)
    for name, function in (
        ("auroc", reference.roc_auc_score),
        ("average_precision", reference.average_precision_score),
    ):
        each = [function(labels.numpy() == one, scores[:, one].numpy()) for one in there]
        assert not there or found[name] == pytest.approx(np.mean(each), abs=1e-12)


def test_what_ranks_is_measured_where_it_is_asked_for():
    logits, labels = some(20, 3, 0)
    assert "auroc" not in classification_metrics(logits, labels, CLASSES)
    assert "average_precision" not in classification_metrics(logits, labels, CLASSES, also=["auroc"])


def test_a_class_may_be_called_anything():
    classes = ("no ship", "a:b")
    figures = classification_metrics(
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1]), classes
    )
    assert [figures[f"{kind}:a:b"] for kind in ("recall", "precision", "f1")] == pytest.approx([1 / 2, 1, 2 / 3])
    for metric in ("recall:a:b", "f1:no ship"):
        check_metric(metric, classes)
    assert class_metric("recall:a:b") == ("recall", "a:b")
    assert in_words("recall:no ship") == "recall of no ship"


def test_several_metrics_are_measured_with_their_balance():
    logits, labels = some(40, 3, 0)
    metric = f"recall:{CLASSES[0]},loss,auroc"
    check_metric(metric, CLASSES)
    figures = classification_metrics(logits, labels, CLASSES, also=[*parts(metric), metric])
    shares = figures[f"recall:{CLASSES[0]}"], math.exp(-figures["loss"]), figures["auroc"]
    assert figures[metric] == pytest.approx(math.prod(shares) ** (1 / 3))
    assert measured(figures, metric) == figures[metric]
    assert larger_is_better(metric)
    assert not is_share(metric)
    assert tracked_name(f"val_{metric}") == f"val_recall_{CLASSES[0]}_and_loss_and_auroc"
    assert lacking(metric, {CLASSES[0]: 0, CLASSES[1]: 3}) == [CLASSES[0]]


def test_a_comma_in_a_class_is_no_second_metric():
    assert parts("recall:a, b,precision:a, b") == ("recall:a, b", "precision:a, b")
    assert parts("recall:ships,boats") == ("recall:ships,boats",)
    assert class_metric("recall:a,precision:b") is None


def test_a_metric_of_absent_classes_is_not_defined():
    assert lacking("recall:a", {"a": 0, "b": 3}) == lacking("auroc", {"a": 0, "b": 3}) == ["a"]
    assert lacking("auroc", {"a": 0, "b": 3, "c": 1}) == lacking("accuracy", {"a": 0}) == []


def test_runs_of_earlier_versions_are_read_in_todays_names():
    assert current_name("recall_no_ship") == "recall:no_ship"
    assert current_name("cv_precision_a_std") == "cv_precision:a_std"
    assert current_name("val_recall:a_b") == "val_recall:a_b"


def test_a_nan_logit_is_a_nan_loss_not_a_crash():
    logits = torch.tensor([[0.0, math.nan], [1.0, 0.0]])
    assert math.isnan(classification_metrics(logits, torch.tensor([0, 1]), ("a", "b"))["loss"])


def test_wrong_shape_is_refused_with_the_shape():
    with pytest.raises(ValueError, match=r"\(2, 2\), got \(2, 3\)"):
        classification_metrics(torch.zeros(2, 3), torch.tensor([0, 1]), ("a", "b"))


def test_score_is_larger_for_better_by_either_name():
    assert score({"loss": 2.0}, "loss") == -2.0
    assert score({"val_accuracy": 0.5, "val_loss": 2.0}, "accuracy") == 0.5
    assert larger_is_better("recall:loss")
    with pytest.raises(InputError, match="auroc"):
        score({"val_accuracy": 0.5}, "auroc")


@pytest.mark.parametrize("metric", [*METRICS, "recall:ill", "precision:healthy", "f1:ill"])
def test_every_metric_that_may_be_named_is_measured(metric):
    check_metric(metric, ("healthy", "ill"))
    logits, labels = some(20, 2, 0)
    figures = classification_metrics(logits, labels, ("healthy", "ill"), also=[metric])
    score(figures | retrieval_metrics(logits, labels), metric)


@pytest.mark.parametrize(
    ("metric", "classes", "says"),
    [
        ("acuracy", CLASSES, "did you mean 'accuracy'"),
        ("recal:a", CLASSES, "did you mean 'recall:a'"),
        ("recall:no shop", ("no ship", "a:b"), "did you mean 'recall:no ship'"),
        ("recall_no ship", ("no ship", "a:b"), "written 'recall:no ship' now"),
        ("precision_x", None, "written 'precision:x' now"),
        ("f1_", None, "unknown"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(metric, classes, says):
    with pytest.raises(InputError, match=says):
        check_metric(metric, classes)

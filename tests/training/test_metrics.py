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
from raysearch.record.metric import METRICS, check_metric, larger_is_better, score
from raysearch.training.metrics import classification_metrics

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
    for kind, function in (("recall", reference.recall_score), ("precision", reference.precision_score)):
        each = function(y, predicted, labels=[0, 1, 2], average=None, zero_division=0)
        expected |= {f"{kind}_{name}": value for name, value in zip(CLASSES, each, strict=True)}
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


def test_a_nan_logit_is_a_nan_loss_not_a_crash():
    logits = torch.tensor([[0.0, math.nan], [1.0, 0.0]])
    assert math.isnan(classification_metrics(logits, torch.tensor([0, 1]), ("a", "b"))["loss"])


def test_wrong_shape_is_refused_with_the_shape():
    with pytest.raises(ValueError, match=r"\(2, 2\), got \(2, 3\)"):
        classification_metrics(torch.zeros(2, 3), torch.tensor([0, 1]), ("a", "b"))


def test_score_is_larger_for_better_by_either_name():
    assert score({"loss": 2.0}, "loss") == -2.0
    assert score({"val_accuracy": 0.5, "val_loss": 2.0}, "accuracy") == 0.5
    assert larger_is_better("recall_loss")
    with pytest.raises(InputError, match="auroc"):
        score({"val_accuracy": 0.5}, "auroc")


@pytest.mark.parametrize("metric", [*METRICS, "recall_ill", "precision_healthy"])
def test_every_metric_that_may_be_named_is_measured(metric):
    check_metric(metric, ("healthy", "ill"))
    logits, labels = some(20, 2, 0)
    score(classification_metrics(logits, labels, ("healthy", "ill")), metric)


@pytest.mark.parametrize(
    ("metric", "classes", "says"),
    [("acuracy", CLASSES, "did you mean 'accuracy'"), ("auroc", CLASSES, "two classes, the data has 3")],
)
def test_a_metric_that_cannot_be_is_refused(metric, classes, says):
    with pytest.raises(InputError, match=says):
        check_metric(metric, classes)

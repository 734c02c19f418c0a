"""What a search is after: bounds count before the metric, and the nearest to them is the best where none keeps them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.errors import InputError
from raysearch.record.goal import Goal, Requirement

shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("text", "metric", "bound"),
    [
        ("recall:pneumonia>=0.97", "recall:pneumonia", 0.97),
        (" recall:no ship >= 0.9 ", "recall:no ship", 0.9),
        ("recall:a>=b>=0.5", "recall:a>=b", 0.5),
        ("loss<=1.5", "loss", 1.5),
    ],
)
def test_a_requirement_is_read_and_written_again(text, metric, bound):
    found = Requirement.parse(text)
    assert (found.metric, found.bound) == (metric, bound)
    assert Requirement.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recall:a", "write METRIC>=NUMBER"),
        ("recall:a>0.9", "write METRIC>=NUMBER"),
        (">=0.9", "write METRIC>=NUMBER"),
        ("recall:a>=much", "'much' is no number"),
        ("accuracy<=0.9", "accuracy is better higher; write accuracy>=0.9"),
        ("loss>=0.3", "loss is better lower; write loss<=0.3"),
        ("accuracy>=90", "accuracy is from 0 to 1; 90 % is 0.9"),
        ("accuracy>=nan", "accuracy is from 0 to 1"),
    ],
)
def test_what_is_no_requirement_is_refused(text, says):
    with pytest.raises(InputError, match=says.replace("<", "[<]")):
        Requirement.parse(text)


@given(st.lists(st.tuples(shares, shares, shares), min_size=2, max_size=8))
def test_the_best_keeps_the_bounds_or_is_the_nearest(figures):
    goal = Goal.of("accuracy", ["recall:ill>=0.8", "loss<=0.5"])
    rows = [dict(zip(("val_accuracy", "val_recall:ill", "val_loss"), one, strict=True)) for one in figures]
    best = max(rows, key=goal.score)
    keeping = [row for row in rows if row["val_recall:ill"] >= 0.8 and row["val_loss"] <= 0.5]
    if keeping:
        assert best in keeping
        assert best["val_accuracy"] == max(row["val_accuracy"] for row in keeping)
    else:
        missed = [max(0, 0.8 - row["val_recall:ill"]) + max(0, row["val_loss"] - 0.5) for row in rows]
        assert goal.shortfall(best) == pytest.approx(min(missed))


def test_a_bound_counts_also_before_a_loss():
    goal = Goal.of("loss", ["accuracy>=0.9"])
    assert goal.score({"loss": 900.0, "accuracy": 0.9}) > goal.score({"loss": 0.1, "accuracy": 0.89})


def test_its_metrics_must_be_those_of_the_classes():
    goal = Goal.of("f1:ill", ["recall:il>=0.9", "auroc>=0.9"])
    assert goal.metrics == ("f1:ill", "recall:il", "auroc")
    (problem,) = goal.check(("healthy", "ill"))
    assert "no class 'il'; did you mean 'recall:ill'?" in problem
    assert goal.check(None) == []
    assert str(goal) == "f1:ill if recall:il>=0.9 and auroc>=0.9"


def test_of_several_metrics_the_balance_leads():
    goal = Goal.of("recall:ill,precision:ill", ["loss<=0.5"])
    assert goal.several == ("recall:ill", "precision:ill")
    assert goal.metrics == ("recall:ill", "precision:ill", "loss")
    row = {"val_recall:ill": 0.9, "val_precision:ill": 0.4, "val_loss": 0.4}
    assert goal.score(row) == pytest.approx(0.6)
    assert goal.standings(row) == (0.9, 0.4)
    missing = goal.standings(row | {"val_loss": 0.75})
    assert missing[0] == missing[1] < -1e5, "who misses a bound is beaten by all who keep it"
    assert Goal.of("accuracy").several == ()
    assert Goal.of("accuracy,loss").score({"accuracy": 0.5, "loss": math.log(2)}) == pytest.approx(0.5)

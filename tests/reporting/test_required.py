"""What a search required is told where its end is told: kept or not, with the interval."""

from __future__ import annotations

import pandas as pd

from raysearch.record.tables import leaders
from raysearch.reporting.comparison import Comparison, Race, comparison_line
from raysearch.reporting.required import requirements_of


def test_a_requirement_is_told_with_its_interval():
    kept = {
        "requirement": "recall:ill>=0.95", "metric": "recall:ill", "bound": 0.95, "on": "out of fold",
        "figure": 0.97, "low": 0.95, "high": 0.98, "met": True, "test": (0.96, 0.91, 0.98),
    }  # fmt: skip
    missed = {**kept, "on": "validation", "figure": 0.91, "low": None, "high": None, "met": False}
    first, second = requirements_of({"requirements": [kept, missed]})
    assert first.sentence == (
        "Required was recall:ill>=0.95, and it is kept: recall of ill is 0.9700 out of fold (90 % interval 0.9500 to "
        "0.9800), and 0.9600 [0.9100, 0.9800] on the test images."
    )
    assert not second.met
    assert "which what is shipped does not keep: recall of ill is 0.9100 on validation" in second.sentence
    (unmeasured,) = requirements_of({"requirements": [{**kept, "test": None, "test_lacks": ["ill"]}]})
    assert unmeasured.sentence.endswith("0.9800), and not measured on test: no images of ill.")
    assert requirements_of({}) == requirements_of(None) == []


def test_the_leaders_are_those_that_keep_the_bound():
    table = pd.DataFrame({
        "trial": ["t0", "t1", "t2", "t3"], "state": "done", "val_accuracy": [0.9, 0.8, 0.95, 0.85],
        "val_recall:ill": [0.96, 0.97, 0.5, 0.93], "val_loss": 1.0,
    })  # fmt: skip
    assert leaders(table)["trial"].tolist() == ["t2", "t0", "t3", "t1"]
    assert leaders(table, require=["recall:ill>=0.95"])["trial"].tolist() == ["t0", "t1", "t3", "t2"]


def test_a_comparison_says_that_the_bound_decided():
    race = Race("t0001", 2, 100, -0.02, -0.03, -0.01, True, 0.04)
    comparison = Comparison(("t0000", "t0001"), True, 2, 3, True, 0.9, (race,), "t0001", 4, None, 1.0)
    line = comparison_line(comparison, "accuracy")
    assert "t0001 replaces it: it misses what is required by 0.0400 less; -2.0 points" in line

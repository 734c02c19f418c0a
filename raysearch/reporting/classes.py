"""The sections of the report page on the classes: which are known, and what each is taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysearch.record.evaluation import EvaluationDocument
from raysearch.record.tables import cell
from raysearch.reporting.elements import Plot, Table
from raysearch.reporting.value_charts import confusion_matrix

_SPLITS = (("train", "train"), ("train_augmented", "train, augmented"), ("val", "validation"), ("test", "test"))
_SHIPPED = (("out_of_fold", "shipped, out of fold"), ("test", "shipped, test"))
MOST_CLASSES = 100
"""Of a confusion matrix that is drawn: a picture of more would not fit the page's 6 MB, nor be readable."""


def confusion_figure(evaluation: EvaluationDocument | None, classes: Sequence[str] | None) -> Plot | str:
    """The confusion matrix on the test images; a sentence where there is none."""
    matrix = _confusion(evaluation)
    if evaluation is None or matrix is None:
        return "The confusion matrix is made at the end of the search, when the test images are read."
    if len(matrix) > MOST_CLASSES:
        return f"A picture of {len(matrix)} classes would not be readable; the most frequent confusions are below."
    shipped = evaluation.get("shipped") is not None
    models, who = len(evaluation["test"]["accuracy"]["values"]), "what is shipped" if shipped else "the winner"
    models = 1 if shipped else models
    return Plot(
        "confusion",
        confusion_matrix(_class_names(evaluation, classes), matrix),
        f"Confusion matrix of {who} on the test images",
        f"A row is a true class, a column what {who} called it; right answers are on the diagonal. The colour is "
        "the share of the row" + (f", the numbers are means over {models} trainings." if models > 1 else "."),
    )


def confusions_table(evaluation: EvaluationDocument | None) -> Table | None:
    """The ten most frequent confusions."""
    matrix = _confusion(evaluation)
    if evaluation is None or matrix is None:
        return None
    names = _class_names(evaluation, None)
    wrong = [
        (count, names[i], names[j]) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count
    ]
    worst = sorted(wrong, key=lambda one: -one[0])[:10]
    rows = [[true, taken, cell(round(float(count), 1))] for count, true, taken in worst]
    return Table(["true", "taken for", "images"], rows, frozenset({0, 1})) if rows else None


def _confusion(evaluation: EvaluationDocument | None) -> Sequence[Sequence[float]] | None:
    """The confusion of what is shipped; in runs that do not know of it, the mean over the winner's trainings."""
    if evaluation is None:
        return None
    shipped = evaluation.get("shipped")
    return evaluation["test"].get("confusion") if shipped is None else shipped["test"]["confusion"]


def _class_names(evaluation: EvaluationDocument, classes: Sequence[str] | None) -> list[str]:
    return list(classes or evaluation["test"]["per_class"])


def class_table(evaluation: EvaluationDocument | None) -> Table | None:
    """Per-class figures of every split that was measured, side by side."""
    found: Mapping[str, Any] = evaluation if evaluation is not None else {}
    shipped = found.get("shipped", {})
    splits = [(label, found.get(name, {}).get("per_class")) for name, label in _SPLITS]
    splits += [(label, shipped.get(name, {}).get("per_class")) for name, label in _SHIPPED]
    measured = [(label, per_class) for label, per_class in splits if per_class]
    if not measured:
        return None
    keys = ("precision", "recall", "f1", "support")
    columns = ["class", *["precision", "recall", "F1", "support"] * len(measured)]
    rows = [
        [name, *(_of_class(per_class.get(name, {}).get(key)) for _, per_class in measured for key in keys)]
        for name in measured[-1][1]
    ]
    return Table(columns, rows, groups=[("", 1), *((label, len(keys)) for label, _ in measured)])


def _of_class(value: Any) -> str:
    return f"{value['mean']:.3f}" if isinstance(value, Mapping) else cell(value)

"""The names of metrics, which way each is better, and which of them a search may be led by."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Literal

from raysearch.errors import InputError

METRICS: dict[str, Literal["max", "min"]] = {
    "accuracy": "max",
    "balanced_accuracy": "max",
    "macro_f1": "max",
    "loss": "min",
    "auroc": "max",
}
"""Names for `--metric`, and which way is better; `recall_<class>` and `precision_<class>` ("max") may be named too."""


def score(figures: Mapping[str, float], metric: str) -> float:
    """The figure of `metric` so that larger is better: the loss comes back negated.

    Args:
        figures: of `classification_metrics`, or a row of the training loop (the same names with `val_` before them).
        metric: a name that `check_metric` accepts.
    """
    value = figures.get(metric, figures.get(f"val_{metric}"))
    if value is None:
        raise InputError(f"metric {metric!r} was not measured here; there are {', '.join(figures)}")
    return value if larger_is_better(metric) else -value


def larger_is_better(metric: str) -> bool:
    """The direction of a metric's name."""
    return METRICS.get(metric, "max") == "max"


def check_metric(metric: str, classes: Sequence[str]) -> None:
    """Refuses, before anything runs, a metric that these classes do not have.

    Raises:
        InputError: an unknown name (the nearest is suggested), or AUROC of other than two classes.
    """
    names = [*METRICS, *(f"{kind}_{name}" for kind in ("recall", "precision") for name in classes)]
    if metric not in names:
        near = difflib.get_close_matches(metric, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"metric {metric!r} is unknown; {hint}there are {', '.join(names)}")
    if metric == "auroc" and len(classes) != 2:
        raise InputError(f"metric 'auroc' needs two classes, the data has {len(classes)}; take balanced_accuracy")

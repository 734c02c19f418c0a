"""The names of metrics, which way each is better, and which of them a search may be led by."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from raysearch.errors import InputError

METRICS: dict[str, Literal["max", "min"]] = {
    "accuracy": "max",
    "balanced_accuracy": "max",
    "macro_f1": "max",
    "loss": "min",
    "auroc": "max",
    "average_precision": "max",
    "precision_at_10": "max",
    "precision_at_20": "max",
}
"""Names for `--metric`, and which way is better; those of a class (`OF_A_CLASS`), all "max", may be named too."""
OF_A_CLASS = ("recall", "precision", "f1")
"""Written with the class behind a colon, which may hold anything: `recall:no ship`."""
RANKED = ("auroc", "average_precision")
"""How well the probabilities of a class rank its images before all others, a mean over the classes."""
RETRIEVAL: dict[str, int] = {"precision_at_10": 10, "precision_at_20": 20}
"""Of the images that are most like one, the first so many: the share of its class, a mean over the images."""
_OLD = re.compile(rf"^((?:val_|cv_)?)(?!(?:{'|'.join(RETRIEVAL)})(?:_std)?$)({'|'.join(OF_A_CLASS[:2])})_")
_BETWEEN = re.compile(rf",\s*(?=(?:{'|'.join(METRICS)})\s*(?:,|$)|(?:{'|'.join(OF_A_CLASS)}):)")
_NAMED = 8


def parts(metric: str) -> tuple[str, ...]:
    """The metrics of a search that is after several, written with commas between them; else the one."""
    return tuple(part.strip() for part in _BETWEEN.split(metric))


def class_metric(metric: str) -> tuple[str, str] | None:
    """("recall", "cat") for `recall:cat`; None for what is of no class."""
    kind, colon, name = metric.partition(":")
    if len(parts(metric)) > 1:
        return None
    return (kind, name) if colon and kind in OF_A_CLASS else None


def score(figures: Mapping[str, float], metric: str) -> float:
    """The figure of `metric` so that larger is better: the loss comes back negated.

    Args:
        figures: of `classification_metrics`, or a row of the training loop (the same names with `val_` before them).
        metric: a name that `check_metric` accepts.
    """
    value = measured(figures, metric)
    return value if larger_is_better(metric) else -value


def measured(figures: Mapping[str, float], metric: str) -> float:
    """The figure itself, of figures as of `score`; of several metrics, their balance.

    The balance is the geometric mean, of a loss that of the probabilities of the right classes, exp(-loss). It is the
    larger the more of the unit square lies below a point, and 0 where any of them is.

    Raises:
        InputError: it is not among them.
    """
    value = figures.get(metric, figures.get(f"val_{metric}"))
    if value is None and len(several := parts(metric)) > 1:
        values = (measured(figures, one) for one in several)
        shares = (one if larger_is_better(name) else math.exp(-one) for name, one in zip(several, values, strict=True))
        return math.prod(shares) ** (1 / len(several))
    if value is None:
        raise InputError(f"metric {metric!r} was not measured here; there are {', '.join(figures)}")
    return value


def larger_is_better(metric: str) -> bool:
    """The direction of a metric's name."""
    return METRICS.get(metric, "max") == "max"


def is_share(metric: str) -> bool:
    """Whether it is a share of images, or a mean of such shares: its differences are told in points."""
    of_class = class_metric(metric)
    return metric in ("accuracy", "balanced_accuracy", *RETRIEVAL) or (of_class is not None and of_class[0] != "f1")


def in_words(metric: str) -> str:
    """A metric in a sentence, e.g. "macro f1" or "recall of no ship"."""
    if len(several := parts(metric)) > 1:
        return f"balance of {' and '.join(in_words(one) for one in several)}"
    of_class = class_metric(metric)
    return metric.replace("_", " ") if of_class is None else f"{of_class[0]} of {of_class[1]}"


def tracked_name(column: str) -> str:
    """A figure's column as W&B and TensorBoard have it, whose names cannot hold a colon: val_recall_cat."""
    return "_and_".join(parts(column)).replace(":", "_")


def current_name(name: str) -> str:
    """A metric, or a column of its figures, in today's spelling: runs of earlier versions say `recall_cat`."""
    return _OLD.sub(r"\1\2:", name)


def check_metric(metric: str, classes: Sequence[str] | None) -> None:
    """Refuses, before anything runs, a metric that these classes do not have.

    Args:
        metric: as it was typed.
        classes: their names; None where they are not known yet: then only what no data has is refused.

    Raises:
        InputError: an unknown name or class; the nearest is suggested. Of several, the first that is wrong, or that
            goes with no other.
    """
    if len(several := parts(metric)) > 1:
        if alone := [one for one in several if one in RETRIEVAL]:
            raise InputError(f"metric {metric!r}: {alone[0]} leads a search alone; name no other beside it")
        for one in several:
            check_metric(one, classes)
        if twice := sorted({one for one in several if several.count(one) > 1}):
            raise InputError(f"metric {metric!r} names {twice[0]} twice")
        return
    of_class = class_metric(metric)
    if metric in METRICS or (of_class is not None and (classes is None or of_class[1] in classes)):
        return
    there = [*METRICS, *(f"{kind}:{name}" for name in classes or () for kind in OF_A_CLASS)]
    if of_class is not None:
        known = classes or ()
        told = f"metric {metric!r}: there is no class {of_class[1]!r}; "
        end = f"the classes are {', '.join(known[:_NAMED])}{', …' * (len(known) > _NAMED)}"
        there = [f"{of_class[0]}:{name}" for name in known]
    elif (classes is None and current_name(metric) != metric) or current_name(metric) in there:
        raise InputError(f"metric {metric!r} is written {current_name(metric)!r} now: the class stands behind a colon")
    else:
        told = f"metric {metric!r} is unknown; "
        end = f"there are {', '.join([*METRICS, *(f'{kind}:CLASS' for kind in OF_A_CLASS)])}"
    near = difflib.get_close_matches(metric, there, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"{told}{hint}{end}")


def lacking(metric: str, counts: Mapping[str, int]) -> list[str]:
    """Classes without whose images a metric is not defined on some images.

    Recall, precision and F1 need images of their class; what ranks needs images of two classes, and is the mean over
    those that are there.

    Args:
        metric: a name that `check_metric` accepts.
        counts: of the images by class.
    """
    if len(several := parts(metric)) > 1:
        return list(dict.fromkeys(name for one in several for name in lacking(one, counts)))
    of_class = class_metric(metric)
    if of_class is not None:
        return [] if counts.get(of_class[1], 1) else [of_class[1]]
    absent = [name for name, n in counts.items() if not n]
    return absent if metric in RANKED and len(counts) - len(absent) < 2 else []

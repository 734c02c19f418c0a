"""Columns of a table of images: which one says the split, which are not read, and labels that stand for no label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from raysearch.data.account import Doubt
from raysearch.data.listing import some
from raysearch.data.split_names import split_name, words_of
from raysearch.errors import InputError

_FLAGS = {"is_valid": "val", "is_val": "val", "is_validation": "val", "is_test": "test"}
"""Columns of yes and no: yes is this split, no is train."""
_SPLIT_WORDS = frozenset((
    "fold", "folds", "kfold", "k_fold", "subset", "set", "phase", "partition", "split", "splits", "data_split",
    "dataset_split", "usage", "is_train", "valid", "validation", "test", "train", "training",
))  # fmt: skip
_SAY_SPLIT = frozenset(("train", "training", "test", "testing", "val", "valid", "validation", "split", "fold", "folds"))
_BESIDE_THESE = frozenset(
    ("is", "in", "cv", "k", "id", "idx", "index", "number", "no", "image", "img", "set", "data", "flag", "or")
)
"""Words of names such as is_training_image, cv_fold or train_val_test: all of them are of both, one of the first."""
_YES = frozenset(("true", "1", "1.0", "yes", "y", "t"))
_NO = frozenset(("false", "0", "0.0", "no", "n", "f"))
_NO_LABEL = frozenset((
    "nan", "none", "null", "n/a", "na", "#n/a", "<na>", "nat", "undefined", "nil", "?", "-", "--", "#ref!", "#name?",
    "#value!", "#div/0!", "#null!", "#num!", "unlabeled", "unlabelled",
))  # fmt: skip
"""What programs write where there is nothing."""
_SEVERAL = re.compile(r"[|;]|^\[.*\]$|^\{.*\}$", re.DOTALL)
"""In what holds more than one label: a separator, a list, or an object of JSON."""
_WHOLE = re.compile(r"-?\d+(?:\.0*)?")
_JOINED = re.compile(r"\s*[,+&/]\s*|\s+and\s+|\s+")
"""Between labels that somebody joined to one."""


def split_values(source: str, columns: Mapping[str, Sequence[str]]) -> tuple[str, list[str]] | None:
    """The column among those that are not read otherwise that says each image's split, and what it says.

    It is the one whose values are all names of splits (at least two of them), or one of yes and no called `is_valid` or
    the like.

    Args:
        source: for messages.
        columns: values by the column's name, lower-case.

    Returns:
        its name, and train, val or test for each row; None where there is none.

    Raises:
        InputError: several columns do, or one is called as if it did and its values are no names of splits.
    """
    found: dict[str, list[str]] = {}
    unclear = []
    for name, values in columns.items():
        said = [value.strip().lower() for value in values]
        distinct = set(said)
        named = {value: split_name(value) for value in distinct}
        if len(set(named.values())) > 1 and None not in named.values():
            found[name] = [named[value] or "" for value in said]
        elif name in _FLAGS and distinct <= _YES | _NO and len(distinct) > 1:
            found[name] = [_FLAGS[name] if value in _YES else "train" for value in said]
        elif _may_say_split(name) and len(distinct) > 1:
            unclear.append(f"{name} ({some(sorted(distinct))})")
    if len(found) > 1:
        raise InputError(
            f"{source} has {len(found)} columns that say a split: {', '.join(found)}. Name the one that is meant "
            "split, and take the other away."
        )
    if unclear and not found:
        raise InputError(
            f"{source}: the column {' and '.join(unclear)} looks like a split, but its values do not say which images "
            "are for training and which for the test. Add a column split of train, val and test made from it; or give "
            "it another name, such as x_fold, and it is not read."
        )
    return next(iter(found.items()), None)


def _may_say_split(name: str) -> bool:
    words = set(words_of(name))
    return name in _SPLIT_WORDS or (bool(words & _SAY_SPLIT) and words <= _SAY_SPLIT | _BESIDE_THESE)


def label_doubts(source: str, labels: Sequence[str]) -> list[Doubt]:
    """Labels that some program wrote where there was none, and labels that are several others joined."""
    counts = Counter(labels)
    odd = {label: n for label, n in counts.items() if label.strip().lower() in _NO_LABEL}
    if len(counts) > 2 and all(_number(label) is not None for label in counts):  # but -1 and 1 are two classes
        odd |= {label: n for label, n in counts.items() if label == "-1"}
    doubts = []
    if odd:
        told = ", ".join(f"{label!r} ({n:,} images)" for label, n in odd.items())
        what = f"{source} has the class {told}, which is what programs write where a label is missing."
        doubts.append(Doubt(what, "Take those rows away, unless it is a class."))
    joined = [label for label in counts if len(parts := _JOINED.split(label)) > 1 and set(parts) <= counts.keys()]
    if joined:
        told = some([repr(label) for label in sorted(joined)])
        what = f"{source} has classes that are others joined ({told}): its images may have several labels each."
        doubts.append(Doubt(what, "Choose one label an image, unless each combination is a class of its own."))
    return doubts


def not_read(source: str, columns: Sequence[str]) -> list[str]:
    """What the account says of columns that nothing read."""
    if not columns:
        return []
    return [f"the column{'s' * (len(columns) > 1)} {some(columns, 10)} of {source}"]


def whole_labels(labels: Sequence[str]) -> tuple[list[str], str]:
    """Labels of whole numbers without the point that programs write behind them; and one that had it, or ""."""
    given = {label for label in labels if label}
    with_point = next((label for label in labels if "." in label), "")
    if not with_point or not all(_WHOLE.fullmatch(label) for label in given):
        return list(labels), ""
    return [label.partition(".")[0] for label in labels], with_point


def label_problems(source: str, labels: Sequence[str]) -> list[str]:
    """What makes labels something other than one class an image."""
    problems = []
    empty = sum(not label for label in labels)
    if empty:
        problems.append(f"{source}: {empty} images have no label. Fill them in, or delete their rows.")
    distinct = {label for label in labels if label}
    several = sorted(label for label in distinct if _SEVERAL.search(label))
    if several:
        problems.append(
            f"{source} looks multi-label (labels such as {some(several)}): only single-label classification is "
            "supported. Choose one label an image."
        )
    numbers = [_number(label) for label in distinct]
    if distinct and all(number is not None for number in numbers):
        broken = sorted(label for label in distinct if not float(label).is_integer())
        if broken:
            problems.append(
                f"{source} looks like regression (targets such as {some(broken)}): only classification is supported. "
                "Give class names or whole numbers as labels."
            )
    return problems


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

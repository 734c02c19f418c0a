"""The checks of a search on its images, beyond whether they can be read: enough of each class, nothing odd if asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from raysearch.data.account import Doubt
from raysearch.data.dataset import Dataset
from raysearch.data.listing import some
from raysearch.errors import Problems
from raysearch.record.goal import Goal
from raysearch.record.metric import lacking

FEW_IMAGES = 5
"""Validation or test images of a class that are too few to tell how good a model is at it."""
_UNEVEN = 10
"""By what factor classes may differ before accuracy says little."""


def checked(dataset: Dataset, goal: Goal, strict: bool, problems: Problems) -> Dataset:
    """The images with the whole account of them: what is odd for this goal, too.

    Args:
        dataset: as it was loaded.
        goal: what the search will be after.
        strict: whether what is odd is a problem.
        problems: gets what cannot be used.
    """
    counts = dataset.account.counts
    doubts = [*class_doubts(counts, goal.metric), *_unmeasured(counts.get("test", {}), goal)]
    account = dataset.account.adding(doubts=doubts)
    val = counts.get("val", {})
    for metric in dict.fromkeys(goal.metrics):
        absent = lacking(metric, val)
        problems.check(
            not absent, f"metric {metric!r} needs validation images of {some(absent)}, of which there are none"
        )
    if strict:
        problems.found += [f"--strict: {doubt.line()}" for doubt in account.doubts]
    return replace(dataset, account=account)


def _unmeasured(test: Mapping[str, int], goal: Goal) -> list[Doubt]:
    """The metrics that a search is after which its test images will say nothing of."""
    return [
        Doubt(f"{metric} will not be measured on test: there are no images of {some(absent)}.", "Add some to test.")
        for metric in goal.metrics
        if test and (absent := lacking(metric, test))
    ]


def class_doubts(counts: Mapping[str, Mapping[str, int]], metric: str) -> list[Doubt]:
    """Classes with too few images to choose by, or to be measured on, and classes that accuracy hardly sees."""
    doubts = []
    weighing = "--metric balanced_accuracy gives every class the same weight; more images of it help more."
    for split, used in (("val", "validation"), ("test", "test")):
        few = {name: n for name, n in counts.get(split, {}).items() if 0 < n < FEW_IMAGES}
        if few:
            told = "; ".join(f"{name} has {n} {used} image{'s' * (n != 1)}" for name, n in list(few.items())[:3])
            told += f"; and {len(few) - 3} more classes have as few" * (len(few) > 3)
            remedy = weighing if split == "val" and metric == "accuracy" else "More images of it are needed."
            doubts.append(Doubt(f"{told}.", remedy))
    train = {name: n for name, n in counts.get("train", {}).items() if n}
    if train and metric == "accuracy" and max(train.values()) >= _UNEVEN * min(train.values()):
        most, least = max(train, key=lambda name: train[name]), min(train, key=lambda name: train[name])
        share = train[most] / sum(train.values())
        told = (
            f"{most} has {train[most]:,} training images and {least} {train[least]:,}: who always answers {most} is "
            f"right in {share:.0%}."
        )
        doubts.append(Doubt(told, "--metric balanced_accuracy or macro_f1 sees the small classes."))
    return doubts

"""Comparisons that are fair: paired on the same images, or of trials after as many epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raysearch.intervals import difference_interval, mean_interval
from raysearch.record.decision import decided
from raysearch.record.events import Event
from raysearch.record.metric import larger_is_better
from raysearch.record.tables import missing


@dataclass(frozen=True)
class Paired:
    """How much more often one model is right than another on the same images."""

    difference: float
    """The share of right answers less the other's, in [-1, 1]."""
    low: float
    high: float
    """Ends of its 95 % interval."""
    images: int

    @classmethod
    def of(cls, ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray | None = None) -> Paired:
        """The difference of two models on the same images.

        Args:
            ours, theirs: whether each answer is right, shape (n,), n > 1.
            groups: as of `mean_interval`.
        """
        differences = ours.astype(float) - theirs.astype(float)
        return cls(*mean_interval(differences, 0.95, groups), len(differences))

    def __str__(self) -> str:
        ends = f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        return f"{100 * self.difference:+.1f} points, 95 % interval {ends}"

    @property
    def verdict(self) -> str:
        """The interval in words."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else f"not to be told apart on {self.images} images"


def paired_difference(predictions: Path, other: str, threshold: float | None = None) -> Paired | None:
    """How much more often the winner is right than another model on the test images.

    The interval is Student's, for the mean of the paired differences of right (1) and wrong (0).

    Args:
        predictions: predictions.parquet.
        other: the column of the other one, e.g. "head".
        threshold: of the winner, as of `raysearch.record.decision.decided`.

    Returns: None where the file, one of the models or enough images (two) are missing.
    """
    if not predictions.is_file():
        return None
    frame = pd.read_parquet(predictions)
    frame = frame[frame["split"] == "test"]
    if not {"winner", other} <= set(frame) or len(frame) < 2:
        return None
    ours, theirs = (
        decided(np.stack(list(frame[name])), level) == frame["label"].to_numpy()
        for name, level in (("winner", threshold), (other, None))
    )
    return Paired.of(ours, theirs, groups_of(frame))


def groups_of(predictions: pd.DataFrame) -> np.ndarray | None:
    """The images' groups, (n,), as predictions.parquet has them; None: it does not know of any."""
    return predictions["group"].to_numpy() if "group" in predictions else None


def comparable(
    paths: pd.DataFrame, history: pd.DataFrame, events: Sequence[Event], metric: str
) -> tuple[pd.DataFrame, dict[int, list[str]], dict[int, int]]:
    """The trials of each level after as many epochs as all of them had, with what was searched.

    A trial that was promoted is trained longer, and better for it whatever its values: only what all had is comparable.
    Controls were not proposed, and are left out.

    Args:
        paths: as `raysearch.reporting.paths.with_paths` gives them.
        history, events: of the run.
        metric: without its "val_".

    Returns: trial, level, depth, score and a column a searched value, by the name that it has in a stage; the names
        that were searched at each level; the epochs that its trials are compared after.
    """
    column = f"val_{metric}"
    asked = {event["trial"]: event.get("params", {}) for event in events if event["event"] == "trial"}
    known = history[history[column].notna()] if column in history else history.iloc[:0]
    curves = dict(list(known.groupby("trial")))
    proposed = paths[(paths["role"] != "control") & paths["trial"].isin(list(curves))]
    searched: dict[int, list[str]] = {}
    epochs: dict[int, int] = {}
    for level, trials in proposed.groupby("level")["trial"]:
        names = (name.removeprefix(f"schedule.{level}.") for trial in trials for name in asked.get(trial, {}))
        searched[level] = list(dict.fromkeys(names))
        epochs[level] = min(int(curves[trial]["epoch"].max()) for trial in trials)
    wanted = dict.fromkeys(name for names in searched.values() for name in names)
    rows = []
    for row in proposed.to_dict("records"):
        level, curve = row["level"], curves[row["trial"]]
        figures = curve[curve["epoch"] <= epochs[level]][column]
        score = figures.max() if larger_is_better(metric) else figures.min()
        values = {name: _value(row, f"schedule.{level}.", name) for name in wanted}
        rows.append(values | {"trial": row["trial"], "level": level, "depth": int(row["depth"]), "score": score})
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(["trial", "level", "depth", "score", *wanted])))
    return table[table["score"].notna()], searched, epochs


@dataclass(frozen=True)
class Contrast:
    """The trials of a level that had something, and those that had not."""

    what: str
    level: int
    having: Sequence[float]
    """Their scores."""
    lacking: Sequence[float]

    @property
    def difference(self) -> tuple[float, float, float] | None:
        """The mean of those having it less that of those lacking it, with the ends of its 95 % interval.

        None where there are too few of either.
        """
        if min(len(self.having), len(self.lacking)) < 2:
            return None
        return difference_interval(self.having, self.lacking, 0.95)


def contrasts(compared: pd.DataFrame, paths: pd.DataFrame) -> list[Contrast]:
    """Compares trials with and without augmentation, and with and without class weights, at each level.

    Args:
        compared: as `comparable` gives it.
        paths: the same trials as `raysearch.reporting.paths.with_paths` gives them.

    Returns: those of which both kinds were tried.
    """
    rows = {row["trial"]: row for row in paths.to_dict("records")}
    found = []
    for level, trials in compared.groupby("level"):
        for what, name in (("augmentation", "strength"), ("class weights", "class_weights")):
            groups: dict[bool, list[float]] = {True: [], False: []}
            for trial, score in zip(trials["trial"], trials["score"], strict=True):
                value = rows[trial].get(f"schedule.{level}.{name}")
                if not missing(value):
                    groups[value not in ("none", "0", "0.0", 0)].append(float(score))
            if groups[True] and groups[False]:
                found.append(Contrast(what, int(level), groups[True], groups[False]))
    return found


def _value(row: Mapping[str, Any], stage: str, name: str) -> Any:
    """A searched value as it was trained with: what the recipe says; a choice of nothing is a choice too."""
    value = row.get(f"{stage}{name}", row.get(name))
    return "none" if missing(value) else value

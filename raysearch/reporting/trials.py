"""The sections of the report page on the trials: the tree, the cost, the curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from raysearch.intervals import effective_number
from raysearch.record.level_events import LevelJudged, RatesTested
from raysearch.record.metric import in_words, larger_is_better
from raysearch.record.tables import cell, deciding
from raysearch.reporting import curve_charts
from raysearch.reporting import trial_charts as charts
from raysearch.reporting.compare import groups_of
from raysearch.reporting.elements import Plot, Table
from raysearch.reporting.paths import trained_parameters


class ComparedImages(NamedTuple):
    """The validation images that the trials of a search were compared on."""

    number: int
    independent: float
    """How many independent draws would say as much of an accuracy: groups say less than as many images."""

    @property
    def told(self) -> str:
        """How many there are, and how many they are worth: "500 validation images (worth 20 independent ones)"."""
        few = self.independent < 0.9 * self.number
        return f"{self.number} validation images" + f" (worth {self.independent:.0f} independent ones)" * few


def tree_figure(
    paths: pd.DataFrame, heads: pd.DataFrame, metric: str, winner: str | None, images: ComparedImages | None
) -> Plot | str:
    """Every trial at its level of the tree, or at its depth."""
    if not _has_figures(paths, metric):
        return "No trial has come to its first comparison, so there is nothing to compare yet."
    what = "level of the schedule tree" if paths["level"].nunique() > 1 else "depth"
    bar = ""
    if images and deciding(paths, metric) == "val_accuracy":
        bar = (
            " The bar beside a column is the 95 % interval of its best (Wilson's, on "
            f"{images.told}): what another draw of images could have shown. "
            "The best of many is flattered besides."
        )
    return Plot(
        "tree",
        charts.schedule_tree(paths, heads, metric, winner, None if images is None else images.independent),
        f"Validation {in_words(metric)} of every trial by {what}, joined to what it started from",
        f"A point is a trial, at its {what}; a line leads from what it started from. The thick line is the path of the "
        f"winner.{bar}",
    )


def verdicts_figure(levels: Sequence[LevelJudged]) -> Plot | None:
    """What the tests of the levels said, if there were any."""
    tested = [event for event in levels if "gain" in event]
    if not tested:
        return None
    return Plot(
        "verdicts",
        charts.verdicts(tested),
        "What opening each level gained against the same training without it",
        "Whether a level was worth opening: its leader against the same stage with no block opened, on validation "
        "images that chose nothing. All of the interval right of 0: a gain; if it spans 0, these images cannot tell.",
    )


def best_table(best: pd.DataFrame, metric: str) -> Table | None:
    """The best trials, best first."""
    if not len(best):
        return None
    columns = ["trial", "parent", "role", "depth", "state", "epochs", "seconds", deciding(best, metric)]
    rows = [[cell(row[name]) for name in columns] for row in best.to_dict("records")]
    names = {"parent": "from", columns[-1]: f"validation {in_words(metric)}"}
    return Table([names.get(name, name) for name in columns], rows, frozenset({0, 1, 2, 4}))


def costs_figure(folder: Path, paths: pd.DataFrame, metric: str) -> Plot | str:
    """Accuracy against cost."""
    if not _has_figures(paths, metric):
        return "Accuracy against cost needs a trial that has come to its first comparison."
    table = paths.assign(parameters=trained_parameters(folder, paths))
    titles = {
        "path_seconds": "seconds of training, all stages",
        "parameters": "trained parameters",
        "depth": "depth",
    }
    views = {name: title for name, title in titles.items() if table[name].notna().any()}
    missing = (
        "" if "parameters" in views else " How many parameters were trained is not known: no checkpoints are left."
    )
    return Plot(
        "costs",
        charts.costs(table, metric, views),
        f"Validation {in_words(metric)} against cost",
        f"{'Higher' if larger_is_better(metric) else 'Lower'} and further left is better; the line joins the trials "
        "that no other beats in both. The list above the figure changes the cost: seconds (of the whole path, its head "
        f"included), trained parameters, or depth.{missing}",
    )


def curves_figure(
    paths: pd.DataFrame, heads: pd.DataFrame, history: pd.DataFrame, metric: str, winner: str | None
) -> Plot | str:
    """The learning curves of all trials."""
    column = f"val_{metric}"
    trained = history[history["trial"].isin(paths["trial"])]
    if column not in history or not trained[column].notna().any():
        return "No trial has trained an epoch, so there are no learning curves."
    figure, drawn = curve_charts.learning_curves(paths, heads, history, metric, winner)
    some = f" Of {len(paths)} trials the best {drawn} are drawn." if drawn < len(paths) else ""
    return Plot(
        "curves",
        figure,
        f"Validation {in_words(metric)} of every trial by epoch",
        "A curve is a trial, coloured by its depth; an open square is where a stage begins, at what it started from; a "
        "triangle is where the learning rate of a plateau course was lowered. A click on the legend hides a depth."
        + some,
    )


def _has_figures(trials: pd.DataFrame, metric: str) -> bool:
    column = deciding(trials, metric)
    return column in trials and bool(trials[column].notna().any())


def compared_images(folder: Path, levels: Sequence[LevelJudged]) -> ComparedImages | None:
    """The images that the trials were compared on; None where the run does not say it yet, or there are none.

    What groups cost is taken from the answers of what is shipped, for no other is saved for these images.
    """
    path = folder / "predictions.parquet"
    if not path.is_file():
        return None
    frame = pd.read_parquet(path)
    val = frame[frame["split"] == "val"]
    number = len(val) - max((event.get("images", 0) for event in levels), default=0)
    if number <= 0:
        return None
    right = np.stack(list(val["winner"])).argmax(axis=1) == val["label"].to_numpy()
    return ComparedImages(number, number * effective_number(right, groups_of(val)) / len(val))


def range_tests_figure(tests: Sequence[RatesTested]) -> Plot | None:
    """The range tests of learning rates, if the search made any.

    Args:
        tests: the events "lr_find".
    """
    if not tests:
        return None
    return Plot(
        "range-tests",
        curve_charts.range_tests(tests),
        "The loss as the learning rate rises, at each depth",
        "The range test before a level: a few dozen steps from what the level starts from, each at a higher rate. The "
        "dots mark between which rates the trials of that depth were searched.",
    )

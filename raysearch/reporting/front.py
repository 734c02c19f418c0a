"""The front of a search that was after several metrics: the recipes that no other beats, and which one is shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pandas as pd

from raysearch.intervals import wilson
from raysearch.record.goal import Goal
from raysearch.record.metric import class_metric, in_words, larger_is_better
from raysearch.record.tables import cell, deciding, missing
from raysearch.reporting.charts import Figure, Trace, base_layout, figure_name, line_trace, rounded
from raysearch.reporting.elements import Plot, Table

Counts = Mapping[str, float]
"""Validation images by class, groups counted as the independent images that they are worth."""


class Front(TypedDict):
    """What the section on the front shows."""

    lines: list[str]
    plot: Plot | None
    table: Table | None


def front_section(trials: pd.DataFrame, goal: Goal, shipped: str | None, counts: Counts, run: str) -> Front | None:
    """The front, as a picture of its first two metrics and as a table of all; None where a search was after one.

    Args:
        trials: of the run, with the column `front`.
        goal: of the search.
        shipped: the trial whose recipe is shipped, if that is known.
        counts: validation images by class, if all of them were compared by; else empty: then there are no intervals.
        run: what a person types as RUN.
    """
    if not goal.several:
        return None
    best = on_the_front(trials, goal)
    if not len(best):
        return {
            "lines": ["No recipe has been trained to its end, so there is no front yet."],
            "plot": None,
            "table": None,
        }
    one, other = goal.several[:2]
    plot = Plot(
        "front",
        _figure(trials, best, goal, shipped, counts),
        f"Validation {in_words(one)} and {in_words(other)} of every trial",
        "The line joins the front: recipes trained to their ends that no other beats in one metric without being worse "
        "in another. Grey: all others, of which those that were stopped are open."
        + (" Bars are 95 % intervals (Wilson's), for a point by itself: the front of many flatters." if counts else "")
        + (" The ring marks the recipe that is shipped." if shipped is not None else ""),
    )
    columns = ["trial", *(f"validation {in_words(one)}" for one in goal.several), "balance", ""]
    rows = [
        [
            row["trial"],
            *(_told(row, metric, best, counts) for metric in goal.several),
            cell(row[deciding(best, goal.metric)], 4),
            "shipped" if row["trial"] == shipped else "",
        ]
        for row in best.to_dict("records")
    ]
    return {
        "lines": [how_to_ship(goal, run)],
        "plot": plot,
        "table": Table(columns, rows, frozenset({0, len(columns) - 1})),
    }


def on_the_front(trials: pd.DataFrame, goal: Goal) -> pd.DataFrame:
    """The rows of the first front, the best by the first metric first."""
    if "front" not in trials:
        return trials.iloc[:0]
    first = goal.several[0]
    found = trials[trials["front"] == 1]
    return found.sort_values(deciding(trials, first), ascending=not larger_is_better(first), kind="stable")


def how_to_ship(goal: Goal, run: str) -> str:
    """Which point is shipped, and how a person has another."""
    return (
        f"Unasked, what is shipped is the best by balance, the geometric mean of "
        f"{' and '.join(map(in_words, goal.several))}, or the default where that is not surely better out of fold. "
        f"Another: python -m raysearch.tune --resume {run} --ship-point "
        f'TRIAL (or "{goal.several[0]}", for the best by it).'
    )


def _told(row: Mapping[str, Any], metric: str, table: pd.DataFrame, counts: Counts) -> str:
    reach = _interval(row, metric, table, counts)
    between = "" if reach is None else f" [{reach[0]:.4f}, {reach[1]:.4f}]"
    return cell(row[deciding(table, metric)], 4) + between


def _interval(row: Mapping[str, Any], metric: str, table: pd.DataFrame, counts: Counts) -> tuple[float, float] | None:
    """Wilson's interval (95 %) of what is a share of some images; None for what is none, or of an unknown number."""
    if deciding(table, metric).startswith("cv_") or missing(figure := row[deciding(table, metric)]):
        return None
    of_class, images = class_metric(metric), 0.0
    if metric == "accuracy":
        images = sum(counts.values())
    elif of_class is not None and of_class[0] == "recall":
        images = counts.get(of_class[1], 0)
    elif of_class is not None and of_class[0] == "precision" and figure:
        # Images that were called so: those that rightly were are precision's share of them, and recall's of the class.
        images = row[f"val_recall:{of_class[1]}"] * counts.get(of_class[1], 0) / figure
    return wilson(figure, images) if images else None


def _figure(trials: pd.DataFrame, best: pd.DataFrame, goal: Goal, shipped: str | None, counts: Counts) -> Figure:
    """All trials by the first two metrics."""
    x, y = (deciding(trials, one) for one in goal.several[:2])
    measured = trials[trials[x].notna() & trials[y].notna()]
    others = measured[~measured["trial"].isin(best["trial"])]
    line = [(rounded(row[x]), rounded(row[y])) for row in best.to_dict("records")]
    data: list[Trace] = [
        _points(others[others["state"] != "done"], x, y, "stopped", symbol="circle-open", color="@muted"),
        _points(others[others["state"] == "done"], x, y, "beaten", symbol="circle", color="@muted"),
        line_trace(line, "@ink", 1.5, "the front"),
        {
            **_points(best, x, y, "on the front", symbol="diamond", color="@ink"),
            "mode": "markers+text",
            "textposition": "top center",
            **_bars(best, goal.several[:2], counts),
        },
    ]
    ring = measured[measured["trial"] == shipped]
    if len(ring):
        data.append(_points(ring, x, y, "shipped", symbol="circle-open", color="@ink", size=18))
    layout = base_layout(figure_name(goal.several[0]), figure_name(goal.several[1]), height=460)
    for axis, metric in zip(("xaxis", "yaxis"), goal.several[:2], strict=True):
        if not larger_is_better(metric):  # up and right is better, whatever the metric
            layout[axis] |= {"autorange": "reversed"}
    return {"data": data, "layout": layout}


def _points(rows: pd.DataFrame, x: str, y: str, name: str, **marker: Any) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [rounded(value) for value in rows[x]],
        "y": [rounded(value) for value in rows[y]],
        "text": list(rows["trial"]),
        "marker": {"size": 8} | marker,
        "hovertemplate": "%{text}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
    }


def _bars(best: pd.DataFrame, metrics: Sequence[str], counts: Counts) -> dict[str, Any]:
    """The intervals of the front's points, as plotly.js has them."""
    bars = {}
    for axis, metric in zip(("error_x", "error_y"), metrics, strict=True):
        rows = best.to_dict("records")
        found = [(row[deciding(best, metric)], _interval(row, metric, best, counts)) for row in rows]
        if any(reach is not None for _, reach in found):
            bars[axis] = {
                "type": "data",
                "symmetric": False,
                "array": [0 if reach is None else rounded(reach[1] - figure) for figure, reach in found],
                "arrayminus": [0 if reach is None else rounded(figure - reach[0]) for figure, reach in found],
                "thickness": 1,
                "width": 3,
                "color": "@muted",
            }
    return bars

"""The figures of the report page with curves: what trials learned by epoch, and losses by learning rate."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raysearch.record.tables import ancestry, leaders
from raysearch.reporting.charts import (
    Figure,
    Trace,
    base_layout,
    depth_colour,
    depth_symbol,
    figure_name,
    line_trace,
    marker_trace,
    rounded,
)

_MOST_POINTS = 6000  # a page of a very long search should still open on a phone

_WINNER = "the winner's path"

Point = tuple[Any, Any]
"""x and y; None breaks a line."""


def learning_curves(
    trials: pd.DataFrame, heads: pd.DataFrame, history: pd.DataFrame, metric: str, winner: str | None
) -> tuple[Figure, int]:
    """The validation metric of all trials by epoch after the head, each from where its parent was left.

    Args:
        trials: as `with_paths` gives them.
        heads, history: of the run.
        metric: without its "val_".
        winner: whose path is drawn thick.

    Returns: the figure, and how many trials are in it: of a very long search, the winner's path and the best.
    """
    column = f"val_{metric}"
    rows_of = dict(list(history[history[column].notna()].groupby("trial", sort=False)))
    row_of = {row["trial"]: row for table in (heads, trials) for row in table.to_dict("records")}
    path = [name for name in ancestry(winner, [trials, heads]) if name in set(trials["trial"])]
    ranked = [*path, *leaders(trials, metric, len(trials))["trial"], *trials["trial"]]
    names = _with_room({name: len(rows_of[name]) for name in ranked if name in rows_of}, path)
    curves = [
        _curve(row_of[name], rows_of[name], column, row_of.get(row_of[name]["parent"], {}).get(column))
        for name in sorted(names)
    ]
    opacity = max(0.25, min(0.8, 20 / max(1, len(curves))))
    starts = [curve.points[0] for curve in curves if curve.starts]
    data = [
        *_by_depth(curves, opacity),
        line_trace([point for one in curves if one.trial in path for point in one.points], "@ink", 2.5, _WINNER),
        marker_trace(starts, "square-open", "a stage begins"),
        marker_trace([point for curve in curves for point in curve.drops], "triangle-down", "learning rate dropped"),
    ]
    layout = base_layout("epochs after the head" if starts else "epoch", figure_name(metric), height=460)
    return {"data": [trace for trace in data if trace["x"]], "layout": layout}, len(curves)


def _with_room(points: Mapping[str, int], path: Sequence[str]) -> list[str]:
    """The trials that are drawn: the best, as far as a page has room for their points, and the winner's path.

    Args:
        points: the points of each trial's curve, the best trial first.
        path: of the winner.
    """
    drawn, total = [], 0
    for name, count in points.items():
        total += count
        if total <= _MOST_POINTS or name in path:
            drawn.append(name)
    return drawn


@dataclass(frozen=True)
class _Curve:
    """One trial's curve: epochs after the head, and the figure."""

    trial: str
    depth: int
    points: list[Point]
    told: list[str]
    """What hovering over each point says."""
    starts: bool
    """Whether the first point is what the trial started from."""
    drops: list[Point]
    """The points at which a plateau course lowered the learning rate."""


def _curve(row: Mapping[str, Any], epochs: pd.DataFrame, column: str, start: float | None) -> _Curve:
    """The curve of one trial.

    Args:
        row: of the trials table.
        epochs: rows of the history.
        column: of the figure.
        start: the figure of what the trial started from, if it is known.
    """
    name, before = row["trial"], int(row["epochs_before"])
    points = [(before + int(e), rounded(v)) for e, v in zip(epochs["epoch"], epochs[column], strict=True)]
    rates = list(epochs["lr"])
    told = [f"{name}, epoch {e}, learning rate {lr:.2g}" for e, lr in zip(epochs["epoch"], rates, strict=True)]
    starts = start is not None and not pd.isna(start)
    if starts:
        points.insert(0, (before, rounded(start)))
        told.insert(0, f"{name} starts from {row['parent']}")
        rates.insert(0, math.nan)
    drops = []
    if row.get(f"schedule.{row['level']}.course") == "plateau":
        drops = [points[i] for i in range(1, len(rates)) if rates[i] < rates[i - 1] * 0.999]
    return _Curve(name, int(row["depth"]), points, told, starts, drops)


def _by_depth(curves: Sequence[_Curve], opacity: float) -> list[Trace]:
    """A trace a depth: its curves as one broken line, because a trace each would be slow."""
    traces = []
    for depth in sorted({curve.depth for curve in curves}):
        points: list[Point] = []
        told: list[str] = []
        for curve in curves:
            if curve.depth == depth:
                points += [*curve.points, (None, None)]
                told += [*map(html.escape, curve.told), ""]
        look = {
            "mode": "lines+markers",
            "opacity": opacity,
            "marker": {"size": 4, "color": depth_colour(depth), "symbol": depth_symbol(depth)},
            "text": told,
            "hoverinfo": "all",
            "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>",
        }
        traces.append(line_trace(points, depth_colour(depth), 1.3, f"depth {depth}") | look)
    return traces


def range_tests(tests: Sequence[Mapping[str, Any]]) -> Figure:
    """The loss by the learning rate of each range test, and the bounds that were taken from it.

    Args:
        tests: "lr_find" events.
    """
    data = []
    for test in tests:
        for depth, found in test["depths"].items():
            name = f"depth {depth}" + (f", level {test['level']}" if len(tests) > 1 else "")
            line = line_trace([], depth_colour(int(depth)), 2, name)
            line |= {"x": [rounded(rate) for rate in found["rates"]], "y": [rounded(loss) for loss in found["losses"]]}
            bounds = [found["low"], found["high"]]
            dots = marker_trace([], depth_symbol(int(depth)), f"searched, {name}")
            dots |= {"x": bounds, "y": [rounded(_at(bound, found["rates"], found["losses"])) for bound in bounds]}
            dots["marker"] = dots["marker"] | {"color": depth_colour(int(depth))}
            hover = {"hoverinfo": "all", "hovertemplate": "%{x:.2g}: %{y:.4f}<extra>" + html.escape(name) + "</extra>"}
            data += [line | hover, dots | hover | {"showlegend": False}]
    layout = base_layout("learning rate", "training loss, smoothed", height=360)
    layout["xaxis"] |= {"type": "log", "exponentformat": "power"}
    return {"data": data, "layout": layout}


def _at(rate: float, rates: Sequence[float], losses: Sequence[float]) -> float:
    """The loss at a rate between those that were tried."""
    return float(np.interp(math.log(rate), np.log(rates), losses))

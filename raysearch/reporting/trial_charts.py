"""The figures of the report page in which a trial is a point: the tree, its levels' verdicts, the cost."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raysearch.intervals import wilson
from raysearch.record.metric import larger_is_better
from raysearch.record.tables import ancestry, deciding
from raysearch.reporting.charts import (
    DEPTH_COLOURS,
    Figure,
    Trace,
    base_layout,
    by_depth,
    figure_name,
    line_trace,
    number_axis,
    rounded,
)


def schedule_tree(
    trials: pd.DataFrame, heads: pd.DataFrame, metric: str, winner: str | None, images: float | None
) -> Figure:
    """Every trial at its level of the tree, or at its depth where there is one level, joined to its parent.

    Args:
        trials: as `with_paths` gives them; at least one has a figure.
        heads: as `Run.heads`.
        metric: without its "val_".
        winner: whose path is drawn thick, if there is one yet.
        images: independent validation images that a figure was measured on; None: unknown, so no intervals are drawn.
    """
    column = deciding(trials, metric)
    tree = trials["level"].nunique() > 1
    key = "level" if tree else "depth"
    nodes = trials[trials[column].notna()].assign(column=lambda rows: rows[key].astype(int))
    if column in heads and trials["parent"].notna().any():
        nodes = pd.concat([heads[heads[column].notna()].assign(column=0), nodes], ignore_index=True)
    place = nodes.groupby("column").cumcount()
    size = nodes.groupby("column")["trial"].transform("count")
    nodes["x"] = nodes["column"] + np.where(size > 1, place / (size - 1).clip(lower=1) - 0.5, 0.0) * 0.5
    at = {row["trial"]: (rounded(row["x"]), rounded(row[column])) for row in nodes.to_dict("records")}
    parents = dict(zip(nodes["trial"], nodes["parent"], strict=True))
    edges = [(parent, name) for name, parent in parents.items() if parent in at]
    path = [name for name in ancestry(winner, [trials, heads]) if name in at]
    data = [
        line_trace(_joined(edges, at), "@grid", 1, "started from"),
        line_trace([at[name] for name in path], "@ink", 2.5, "the winner's path"),
        *by_depth(nodes, nodes["x"], nodes[column], _told(nodes)),
    ]
    if images and column == "val_accuracy":
        best = nodes.loc[nodes.groupby("column")[column].idxmax()]
        data.append(_best_with_interval(best["column"], best[column], images))
    ticks = sorted(set(nodes["column"]))
    words = [("heads" if tick == 0 else f"{'level' if tree else 'depth'} {tick}") for tick in ticks]
    layout = base_layout("", figure_name(metric), height=440)
    layout["xaxis"] |= {"tickvals": ticks, "ticktext": words, "showgrid": False}
    return {"data": data, "layout": layout}


def verdicts(levels: Sequence[Mapping[str, Any]]) -> Figure:
    """What each tested level gained, with its interval.

    Args:
        levels: "level" events with a gain, in nats of log-loss saved an image.
    """
    names = [html.escape(f"level {one['level']}: {'+'.join(one['opened']) or 'nothing'}") for one in levels]
    gains = [rounded(one["gain"]) for one in levels]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [rounded(one["high"] - one["gain"]) for one in levels],
        "arrayminus": [rounded(one["gain"] - one["low"]) for one in levels],
        "thickness": 2,
        "width": 6,
    }
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": gains,
        "y": names,
        "error_x": bars,
        "marker": {"size": 10, "color": DEPTH_COLOURS[1]},
        "text": [one["verdict"] for one in levels],
        "hovertemplate": "%{y}<br>%{x:+.4f}: %{text}<extra></extra>",
    }
    layout = base_layout("log-loss saved an image (right of 0: better)", "", height=130 + 46 * len(levels))
    layout["xaxis"] |= {"zeroline": True, "zerolinecolor": "@muted", "zerolinewidth": 2}
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    return {"data": [points], "layout": layout}


def costs(trials: pd.DataFrame, metric: str, views: Mapping[str, str]) -> Figure:
    """Accuracy against cost, with the trials that no other beats in both.

    Args:
        trials: as `with_paths` gives them, and a column for each view.
        metric: without its "val_".
        views: column -> what the axis says; a list chooses among them.
    """
    column = deciding(trials, metric)
    data: list[Trace] = []
    shown_in: list[str] = []
    for view in views:
        rows = trials[trials[column].notna() & trials[view].notna()]
        front = pareto(rows, view, column, lower=not larger_is_better(metric))
        steps = [(rounded(row[view]), rounded(row[column])) for row in front.to_dict("records")]
        traces = [line_trace(steps, "@ink", 1.5, "not beaten", shape="hv")]
        traces += by_depth(rows, rows[view], rows[column], _told(rows))
        data += [{**trace, "visible": not shown_in or view == shown_in[0]} for trace in traces]
        shown_in += [view] * len(traces)
    first = next(iter(views))
    layout = base_layout(views[first], figure_name(metric), height=460)
    axes = {view: number_axis(trials[view].dropna()) for view in views}
    layout["xaxis"] |= axes[first]
    buttons = [
        {
            "label": title,
            "method": "update",
            "args": [
                {"visible": [one == view for one in shown_in]},
                {"xaxis.title.text": title, "xaxis.autorange": True}
                | {f"xaxis.{key}": value for key, value in axes[view].items()},
            ],
        }
        for view, title in views.items()
    ]
    if len(buttons) > 1:
        # Under the pointer plotly.js makes a button light in either theme, so it is dark on light in both.
        look = {"bgcolor": "#ffffff", "bordercolor": "@muted", "font": {"color": "#1b1f24"}, "showactive": False}
        menu = {"type": "dropdown", "buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
        layout |= {"updatemenus": [menu | look], "legend": layout["legend"] | {"y": -0.2, "yanchor": "top"}}
    return {"data": data, "layout": layout}


def pareto(table: pd.DataFrame, cost: str, figure: str, *, lower: bool = False) -> pd.DataFrame:
    """The rows of which no other is both cheaper and better, cheapest first.

    Args:
        table: without missing values in both columns.
        cost, figure: columns.
        lower: whether less of the figure is better.
    """
    ordered = table.sort_values([cost, figure], ascending=[True, lower], kind="stable")
    values = ordered[figure].astype(float) * (-1 if lower else 1)
    best_before = values.cummax().shift(fill_value=-math.inf)
    return ordered[values > best_before]


def _told(rows: pd.DataFrame) -> list[str]:
    """What hovering over each trial says."""
    told = []
    for row in rows.to_dict("records"):
        parent = f" from {row['parent']}" if isinstance(row["parent"], str) else ""
        role = f" ({row['role']})" if isinstance(row["role"], str) else ""
        seconds = f"{row['seconds']:.0f} s"
        told.append(html.escape(f"{row['trial']}{parent}{role}: {row['state']}, {row['epochs']} epochs, {seconds}"))
    return told


def _best_with_interval(places: pd.Series, shares: pd.Series, images: float) -> Trace:
    ends = [wilson(share, images) for share in shares]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "the best, 95 % interval",
        "x": [rounded(place + 0.36) for place in places],
        "y": [rounded(share) for share in shares],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [rounded(high - share) for share, (_, high) in zip(shares, ends, strict=True)],
            "arrayminus": [rounded(share - low) for share, (low, _) in zip(shares, ends, strict=True)],
            "color": "@ink",
            "thickness": 1.5,
        },
        "marker": {"size": 7, "color": "@ink", "symbol": "line-ew", "line": {"width": 2, "color": "@ink"}},
        "hovertemplate": "%{y:.4f}<extra></extra>",
    }


def _joined(edges: Sequence[tuple[str, str]], at: Mapping[str, tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The edges as one broken line: a trace each would be slow."""
    return [point for parent, child in edges for point in (at[parent], at[child], (None, None))]

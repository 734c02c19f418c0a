"""The figures of the report page that show searched values and classes."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raysearch.reporting.charts import (
    CLEAR,
    DEPTH_COLOURS,
    Figure,
    Trace,
    base_layout,
    by_depth,
    depth_colour,
    figure_name,
    is_number,
    number_axis,
    round_ticks,
    rounded,
    spans_decades,
    tick_text,
)

_TEXT_CLASSES = 15  # a larger confusion matrix has no room for numbers


def importances(found: Mapping[int, Mapping[str, float]]) -> Figure:
    """Bars of hyperparameter importances, the most important first.

    Args:
        found: level -> parameter -> its share of the variance, in [0, 1].
    """
    total: dict[str, float] = {}
    for shares in found.values():
        for name, share in shares.items():
            total[name] = total.get(name, 0.0) + share
    order = sorted(total, key=lambda name: -total[name])
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"level {level}",
            "y": [html.escape(name) for name in order],
            "x": [rounded(shares.get(name)) for name in order],
            "marker": {"color": depth_colour(level)},
            "hovertemplate": "%{y}: %{x:.3f}<extra>level " + str(level) + "</extra>",
        }
        for level, shares in sorted(found.items())
    ]
    layout = base_layout("share of the variance", "", height=120 + (14 + 12 * len(found)) * len(order))
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    return {"data": data, "layout": layout | {"barmode": "group", "showlegend": len(found) > 1}}


def parameter_slice(compared: pd.DataFrame, name: str, metric: str) -> Figure:
    """The compared figure against one searched value.

    Args:
        compared: trial, depth, score, and the column `name`.
        name: of the parameter.
        metric: what the score is of.
    """
    rows = compared[compared[name].notna()]
    numbers = is_number(rows[name])
    values = rows[name] if numbers else rows[name].map(_category)
    layout = base_layout(name, figure_name(metric), height=270)
    layout["xaxis"] |= number_axis(values) if numbers else {"type": "category"}
    told = [html.escape(f"{trial}, {name} {_category(v)}") for trial, v in zip(rows["trial"], rows[name], strict=True)]
    return {"data": by_depth(rows, values, rows["score"], told), "layout": layout | {"showlegend": False}}


def parallel_coordinates(compared: pd.DataFrame, names: Sequence[str], metric: str) -> Figure:
    """One line a trial through all of its searched values, its depth and its figure; coloured by the figure.

    Args:
        compared: trial, depth, score, and the columns `names`, none of them missing.
        names: the parameters.
        metric: what the score is of.
    """
    axes = [_dimension("depth", compared["depth"].map(int).map(str))] if compared["depth"].nunique() > 1 else []
    axes += [_dimension(name, compared[name]) for name in names]
    axes.append({"label": figure_name(metric), "values": [rounded(value) for value in compared["score"]]})
    scale = [[i / (len(DEPTH_COLOURS) - 2), colour] for i, colour in enumerate(DEPTH_COLOURS[1:])]
    line = {
        "color": [rounded(value) for value in compared["score"]],
        "colorscale": scale,
        "showscale": True,
        "colorbar": {
            "title": {"text": figure_name(metric, short=True)},
            "thickness": 12,
            "tickfont": {"color": "@ink"},
        },
    }
    text = {"color": "@ink"}
    data = {
        "type": "parcoords",
        "line": line,
        "dimensions": axes,
        "labelfont": text,
        "tickfont": text,
        "rangefont": {"color": CLEAR},  # the ends of a logarithm's axis would be its exponents
        "labelangle": -20,
        "unselected": {"line": {"color": "#7b8794", "opacity": 0.12}},
    }
    # plotly.js puts a halo in the colour of the paper round the labels.
    layout = {"height": 420, "margin": {"l": 60, "r": 20, "t": 90, "b": 30}, "paper_bgcolor": "@paper", "font": text}
    return {"data": [data], "layout": layout}


def confusion_matrix(classes: Sequence[str], counts: Sequence[Sequence[float]]) -> Figure:
    """The confusion matrix, coloured by the share of the true class.

    Args:
        classes: names, in the order of rows and columns.
        counts: images, (classes, classes): rows are the true class, columns the predicted one.
    """
    matrix = np.asarray(counts, float)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [html.escape(name) for name in classes]
    heat = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": [[rounded(value, 3) for value in row] for row in shares],
        "text": [[f"{value:.1f}".removesuffix(".0") for value in row] for row in matrix],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "rgba(74,120,220,0.03)"], [1, "rgba(74,120,220,0.8)"]],
        "colorbar": {"title": {"text": "share of the true class", "side": "right"}, "thickness": 12},
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "%{y} taken for %{x}: %{text} images (%{z:.1%})<extra></extra>",
    }
    if len(classes) <= _TEXT_CLASSES:
        heat |= {"texttemplate": "%{text}", "textfont": {"color": "@ink"}}
    layout = base_layout("predicted", "true", height=min(900, 190 + 30 * len(classes)))
    layout["yaxis"] |= {"autorange": "reversed", "type": "category", "showgrid": False}
    layout["xaxis"] |= {"type": "category", "showgrid": False, "tickangle": -45}
    return {"data": [heat], "layout": layout}


def _dimension(name: str, values: pd.Series) -> Trace:
    """An axis of the parallel coordinates."""
    label = html.escape(name)
    if not is_number(values):
        choices = sorted({_category(value) for value in values})
        places = [choices.index(_category(value)) for value in values]
        return {
            "label": label,
            "values": places,
            "tickvals": list(range(len(choices))),
            "ticktext": [html.escape(choice) for choice in choices],
            "range": [-0.5, len(choices) - 0.5],
        }
    if not spans_decades(values):
        return {"label": label, "values": [rounded(value) for value in values]}
    logs = [math.log10(value) for value in values]
    ticks = round_ticks(values)
    return {
        "label": label,
        "values": [rounded(value) for value in logs],
        "tickvals": [rounded(math.log10(tick)) for tick in ticks],
        "ticktext": [tick_text(tick) for tick in ticks],
    }


def _category(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

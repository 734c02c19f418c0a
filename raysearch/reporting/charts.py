"""The figures of the report page: pure functions from a run's tables to what plotly.js draws, as JSON.

A figure is {"data": [...], "layout": {...}}. A string like "@ink" stands for a colour of the page's theme, which the
page puts in when it draws, so that one figure serves light, dark and print.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from raysearch.reporting.tables import LOWER_IS_BETTER, ancestry, deciding, leaders

Figure = dict[str, Any]

DEPTH_COLOURS = ("#7b8794", "#4a78dc", "#8466e0", "#b457cf", "#d8489a", "#e2525f", "#dd6b20")
"""From depth 0 on: one sequential palette, from grey over blue to orange. All have a contrast of 3 and more to the page
in both themes (WCAG 2.2, 1.4.11), so the order is told by the hue, and by the symbol beside it."""

THEME = ("@ink", "@muted", "@grid", "@paper")
"""The colours that the page's theme gives."""

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon")
_CLEAR = "rgba(0,0,0,0)"
_POINTS = 6000  # of learning curves; a page of a very long search should still open on a phone
_TEXT_CLASSES = 15  # a larger confusion matrix has no room for numbers


def with_paths(trials: pd.DataFrame, heads: pd.DataFrame) -> pd.DataFrame:
    """The trials with what follows from whom they started from.

    Returns: the rows whose making the log has, with the columns added: level (which stage of its schedule the trial
        trained), path_seconds (of its training and of all before it, the head's included), epochs_before (epochs from
        the head to where it starts).
    """
    table = trials[trials["depth"].notna()].copy()
    stages = sorted(
        int(name.split(".")[1]) for name in table if name.startswith("schedule.") and name.endswith(".depth")
    )
    level = pd.Series(0, index=table.index)
    for stage in stages:
        level = level.mask(table[f"schedule.{stage}.depth"].notna(), stage)
    seconds = dict(zip(heads["trial"], heads["seconds"], strict=True))
    after: dict[str, float] = {}
    before = []
    for row in table.to_dict("records"):  # parents are made before their children
        name, parent = row["trial"], row["parent"]
        seconds[name] = row["seconds"] + seconds.get(parent, 0.0)
        before.append(after.get(parent, 0))
        kept = row["best_epoch"]
        after[name] = before[-1] + int(row["epochs"] if kept is None or pd.isna(kept) else kept)
    return table.assign(level=level, path_seconds=[seconds[name] for name in table["trial"]], epochs_before=before)


def wilson(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion (Wilson 1927).

    Args:
        share: observed, in [0, 1].
        n: of how many.
        confidence: of the two-sided interval.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def schedule_tree(
    trials: pd.DataFrame, heads: pd.DataFrame, metric: str, winner: str | None, images: int | None
) -> Figure:
    """Every trial at its level of the tree, or at its depth where there is one level, joined to its parent.

    Args:
        trials: as `with_paths` gives them; at least one has a figure.
        heads: as `Run.heads`.
        metric: without its "val_".
        winner: whose path is drawn thick, if there is one yet.
        images: validation images that a figure was measured on; None: unknown, so no intervals are drawn.
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
    at = {row["trial"]: (_round(row["x"]), _round(row[column])) for row in nodes.to_dict("records")}
    parents = dict(zip(nodes["trial"], nodes["parent"], strict=True))
    edges = [(parent, name) for name, parent in parents.items() if parent in at]
    path = [name for name in ancestry(winner, [trials, heads]) if name in at]
    data = [
        _line(_joined(edges, at), "@grid", 1, "started from"),
        _line([at[name] for name in path], "@ink", 2.5, "the winner's path"),
        *_by_depth(nodes, nodes["x"], nodes[column], _told(nodes)),
    ]
    if images and column == "val_accuracy":
        best = nodes.loc[nodes.groupby("column")[column].idxmax()]
        data.append(_best_with_interval(best["column"], best[column], images))
    ticks = sorted(set(nodes["column"]))
    words = [("heads" if tick == 0 else f"{'level' if tree else 'depth'} {tick}") for tick in ticks]
    layout = _layout("", _named(metric), height=440)
    layout["xaxis"] |= {"tickvals": ticks, "ticktext": words, "showgrid": False}
    return {"data": data, "layout": layout}


def verdicts(levels: Sequence[Mapping[str, Any]]) -> Figure:
    """What each tested level gained, with its interval.

    Args:
        levels: "level" events with a gain, in nats of log-loss saved an image.
    """
    names = [html.escape(f"level {one['level']}: {'+'.join(one['opened']) or 'nothing'}") for one in levels]
    gains = [_round(one["gain"]) for one in levels]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [_round(one["high"] - one["gain"]) for one in levels],
        "arrayminus": [_round(one["gain"] - one["low"]) for one in levels],
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
    layout = _layout("log-loss saved an image (right of 0: better)", "", height=130 + 46 * len(levels))
    layout["xaxis"] |= {"zeroline": True, "zerolinecolor": "@muted", "zerolinewidth": 2}
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    return {"data": [points], "layout": layout}


def costs(trials: pd.DataFrame, metric: str, views: Mapping[str, tuple[str, bool]]) -> Figure:
    """Accuracy against cost, with the trials that no other beats in both.

    Args:
        trials: as `with_paths` gives them, and a column for each view.
        metric: without its "val_".
        views: column -> (what the axis says, whether it is logarithmic); buttons choose among them.
    """
    column = deciding(trials, metric)
    data: list[dict[str, Any]] = []
    shown_in: list[str] = []
    for view in views:
        rows = trials[trials[column].notna() & trials[view].notna()]
        front = pareto(rows, view, column, lower=metric in LOWER_IS_BETTER)
        steps = [(_round(row[view]), _round(row[column])) for row in front.to_dict("records")]
        traces = [_line(steps, "@ink", 1.5, "not beaten", shape="hv")]
        traces += _by_depth(rows, rows[view], rows[column], _told(rows))
        data += [{**trace, "visible": not shown_in or view == shown_in[0]} for trace in traces]
        shown_in += [view] * len(traces)
    first = next(iter(views))
    layout = _layout(views[first][0], _named(metric), height=460)
    layout["xaxis"]["type"] = _axis_type(views[first][1])
    buttons = [
        {
            "label": title,
            "method": "update",
            "args": [
                {"visible": [one == view for one in shown_in]},
                {"xaxis.title.text": title, "xaxis.type": _axis_type(log), "xaxis.autorange": True},
            ],
        }
        for view, (title, log) in views.items()
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
    drawn: list[str] = []
    points = 0
    for name in dict.fromkeys(ranked):
        points += len(rows_of.get(name, ()))
        if name in rows_of and (points <= _POINTS or name in path):
            drawn.append(name)
    curves: dict[int, list[tuple[Any, Any, str]]] = {}
    thick: list[tuple[Any, Any]] = []
    starts: list[tuple[Any, Any]] = []
    drops: list[tuple[Any, Any]] = []
    for name in sorted(drawn):
        row, rows = row_of[name], rows_of[name]
        before = int(row["epochs_before"])
        figures = [(before + int(e), _round(v)) for e, v in zip(rows["epoch"], rows[column], strict=True)]
        rates = list(rows["lr"])
        told = [f"{name}, epoch {e}, learning rate {lr:.2g}" for e, lr in zip(rows["epoch"], rates, strict=True)]
        start = row_of.get(row["parent"], {}).get(column)
        if start is not None and not pd.isna(start):
            starts.append((before, _round(start)))
            figures, told = [starts[-1], *figures], [f"{name} starts from {row['parent']}", *told]
            rates = [math.nan, *rates]
        if row.get(f"schedule.{row['level']}.course") == "plateau":
            fell = [i for i in range(1, len(rates)) if rates[i] < rates[i - 1] * 0.999]
            drops += [figures[i] for i in fell]
        curves.setdefault(int(row["depth"]), []).extend(
            [(*figure, html.escape(text)) for figure, text in zip(figures, told, strict=True)] + [(None, None, "")]
        )
        if name in path:
            thick += figures
    fade = max(0.25, min(0.8, 20 / max(1, len(drawn))))
    data = [
        {
            **_line([point[:2] for point in curve], _colour(depth), 1.3, f"depth {depth}"),
            "mode": "lines+markers",
            "opacity": fade,
            "marker": {"size": 4, "color": _colour(depth), "symbol": _symbol(depth)},
            "text": [text for *_, text in curve],
            "hoverinfo": "all",
            "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>",
        }
        for depth, curve in sorted(curves.items())
    ]
    data.append(_line(thick, "@ink", 2.5, "the winner's path"))
    data.append(_marks(starts, "square-open", "a stage begins"))
    data.append(_marks(drops, "triangle-down", "learning rate dropped"))
    layout = _layout("epochs after the head" if starts else "epoch", _named(metric), height=460)
    return {"data": [trace for trace in data if trace["x"]], "layout": layout}, len(drawn)


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
            "x": [_round(shares.get(name)) for name in order],
            "marker": {"color": _colour(level)},
            "hovertemplate": "%{y}: %{x:.3f}<extra>level " + str(level) + "</extra>",
        }
        for level, shares in sorted(found.items())
    ]
    layout = _layout("share of the variance", "", height=120 + (14 + 12 * len(found)) * len(order))
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
    layout = _layout(name, _named(metric), height=270)
    layout["xaxis"]["type"] = _axis_type(numbers and spans_decades(rows[name])) if numbers else "category"
    told = [html.escape(f"{trial}, {name} {_category(v)}") for trial, v in zip(rows["trial"], rows[name], strict=True)]
    return {"data": _by_depth(rows, values, rows["score"], told), "layout": layout | {"showlegend": False}}


def parallel_coordinates(compared: pd.DataFrame, names: Sequence[str], metric: str) -> Figure:
    """One line a trial through all of its searched values, its depth and its figure; coloured by the figure.

    Args:
        compared: trial, depth, score, and the columns `names`, none of them missing.
        names: the parameters.
        metric: what the score is of.
    """
    axes = [_dimension("depth", compared["depth"].map(int).map(str))] if compared["depth"].nunique() > 1 else []
    axes += [_dimension(name, compared[name]) for name in names]
    axes.append({"label": _named(metric), "values": [_round(value) for value in compared["score"]]})
    scale = [[i / (len(DEPTH_COLOURS) - 2), colour] for i, colour in enumerate(DEPTH_COLOURS[1:])]
    line = {
        "color": [_round(value) for value in compared["score"]],
        "colorscale": scale,
        "showscale": True,
        "colorbar": {"title": {"text": _named(metric, short=True)}, "thickness": 12, "tickfont": {"color": "@ink"}},
    }
    text = {"color": "@ink"}
    data = {
        "type": "parcoords",
        "line": line,
        "dimensions": axes,
        "labelfont": text,
        "tickfont": text,
        "rangefont": {"color": _CLEAR},  # the ends of a logarithm's axis would be its exponents
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
        "z": [[_round(value, 3) for value in row] for row in shares],
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
    layout = _layout("predicted", "true", height=min(900, 190 + 30 * len(classes)))
    layout["yaxis"] |= {"autorange": "reversed", "type": "category", "showgrid": False}
    layout["xaxis"] |= {"type": "category", "showgrid": False, "tickangle": -45}
    return {"data": [heat], "layout": layout}


def is_number(values: pd.Series) -> bool:
    """Whether all of them are numbers; a choice of True and False is not."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def spans_decades(values: Iterable[float]) -> bool:
    """Whether numbers are better looked at by their logarithm: all above 0, the largest ten times the smallest."""
    numbers = list(values)
    return min(numbers) > 0 and max(numbers) >= 10 * min(numbers)


def _dimension(name: str, values: pd.Series) -> dict[str, Any]:
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
        return {"label": label, "values": [_round(value) for value in values]}
    logs = [math.log10(value) for value in values]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    ticks = [(math.log10(m) + e, f"{m * 10.0**e:.2g}") for e in range(low, high + 1) for m in (1, 2, 5)]
    ticks = [(place, text) for place, text in ticks if min(logs) - 0.31 <= place <= max(logs) + 0.31]
    return {
        "label": label,
        "values": [_round(value) for value in logs],
        "tickvals": [_round(place) for place, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }


def _by_depth(rows: pd.DataFrame, x: pd.Series, y: pd.Series, told: Sequence[str]) -> list[dict[str, Any]]:
    """Points, a trace a depth."""
    texts = pd.Series(list(told), index=rows.index)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"depth {int(depth)}",
            "x": [_round(value) for value in x[of_depth]],
            "y": [_round(value) for value in y[of_depth]],
            "text": list(texts[of_depth]),
            "marker": {"size": 8, "color": _colour(int(depth)), "symbol": _symbol(int(depth)), "opacity": 0.85},
            "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>",
        }
        for depth, of_depth in rows.groupby("depth").groups.items()
    ]


def _told(rows: pd.DataFrame) -> list[str]:
    """What hovering over each trial says."""
    told = []
    for row in rows.to_dict("records"):
        parent = f" from {row['parent']}" if isinstance(row["parent"], str) else ""
        role = f" ({row['role']})" if isinstance(row["role"], str) else ""
        seconds = f"{row['seconds']:.0f} s"
        told.append(html.escape(f"{row['trial']}{parent}{role}: {row['state']}, {row['epochs']} epochs, {seconds}"))
    return told


def _best_with_interval(places: pd.Series, shares: pd.Series, images: int) -> dict[str, Any]:
    ends = [wilson(share, images) for share in shares]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "the best, 95 % interval",
        "x": [_round(place + 0.36) for place in places],
        "y": [_round(share) for share in shares],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [_round(high - share) for share, (_, high) in zip(shares, ends, strict=True)],
            "arrayminus": [_round(share - low) for share, (low, _) in zip(shares, ends, strict=True)],
            "color": "@ink",
            "thickness": 1.5,
        },
        "marker": {"size": 7, "color": "@ink", "symbol": "line-ew", "line": {"width": 2, "color": "@ink"}},
        "hovertemplate": "%{y:.4f}<extra></extra>",
    }


def _line(points: Sequence[tuple[Any, Any]], colour: str, width: float, name: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "line": {"color": colour, "width": width, **more},
        "hoverinfo": "skip",
    }


def _marks(points: Sequence[tuple[Any, Any]], symbol: str, name: str) -> dict[str, Any]:
    unique = sorted(set(points))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x for x, _ in unique],
        "y": [y for _, y in unique],
        "marker": {"size": 9, "color": "@ink", "symbol": symbol},
        "hoverinfo": "skip",
    }


def _joined(edges: Sequence[tuple[str, str]], at: Mapping[str, tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The edges as one broken line: a trace each would be slow."""
    return [point for parent, child in edges for point in (at[parent], at[child], (None, None))]


def _layout(x: str, y: str, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 48, "b": 48},
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"color": "@ink", "family": "system-ui, sans-serif", "size": 12},
        "hovermode": "closest",
        "modebar": {"bgcolor": _CLEAR, "color": "@muted", "activecolor": "@ink"},
        "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "bgcolor": _CLEAR},
        "xaxis": _axis(x),
        "yaxis": _axis(y),
    }


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": html.escape(title)},
        "gridcolor": "@grid",
        "linecolor": "@muted",
        "zeroline": False,
        "automargin": True,
    }


def _axis_type(log: bool) -> str:
    return "log" if log else "linear"


def _named(metric: str, *, short: bool = False) -> str:
    return metric.replace("_", " ") if short else f"validation {metric.replace('_', ' ')}"


def _category(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _colour(depth: int) -> str:
    return DEPTH_COLOURS[min(depth, len(DEPTH_COLOURS) - 1)]


def _symbol(depth: int) -> str:
    return _SYMBOLS[min(depth, len(_SYMBOLS) - 1)]


def _round(value: Any, digits: int = 5) -> Any:
    """So many significant digits; what is no finite number is left as it is, or left out."""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        number = float(value)
        return float(f"{number:.{digits}g}") if math.isfinite(number) else None
    return value

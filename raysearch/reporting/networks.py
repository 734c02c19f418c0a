"""The section of the report page on several networks: how good each is, and what a prediction of it costs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TypedDict

import pandas as pd

from raysearch.recipe import named_network, network_name
from raysearch.record.events import Event
from raysearch.record.info import NetworkInfo, RunInfo
from raysearch.record.level_events import NetworksCompared, NetworkStanding
from raysearch.record.metric import in_words, is_share
from raysearch.record.tables import deciding, leaders
from raysearch.reporting.charts import Figure, Trace, base_layout, figure_name, line_trace, rounded
from raysearch.reporting.elements import Plot, Table
from raysearch.reporting.sentences import network_in_short

_HEAD, _TUNED = "#7b8794", "#4a78dc"


class Networks(TypedDict):
    """What the section shows."""

    lines: list[str]
    table: Table
    plot: Plot | None


class _Shown(TypedDict):
    """A network."""

    info: NetworkInfo
    standing: NetworkStanding | None
    tuned: float | None
    """The best of its trials."""


def networks_section(
    info: RunInfo, events: Sequence[Event], trials: pd.DataFrame, metric: str, require: Sequence[str] = ()
) -> Networks | None:
    """Accuracy against the cost of a prediction, for every network; None where the search has one.

    Args:
        info: run.json.
        events: of the log.
        trials: the table of all trials, heads aside.
        metric: that the search is led by.
        require: what it requires.
    """
    if not info.get("networks"):
        return None
    compared = [event for event in events if event["event"] == "networks"]
    last = compared[-1] if compared else None
    standings = {one["network"]: one for one in (last["networks"] if last is not None else [])}
    best = _best_of_each(trials, metric, require)
    shown: list[_Shown] = [
        {"info": one, "standing": standings.get(one["network"]), "tuned": best.get(one["network"])}
        for one in info["networks"]
    ]
    order = list(standings)
    shown.sort(key=lambda one: order.index(one["info"]["network"]) if one["info"]["network"] in order else len(order))
    known = [one for one in shown if _figures(one)]
    return {
        "lines": _lines(last, metric),
        "table": _table(shown, metric),
        "plot": Plot("networks", _figure(known, metric), *_told(metric)) if known else None,
    }


def _told(metric: str) -> tuple[str, str]:
    return (
        f"Validation {in_words(metric)} of every network against what a prediction costs",
        "Grey: the best head on its frozen features; blue: the best trial that opened its blocks. Further left "
        "is cheaper. Milliseconds are of an image of 32 at once, in fp32, on the device and threads of a trial; "
        "heads are not counted. The best of many is a little flattered, of each network alike.",
    )


def _best_of_each(trials: pd.DataFrame, metric: str, require: Sequence[str]) -> dict[str, float]:
    """The figure of the best trial of each network."""
    column, found = deciding(trials, metric), dict[str, float]()
    for row in leaders(trials, metric, len(trials), require).to_dict("records"):
        found.setdefault(network_name(row["backbone"], row["weights"], int(row["image_size"])), float(row[column]))
    return found


def _figures(one: _Shown) -> list[float]:
    head = one["standing"]["figure"] if one["standing"] is not None else None
    return [figure for figure in (head, one["tuned"]) if figure is not None]


def _lines(compared: NetworksCompared | None, metric: str) -> list[str]:
    if compared is None:
        return ["The head search is not over yet, so networks have not been compared."]
    going = [network_in_short(one["network"]) for one in compared["networks"] if one["stays"]]
    return [
        f"After the head search the best heads of all networks were compared by {in_words(metric)}, image by image, on "
        f"{compared['images']} validation images, which trained none of them. "
        f"Those that are behind with all of their {100 * compared['confidence']:.0f} % interval left; "
        f"{', '.join(going)} went on, {'alone' if len(going) == 1 else 'and shared the trials'}."
    ]


def _table(shown: Sequence[_Shown], metric: str) -> Table:
    points = is_share(metric)

    def figure(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f} %" if points else f"{value:.4f}"

    def gap(value: float) -> str:
        return f"{100 * value:.1f}" if points else f"{value:.4f}"

    rows = []
    for one in shown:
        info, standing = one["info"], one["standing"]
        behind = standing["behind"] if standing is not None else None
        far = "" if behind is None else f"{gap(behind['mean'])} [{gap(behind['low'])}, {gap(behind['high'])}]"
        went = "" if standing is None else "went on" if standing["stays"] else "left"
        rows.append(
            [
                network_in_short(info["network"]),
                went,
                figure(standing["figure"] if standing is not None else None),
                far,
                figure(one["tuned"]),
                f"{info['milliseconds']:.1f}",
                f"{info['milliseconds_in_batch']:.1f}",
                f"{info['parameters'] / 1e6:.1f} M",
                f"{info['megabytes']:.1f}",
                str(info["image_size"]),
            ]
        )
    unit = ", points" if points else ""
    columns = ["network", "", "best head", f"behind the best{unit}", "best trial"]
    return Table([*columns, "ms of 1", "ms of 32", "parameters", "MB", "px"], rows, frozenset({0, 1}))


def _figure(shown: Sequence[_Shown], metric: str) -> Figure:
    data: list[Trace] = []
    for one in shown:
        x, figures = rounded(one["info"]["milliseconds_in_batch"]), [rounded(figure) for figure in _figures(one)]
        data.append(line_trace([(x, figure) for figure in figures], _HEAD, 1, "") | {"showlegend": False})
    heads = [one for one in shown if one["standing"] is not None and one["standing"]["figure"] is not None]
    tuned = [one for one in shown if one["tuned"] is not None]
    of_heads = [one["standing"]["figure"] for one in heads if one["standing"] is not None]
    data.append(_points("best head", "square", _HEAD, heads, of_heads))
    data.append(_points("best trial", "circle", _TUNED, tuned, [one["tuned"] for one in tuned]))
    layout = base_layout("milliseconds of a prediction", figure_name(metric), height=420)
    layout["xaxis"] |= {"type": "log"}
    return {"data": data, "layout": layout}


def _points(name: str, symbol: str, colour: str, shown: Sequence[_Shown], figures: Sequence[float | None]) -> Trace:
    told = [
        f"{html.escape(network_in_short(one['info']['network']))}, {name}, {one['info']['parameters'] / 1e6:.1f} M "
        "parameters"
        for one in shown
    ]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": name,
        "x": [rounded(one["info"]["milliseconds_in_batch"]) for one in shown],
        "y": [rounded(figure) for figure in figures if figure is not None],
        "text": [html.escape(named_network(one["info"]["network"]).backbone) for one in shown],
        "textposition": "top center",
        "textfont": {"color": "@ink"},
        "hovertext": told,
        "hovertemplate": "%{hovertext}<br>%{x:.2f} ms, %{y:.4f}<extra></extra>",
        "marker": {"size": 10, "symbol": symbol, "color": colour},
    }

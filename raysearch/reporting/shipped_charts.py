"""The figures of the report page on what is shipped: accuracy against cost, calibration, answers withheld."""

from __future__ import annotations

import html
from collections.abc import Sequence

from raysearch.record.evaluation import AccuracyInterval, CurvePoint, FrontierPoint, Promise, ReliabilityBin
from raysearch.reporting.charts import Figure, Trace, base_layout, line_trace, rounded

_KNOWN, _TEST, _BOUND = "#7b8794", "#4a78dc", "#dd6b20"
_BESIDE = 0.08  # out of fold is drawn left of test


def frontier(points: Sequence[FrontierPoint], shipped: str, default: AccuracyInterval | None) -> Figure:
    """Accuracy against the cost of a prediction: each thing out of fold and on test, with its intervals.

    Args:
        points: all that could be shipped.
        shipped: the kind that is.
        default: the default recipe on test, as the search trained it; None: not known.
    """
    known, test = [one["out_of_fold"] for one in points], [one["test"] for one in points]
    data = [
        _with_bars("out of fold", "square-open", _KNOWN, points, known, -_BESIDE),
        _with_bars("test images", "circle", _TEST, points, test, _BESIDE),
    ]
    if default is not None:
        level, label = rounded(default["accuracy"]), "the default on test"
        data.append(line_trace([(-0.5, level), (len(points) - 0.5, level)], _BOUND, 1.5, label, dash="dot"))
    chosen = [place for place, one in enumerate(points) if one["kind"] == shipped]
    ring = line_trace([(place + _BESIDE, rounded(test[place]["accuracy"])) for place in chosen], "@ink", 2, "shipped")
    ring |= {"mode": "markers", "marker": {"size": 18, "symbol": "circle-open", "color": "@ink", "line": {"width": 2}}}
    layout = base_layout("cost: passes through a network", "accuracy", height=400)
    ticks = [f"{html.escape(one['kind'])}<br>{one['cost']}" for one in points]
    layout["xaxis"] |= {
        "range": [-0.5, len(points) - 0.5],
        "tickmode": "array",
        "tickvals": list(range(len(points))),
        "ticktext": ticks,
        "showgrid": False,
    }
    layout["yaxis"] |= {"tickformat": ".1%"}
    return {"data": [*data, ring], "layout": layout}


def _with_bars(
    name: str,
    symbol: str,
    colour: str,
    points: Sequence[FrontierPoint],
    figures: Sequence[AccuracyInterval],
    beside: float,
) -> Trace:
    """Accuracies with their intervals, each beside the place of its point."""
    told = [
        f"{html.escape(point['kind'])}, {name}: {one['accuracy']:.2%} [{one['low']:.2%}, {one['high']:.2%}]"
        for point, one in zip(points, figures, strict=True)
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [rounded(place + beside) for place in range(len(points))],
        "y": [rounded(one["accuracy"]) for one in figures],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [rounded(one["high"] - one["accuracy"]) for one in figures],
            "arrayminus": [rounded(one["accuracy"] - one["low"]) for one in figures],
            "color": colour,
            "thickness": 1.5,
            "width": 4,
        },
        "marker": {"size": 9, "symbol": symbol, "color": colour},
        "hovertext": told,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def reliability(before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin], tempered: bool) -> Figure:
    """How often answers are right against how sure they are, before and after the temperature.

    Args:
        before, after: bins of the test images.
        tempered: whether there is a temperature at all.
    """
    least = min((one["confidence"] for one in (*before, *after)), default=0.0)
    start = max(0.0, round(least - 0.05, 1))
    data = [line_trace([(start, start), (1, 1)], "@muted", 1, "as sure as right", dash="dot")]
    if tempered:
        data.append(_bins("before", "square-open", _BOUND, before))
    data.append(_bins("after" if tempered else "what is shipped", "circle", _TEST, after))
    layout = base_layout("probability of the answer", "share of right answers", height=340)
    layout["xaxis"] |= {"range": [start, 1.02], "tickformat": ".0%"}
    layout["yaxis"] |= {"range": [-0.03, 1.05], "tickformat": ".0%"}
    return {"data": data, "layout": layout}


def _bins(name: str, symbol: str, colour: str, bins: Sequence[ReliabilityBin]) -> Trace:
    points = [(rounded(one["confidence"]), rounded(one["accuracy"])) for one in bins]
    most = max((one["images"] for one in bins), default=1)
    sizes = [round(4 + 10 * (one["images"] / most) ** 0.5, 1) for one in bins]
    return line_trace(points, colour, 1.5, name) | {
        "mode": "lines+markers",
        "marker": {"size": sizes, "symbol": symbol, "color": colour},
        "text": [f"{one['images']} images" for one in bins],
        "hoverinfo": "all",
        "hovertemplate": "said %{x:.1%}, right %{y:.1%}, %{text}<extra>" + name + "</extra>",
    }


def risk_coverage(curve: Sequence[CurvePoint], promises: Sequence[Promise]) -> Figure:
    """Wrong answers against the share of images that are answered, out of fold; what can be promised is marked."""
    data = []
    for name, key, colour, dash in (("wrong answers", "risk", _TEST, "solid"), ("bound, 95 %", "bound", _BOUND, "dot")):
        values = {"risk": [one["risk"] for one in curve], "bound": [one["bound"] for one in curve]}[key]
        points = [(rounded(one["coverage"]), rounded(value)) for one, value in zip(curve, values, strict=True)]
        look = {"text": [f"{one['confidence']:.3f}" for one in curve], "hoverinfo": "all"}
        hover = "answers from %{text} on: %{x:.1%} answered, %{y:.1%}<extra>" + name + "</extra>"
        data.append(line_trace(points, colour, 2, name, dash=dash) | look | {"hovertemplate": hover})
    kept = [one for one in promises if one["coverage"] is not None]
    marks = line_trace([(rounded(one["coverage"]), one["error"]) for one in kept], "@ink", 1, "can be promised")
    marks |= {"mode": "markers+text", "marker": {"size": 10, "symbol": "diamond", "color": "@ink"}}
    marks |= {
        "text": [f"{one['error']:.0%}" for one in kept],
        "textposition": "top left",
        "textfont": {"color": "@ink"},
    }
    layout = base_layout("share of the images that get an answer", "wrong among the answers", height=340)
    top = max([one["risk"] for one in curve] + [one["error"] for one in kept], default=0.1)
    layout["xaxis"] |= {"range": [0, 1.03], "tickformat": ".0%"}
    layout["yaxis"] |= {"range": [0, min(1.0, 1.6 * top + 0.02)], "tickformat": ".0%"}
    return {"data": [*data, *([marks] if kept else [])], "layout": layout}

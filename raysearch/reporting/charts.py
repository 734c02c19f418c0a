"""What the figures of the report page are drawn with: colours, layout, points.

A figure is what plotly.js draws, as JSON: {"data": [...], "layout": {...}}. A string like "@ink" stands for a colour of
the page's theme, which the page puts in when it draws, so that one figure serves light, dark and print.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from raysearch.record.metric import in_words

Trace = dict[str, Any]
"""What plotly.js draws as one: points, lines, bars."""
Layout = dict[str, Any]
"""How plotly.js arranges a figure: axes, margins, legend."""


class Figure(TypedDict):
    """What plotly.js draws."""

    data: list[Trace]
    layout: Layout


DEPTH_COLOURS = ("#7b8794", "#4a78dc", "#8466e0", "#b457cf", "#d8489a", "#e2525f", "#dd6b20")
"""The colours of the depths, from 0 on: one sequential palette, from grey over blue to orange. All have a contrast of 3
and more to the page in both themes (WCAG 2.2, 1.4.11), so the order is told by the hue, and by the symbol beside it."""

CLEAR = "rgba(0,0,0,0)"

_WHOLE_TICKS = 12  # more would not find room beside each other
_FINE_DECADES = 4  # over more of them, ticks between the powers of ten would be too many
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon")


def by_depth(rows: pd.DataFrame, x: pd.Series, y: pd.Series, told: Sequence[str]) -> list[Trace]:
    """Points, a trace a depth.

    Args:
        rows: with their depth.
        x, y: of each row.
        told: what hovering over each says, HTML.
    """
    texts = pd.Series(list(told), index=rows.index)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"depth {int(depth)}",
            "x": [rounded(value) for value in x[of_depth]],
            "y": [rounded(value) for value in y[of_depth]],
            "text": list(texts[of_depth]),
            "marker": {
                "size": 8,
                "color": depth_colour(int(depth)),
                "symbol": depth_symbol(int(depth)),
                "opacity": 0.85,
            },
            "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>",
        }
        for depth, of_depth in rows.groupby("depth").groups.items()
    ]


def line_trace(points: Sequence[tuple[Any, Any]], colour: str, width: float, name: str, **more: Any) -> Trace:
    """Points joined by a line.

    Args:
        points: x and y of each; (None, None) breaks the line.
        colour: of the line.
        width: of the line, pixels.
        name: in the legend.
        more: of plotly's settings of a line.
    """
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "line": {"color": colour, "width": width, **more},
        "hoverinfo": "skip",
    }


def marker_trace(points: Sequence[tuple[Any, Any]], symbol: str, name: str) -> Trace:
    """Points that mark something; those at the same place are one."""
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


def base_layout(x: str, y: str, height: int) -> Layout:
    """A layout with the titles of its two axes.

    Args:
        x, y: titles; may be empty.
        height: pixels.
    """
    return {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 48, "b": 48},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": {"color": "@ink", "family": "system-ui, sans-serif", "size": 12},
        "hovermode": "closest",
        "modebar": {"bgcolor": CLEAR, "color": "@muted", "activecolor": "@ink"},
        "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "bgcolor": CLEAR},
        "xaxis": _axis(x),
        "yaxis": _axis(y),
    }


def figure_name(metric: str, *, short: bool = False) -> str:
    """A metric on an axis, e.g. "validation macro f1"."""
    return in_words(metric) if short else f"validation {in_words(metric)}"


def is_number(values: pd.Series) -> bool:
    """Whether all of them are numbers; a choice of True and False is not."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def spans_decades(values: Iterable[float]) -> bool:
    """Whether numbers are better looked at by their logarithm: all above 0, the largest ten times the smallest."""
    numbers = list(values)
    return min(numbers) > 0 and max(numbers) >= 10 * min(numbers)


def number_axis(values: Iterable[float]) -> Layout:
    """An axis of such numbers: whole ones have whole ticks; of many magnitudes, it is logarithmic, with round ticks."""
    numbers = list(values)
    if not spans_decades(numbers):
        whole = all(float(number).is_integer() for number in numbers) and max(numbers) - min(numbers) <= _WHOLE_TICKS
        return {"type": "linear", "tickmode": "linear", "dtick": 1} if whole else {"type": "linear", "tickmode": "auto"}
    ticks = round_ticks(numbers)
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [tick_text(tick) for tick in ticks]}


def round_ticks(values: Iterable[float]) -> list[float]:
    """1, 2 and 5 times the powers of ten, from a little below the least of the values to a little above the largest.

    Where they span many magnitudes, the powers alone.
    """
    numbers = list(values)
    low, high = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    steps = (1, 2, 5) if high - low <= _FINE_DECADES else (1,)
    ticks = [float(f"{step}e{power}") for power in range(low, high + 1) for step in steps]
    return [tick for tick in ticks if min(numbers) / 2.1 <= tick <= max(numbers) * 2.1]


def tick_text(tick: float) -> str:
    """A tick as people write it: 0.0002, 500, 20k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tick >= max(size, 1e4):
            return f"{tick / size:.3g}{letter}"
    return f"{tick:g}"


def depth_colour(depth: int) -> str:
    """The colour of a depth; the last serves all beyond it."""
    return DEPTH_COLOURS[min(depth, len(DEPTH_COLOURS) - 1)]


def depth_symbol(depth: int) -> str:
    """The symbol of a depth; the last serves all beyond it."""
    return _SYMBOLS[min(depth, len(_SYMBOLS) - 1)]


def rounded(value: Any, digits: int = 5) -> Any:
    """A number to so many significant digits; what is no finite number is left as it is, or left out."""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        number = float(value)
        return float(f"{number:.{digits}g}") if math.isfinite(number) else None
    return value


def _axis(title: str) -> Layout:
    return {
        "title": {"text": html.escape(title)},
        "gridcolor": "@grid",
        "linecolor": "@muted",
        "zeroline": False,
        "automargin": True,
    }

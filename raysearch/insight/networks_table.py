"""How ranked networks are shown: a row each, a table for the terminal or a page, a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import pandas as pd
from rich.console import Console
from rich.table import Table

from raysearch.data.names import one_line
from raysearch.insight.networks import CONFIDENCE, Place
from raysearch.record.metric import in_words, is_share
from raysearch.storage.files import replace_text, replace_with
from raysearch.training.cost import BATCH

_DIGITS = 4
_PAGE_WIDTH = 160  # characters
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>Which network? · raysearch</title>
<style>
body {{ color: {foreground}; background: {background}; }}
pre {{ line-height: 1.2; overflow-x: auto; }}
{stylesheet}</style>
</head>
<body><pre><code>{code}</code></pre></body>
</html>
"""


class Row(TypedDict):
    """A network in --json and in a .csv. Figures are the metric's, `behind` is how much better the best is."""

    backbone: str
    weights: str
    origin: str
    image_size: int
    figure: float
    low: float
    high: float
    behind: float | None
    behind_low: float | None
    behind_high: float | None
    surely_behind: bool
    milliseconds: float
    milliseconds_in_batch: float
    parameters: int
    megabytes: float
    seconds: float


def row_of(place: Place) -> Row:
    """A network as plain data."""
    network, cost, behind = place.network, place.network.cost, place.behind
    mean, low, high = (None,) * 3 if behind is None else (behind.mean, behind.low, behind.high)
    return {
        "backbone": network.backbone,
        "weights": network.weights,
        "origin": network.origin,
        "image_size": network.image_size,
        "figure": round(place.figure, _DIGITS),
        "low": round(place.low, _DIGITS),
        "high": round(place.high, _DIGITS),
        "behind": None if mean is None else round(mean, _DIGITS),
        "behind_low": None if low is None else round(low, _DIGITS),
        "behind_high": None if high is None else round(high, _DIGITS),
        "surely_behind": place.surely_behind,
        "milliseconds": round(cost.milliseconds, 2),
        "milliseconds_in_batch": round(cost.milliseconds_in_batch, 2),
        "parameters": cost.parameters,
        "megabytes": round(cost.megabytes, 1),
        "seconds": round(network.seconds, 1),
    }


def table_of(places: Sequence[Place], metric: str) -> Table:
    """The table that a person sees, the best first; those that are surely behind are dim."""
    points = is_share(metric)
    table = Table(caption=f"ms: of one prediction, and an image of {BATCH} at once, here", caption_justify="left")
    table.add_column("network", overflow="fold")
    table.add_column("weights", overflow="fold")
    for name in (
        "px",
        in_words(metric),
        f"{100 * CONFIDENCE:.0f} % interval",
        "behind the best, points" if points else "behind the best",
    ):
        table.add_column(name, justify="right")
    for name in ("ms", f"ms of {BATCH}", "parameters", "MB"):
        table.add_column(name, justify="right")

    def figure(value: float) -> str:
        return f"{100 * value:.1f} %" if points else f"{value:.3f}"

    def gap(value: float) -> str:
        return f"{100 * value:.1f}" if points else f"{value:.3f}"

    for place in places:
        network, cost, behind = place.network, place.network.cost, place.behind
        told = "the best"
        if behind is not None:
            surely = ", surely" if place.surely_behind else ""
            told = f"{gap(behind.mean)} [{gap(behind.low)}, {gap(behind.high)}]{surely}"
        table.add_row(
            one_line(network.backbone),
            one_line(network.origin).replace("[", r"\["),
            str(network.image_size),
            figure(place.figure),
            f"{figure(place.low)} to {figure(place.high)}",
            told.replace("[", r"\["),
            f"{cost.milliseconds:.1f}",
            f"{cost.milliseconds_in_batch:.1f}",
            f"{cost.parameters / 1e6:.1f} M",
            f"{cost.megabytes:.1f}",
            style="dim" if place.surely_behind else None,
        )
    return table


def write_table(places: Sequence[Place], metric: str, lines: Sequence[str], file: Path) -> None:
    """Write the table as .csv, or as a page that loads nothing.

    Args:
        places: the networks.
        metric: that they were ranked by.
        lines: what a page says below the table.
        file: its name ends in .csv or .html.
    """
    if file.suffix.lower() == ".csv":
        frame = pd.DataFrame([row_of(place) for place in places])
        replace_with(file, partial(frame.to_csv, index=False))
        return
    page = Console(record=True, file=io.StringIO(), width=_PAGE_WIDTH, highlight=False)
    page.print(table_of(places, metric))
    for line in lines:
        page.print(line, markup=False, soft_wrap=True)
    replace_text(file, page.export_html(code_format=_PAGE, inline_styles=True))

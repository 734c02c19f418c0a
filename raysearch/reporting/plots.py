"""Pictures of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator

from raysearch.record.metric import in_words

# Okabe and Ito's palette: told apart by people with any colour vision, and in grey.
_COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7")
_MOST_WRITTEN = 20  # classes whose confusion is written into its cells too


def learning_curves(
    trials: pd.DataFrame, heads: pd.DataFrame, history: pd.DataFrame, metric: str, winner: str | None
) -> Figure:
    """The validation metric of every trial by epoch, coloured by depth, the winner thick, the best head as a line.

    Args:
        trials, heads, history: of a run (`Run.trials`, `Run.heads`, `Run.history`).
        metric: without its "val_", e.g. "accuracy".
        winner: the trial to draw thick, if there is one yet.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    column = f"val_{metric}"
    depth_of = dict(zip(trials["trial"], trials["depth"], strict=True))
    named: set[int] = set()
    for trial, rows in history[history["trial"].isin(depth_of)].groupby("trial"):
        depth = int(depth_of[trial])
        axes.plot(
            rows["epoch"],
            rows[column],
            color=_COLOURS[depth % len(_COLOURS)],
            linewidth=2.6 if trial == winner else 1.0,
            alpha=1.0 if trial == winner else max(0.1, min(0.6, 20 / len(trials))),
            marker="o",
            markersize=3,
            label=f"depth {depth}" if depth not in named else None,
        )
        named.add(depth)
        if trial == winner:
            axes.annotate(f" {trial}", (rows["epoch"].iloc[-1], rows[column].iloc[-1]), va="center", fontsize=9)
    if len(heads) and heads[column].notna().any():
        figures = heads[column].dropna()
        axes.axhline(
            figures.min() if metric == "loss" else figures.max(),
            color="#666666",
            linestyle=":",
            label="best head alone",
        )
    axes.set_xlabel("epoch after the head" if trials["parent"].notna().any() else "epoch")
    axes.set_ylabel(f"validation {in_words(metric)}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    handles = dict(sorted(zip(*reversed(axes.get_legend_handles_labels()), strict=True)))
    axes.legend(handles.values(), handles.keys(), frameon=False, fontsize=9)
    return figure


def confusion_matrix(counts: Sequence[Sequence[float]], classes: Sequence[str]) -> Figure:
    """How often images of each class (rows) were taken for each (columns), as fractions of the row."""
    matrix = np.asarray(counts, dtype=float)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = max(3.6, 0.42 * len(classes) + 1.4)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [written(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= _MOST_WRITTEN:
        for row, column in np.ndindex(*share.shape):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{share[row, column]:.2f}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def written(name: str) -> str:
    r"""A name as matplotlib can write it: letters that its font lacks as `\u732b`, and a dollar as no formula."""
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    seen = "".join(one if ord(one) in known else one.encode("unicode_escape").decode("ascii") for one in name)
    return seen.replace("$", r"\$")

"""Pictures of a run."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette: told apart by people with any colour vision, and in grey.
_COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7")


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
    axes.set_ylabel(f"validation {metric.replace('_', ' ')}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    handles = dict(sorted(zip(*reversed(axes.get_legend_handles_labels()), strict=True)))
    axes.legend(handles.values(), handles.keys(), frameon=False, fontsize=9)
    return figure

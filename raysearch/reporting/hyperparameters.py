"""The sections of the report page on the searched values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

import pandas as pd

from raysearch.record.metric import in_words
from raysearch.reporting import value_charts as charts
from raysearch.reporting.compare import Contrast
from raysearch.reporting.elements import Plot, Table
from raysearch.reporting.importances import FEW, FOREST, parameter_importances


def importances_section(
    compared: pd.DataFrame, searched: Mapping[int, Sequence[str]], epochs: Mapping[int, int], metric: str
) -> tuple[Plot, Table] | str:
    """The importances as bars and as numbers; a sentence where there are too few trials."""
    found = parameter_importances(compared, searched)
    if not found:
        return (
            f"Importances need {FEW} trials of a level that differ in what was searched and in what came of it; "
            "there are not so many."
        )
    trials = compared["level"].value_counts()
    after = "; ".join(f"level {level}: {trials[level]} trials after {epochs[level]} epochs" for level in found)
    thinned = f" At most {FOREST} of a level are looked at, at equal steps." if trials.max() > FOREST else ""
    rows = [[str(level), name, f"{share:.3f}"] for level, shares in found.items() for name, share in shares.items()]
    plot = Plot(
        "importances",
        charts.importances(found),
        f"Share of the variance of validation {in_words(metric)} that each hyperparameter explains",
        "The longer the bar, the more of the differences between trials this value explains (functional ANOVA over a "
        f"random forest). Trials are compared after as many epochs as all had ({after}). Of few trials it is a hint, "
        f"not a finding.{thinned}",
    )
    return plot, Table(["level", "hyperparameter", "importance"], rows, frozenset({1}))


def slice_figures(compared: pd.DataFrame, searched: Mapping[int, Sequence[str]], metric: str) -> list[Plot]:
    """The score by each searched value that varied."""
    names = dict.fromkeys(name for names in searched.values() for name in names)
    return [
        Plot(f"slice-{i}", charts.parameter_slice(compared, name, metric), f"Validation {in_words(metric)} by {name}")
        for i, name in enumerate(names)
        if compared[name].dropna().astype(str).nunique() > 1
    ]


def parallel_figure(compared: pd.DataFrame, searched: Mapping[int, Sequence[str]], metric: str) -> Plot | str:
    """Parallel coordinates of all searched values that every trial has."""
    names = [
        name
        for name in dict.fromkeys(name for names in searched.values() for name in names)
        if name not in ("depth", "parent") and compared[name].notna().all() and compared[name].astype(str).nunique() > 1
    ]
    if len(compared) < 2 or not names:
        return "Parallel coordinates need two trials that differ in what was searched."
    return Plot(
        "parallel",
        charts.parallel_coordinates(compared, names, metric),
        f"The searched values of every trial and its validation {in_words(metric)}",
        "A line is a trial, its colour the figure on the last axis. Drag along an axis to keep only the trials that "
        "pass there; drag an axis by its name to move it.",
    )


def contrasts_table(found: Sequence[Contrast], metric: str) -> Table | None:
    """A table of trials with and without something, a row a level and choice; None where none has both."""
    if not found:
        return None
    rows = []
    for one in found:
        groups = [[str(len(scores)), f"{mean(scores):.4f}"] for scores in (one.having, one.lacking)]
        told = "too few"
        if one.difference is not None:
            difference, low, high = one.difference
            told = f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        rows.append([one.what, str(one.level), *groups[0], *groups[1], told])
    figure = f"mean {in_words(metric)}"
    columns = ["", "level", "trials with", f"{figure} with", "trials without", f"{figure} without", "difference"]
    return Table(columns, rows)

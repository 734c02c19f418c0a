"""A run on the terminal, trial by trial: the table, one trial with its curve, the difference between two recipes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from raysearch.errors import InputError
from raysearch.record.evaluation import EvaluationDocument
from raysearch.record.metric import OF_A_CLASS, larger_is_better
from raysearch.record.tables import ancestry, cell, deciding, recipe_columns, stages_of
from raysearch.reporting.measured import measured_models

Row = dict[str, Any]
"""A row of a trials table, by column."""

_FIGURES = ("val_accuracy", "val_loss", "val_macro_f1", "val_auroc", "val_average_precision", "cv_accuracy", "cv_loss")
_BY_CLASS = tuple(f"{of}_{kind}:" for of in ("val", "cv") for kind in OF_A_CLASS)
_BARS = "▁▂▃▄▅▆▇█"


def chosen_rows(table: pd.DataFrame, where: str | None, sort: str | None, metric: str, n: int | None) -> pd.DataFrame:
    """The rows of a trials or heads table that were asked for, best first unless another order is.

    Args:
        table: as `Run.trials`.
        where: a condition on the columns, in pandas' words. The values of a trial's own stage go by their short names,
            as the list shows them; those of other stages in backticks.
        sort: a column, the largest first; None: by `metric`, the best first.
        metric: what the search was led by.
        n: how many at most; None: all.

    Raises:
        InputError: the condition cannot be understood, or there is no such column.
    """
    named = _with_short_names(table, metric)
    names = ", ".join(name for name in named if "." not in name and not name.startswith(_BY_CLASS))
    if where is not None:
        try:
            named = named.query(where)
        except Exception as error:  # pandas raises whatever its parser and the columns' types come to
            raise InputError(
                f"--where {where!r}: {error}; columns are {names}; those of another stage stand in backticks: "
                "`schedule.0.learning_rate`"
            ) from error
    if sort is not None and sort not in named:
        raise InputError(f"--sort {sort}: there is no such column; there are {names}")
    key = sort or deciding(table, metric)
    if key in named:
        ascending = sort is None and not larger_is_better(metric)
        named = named.sort_values(key, ascending=ascending, kind="stable", na_position="last")
    rows = table.loc[named.index]
    return rows if n is None else rows.head(n)


def answer_line(evaluation: EvaluationDocument) -> str:
    """What evaluation.json says of the models that were measured on the test images, in a line."""
    told = [
        f"{one.label} ({one.trial}{f', {one.trainings} trainings' if one.trainings > 1 else ''}) {one.told}"
        for one in measured_models(evaluation)
    ]
    return f"test accuracy: {'; '.join(told)}"


def show_trial(console: Console, trial: str, tables: Sequence[pd.DataFrame], history: pd.DataFrame) -> None:
    """One trial: where it comes from, its recipe a column a stage, and its curves.

    Raises:
        InputError: there is no such trial.
    """
    row = find_trial(trial, tables)
    path = [find_trial(name, tables) for name in ancestry(trial, tables)]
    line = " → ".join(f"{one['trial']} (depth {one['depth']}, {one['epochs']} epochs)" for one in path)
    console.print(line, style="bold", markup=False, highlight=False, soft_wrap=True)
    told = "  ".join(f"{name} {cell(row[name], decimals=4)}" for name in _FIGURES if cell(row.get(name)))
    console.print(f"{row['state']}, best at epoch {cell(row['best_epoch'])}: {told}", markup=False, highlight=False)
    console.print(_recipe_table(row))
    curve = history[history["trial"] == trial]
    for name in ("lr", "train_loss", "val_loss", "val_accuracy"):
        values = [float(value) for value in curve[name].dropna()]
        if values:
            ends = f"{values[0]:.4g} → {values[-1]:.4g}"
            console.print(f"{name:<13} {sparkline(values)}  {ends}", markup=False, highlight=False)


def difference(one: Row, other: Row, metric: str) -> Table:
    """The fields in which two rows of a trials table differ: the recipe's, and what came of it."""
    shown = Table()
    shown.add_column("")
    shown.add_column(one["trial"])
    shown.add_column(other["trial"])
    told = ["parent", "depth", "state", "epochs", "seconds", f"val_{metric}", "val_loss", "best_epoch"]
    for name in dict.fromkeys([*told, *recipe_columns({**one, **other})]):
        left, right = cell(one.get(name)), cell(other.get(name))
        if left != right:
            shown.add_row(name, left, right)
    return shown


def find_trial(trial: str, tables: Sequence[pd.DataFrame]) -> Row:
    """A trial's row, from whichever table has it.

    Raises:
        InputError: none has.
    """
    for table in tables:
        rows = table[table["trial"] == trial]
        if len(rows):
            return rows.iloc[0].to_dict()
    known = [f"{table['trial'].iloc[0]} to {table['trial'].iloc[-1]}" for table in tables if len(table)]
    raise InputError(f"no trial {trial!r} in this run; there are {' and '.join(known) or 'none yet'}")


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, from the lowest to the highest; those that are not finite leave a gap."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return " " * len(values)
    low, span = min(finite) / 2, max(finite) / 2 - min(finite) / 2  # halves: the whole may be more than a float holds
    steps = len(_BARS) - 1
    return "".join(
        _BARS[round((value / 2 - low) / span * steps) if span else steps // 2] if math.isfinite(value) else " "
        for value in values
    )


def _with_short_names(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The table with the values of each row's own stage under their fields' names, and the metric under its own."""
    stages = [stages_of(row) for row in table.to_dict("records")]
    short = pd.DataFrame([of_row[max(of_row)] if of_row else {} for of_row in stages], index=table.index)
    if deciding(table, metric) in table:
        short[metric] = table[deciding(table, metric)]
    return table.join(short[[name for name in short if name not in table]])


def _recipe_table(row: Row) -> Table:
    """A column a stage; what belongs to the whole recipe comes first."""
    stages = stages_of(row)
    table = Table()
    table.add_column("recipe")
    for stage in stages:
        table.add_column(f"stage {stage}")
    for name in recipe_columns(row):
        if not name.startswith("schedule."):
            table.add_row(name, cell(row[name]))
    table.add_section()
    for name in dict.fromkeys(name for values in stages.values() for name in values):
        values = [cell(of_stage.get(name)) for of_stage in stages.values()]
        if any(values):
            table.add_row(name, *values)
    return table

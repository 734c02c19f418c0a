"""The tables of a run, derived from the events of its log: pure functions from a list of dicts to DataFrames."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raysearch.recipe import Recipe, flatten
from raysearch.record.events import Event
from raysearch.record.fronts import fronts
from raysearch.record.goal import Goal, Requirement
from raysearch.record.info import Json
from raysearch.record.metric import larger_is_better
from raysearch.record.trial import State, Trial, Trials
from raysearch.storage.files import plain

Cells = dict[str, Any]
"""A row of a table, by column."""

_LEADING = ["trial", "parent", "depth", "state", "epochs", "seconds", "handover_delta"]
_FIGURES = ["val_accuracy", "val_loss", "val_macro_f1", "val_auroc", "val_average_precision"]
_HISTORY = ["trial", "epoch", "stage", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1"]


def trials_table(events: Iterable[Event], goal: Goal | None = None) -> pd.DataFrame:
    """One row a trial of the search proper, in the order they were made; empty columns are there from the start.

    Args:
        events: of the log.
        goal: of the search. If it has several metrics, the column `front` says of each trial that was trained to its
            end which front it is in: 1, if no other is better by one metric and as good by the others.
    """
    return _table(events, goal, heads=False)


def heads_table(events: Iterable[Event], goal: Goal | None = None) -> pd.DataFrame:
    """One row a trial of the head search; the same columns as `trials_table`."""
    return _table(events, goal, heads=True)


def history_table(events: Iterable[Event]) -> pd.DataFrame:
    """One row an epoch of a trial (heads included), in the order the trials were made, then by epoch.

    An epoch that was run twice, because the run was cut short after it and went on from before it, counts once: the
    later one, whose state the trial went on with.
    """
    order: dict[str, int] = {}
    rows: dict[tuple[str, int], Cells] = {}
    for event in events:
        if event["event"] == "trial":
            order.setdefault(event["trial"], len(order))
        elif event["event"] == "epoch":
            order.setdefault(event["trial"], len(order))
            rows[event["trial"], event["epoch"]] = {k: v for k, v in event.items() if k not in ("event", "time")}
    ordered = sorted(rows.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    return _frame([row for _, row in ordered], _HISTORY)


def leaders(trials: pd.DataFrame, metric: str = "accuracy", n: int = 10, require: Sequence[str] = ()) -> pd.DataFrame:
    """The `n` best rows of a trials or heads table by `metric` (see `deciding`), best first; ties go to the lower loss.

    Rows that keep what is required come before those that do not, and these by how nearly they do. Failed trials and
    those that have no figure yet are left out.
    """
    column = deciding(trials, metric)
    if column not in trials:
        return trials.iloc[:0]
    able = trials[trials[column].notna() & (trials["state"] != State.FAILED)]
    loss = deciding(trials, "loss")
    keys, ascending = [column, loss], [not larger_is_better(metric), True]
    if column == loss:
        keys, ascending = keys[:1], ascending[:1]
    ordered = able.sort_values(keys, ascending=ascending, kind="stable")
    if bounds := [one for text in require if deciding(trials, (one := Requirement.parse(text)).metric) in trials]:
        short = [
            sum(one.shortfall({one.metric: row[deciding(trials, one.metric)]}) for one in bounds)
            for row in ordered.to_dict("records")
        ]
        ordered = ordered.iloc[np.argsort(np.array(short), kind="stable")]
    return ordered.head(n)


def deciding(table: pd.DataFrame, metric: str) -> str:
    """The column by which the rows were compared: of heads that were cross-validated, the mean over the folds."""
    return f"cv_{metric}" if f"cv_{metric}" in table else f"val_{metric}"


def recipe_columns(table: Iterable[str]) -> list[str]:
    """The columns of a trials table, or the names of a row of it, that are fields of the recipe."""
    return [name for name in table if name.split(".")[0] in Recipe.model_fields]


def varying(table: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Those of `columns` that hold more than one value in `table` (missing counts as a value)."""
    return [name for name in columns if table[name].astype(str).nunique() > 1]


def ancestry(trial: str | None, tables: Sequence[pd.DataFrame]) -> list[str]:
    """A trial and those it started from, the head first; empty where the log does not know it."""
    parent_of = {n: p for table in tables for n, p in zip(table["trial"], table["parent"], strict=True)}
    path: list[str] = []
    while trial in parent_of and trial not in path:
        path.insert(0, str(trial))
        trial = parent_of[trial]
    return path


def stages_of(row: Mapping[str, Any]) -> dict[int, Cells]:
    """The stages of a row's schedule, those that it has."""
    stages: dict[int, Cells] = {}
    for name, value in row.items():
        root, _, rest = name.partition(".")
        number, _, field_name = rest.partition(".")
        if root == "schedule" and field_name:
            stages.setdefault(int(number), {})[field_name] = value
    return {number: stages[number] for number in sorted(stages) if not missing(stages[number].get("depth"))}


def recipe_cells(recipe: Json) -> Cells:
    """A recipe as it is in the log, a value a column."""
    return {name: _cell(value) for name, value in flatten(recipe).items()}


def missing(value: Any) -> bool:
    """Whether a cell is empty."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def cell(value: Any, decimals: int | None = None) -> str:
    """A value as a person reads it; empty for what is not there. A number has four digits, or so many decimals."""
    if missing(value):
        return ""
    if isinstance(value, float):
        if decimals is not None:
            return f"{value:.{decimals}f}"
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def _row(trial: Trial) -> Cells:
    best = trial.best or {}
    return {
        "trial": trial.name,
        "parent": trial.parent,
        "depth": trial.depth,
        "state": trial.state.value,
        "epochs": trial.trained,
        "seconds": round(trial.seconds, 3),
        "handover_delta": trial.handover_delta,
        **{key: value for key, value in best.items() if key.startswith(("val_", "cv_"))},
        "best_epoch": best.get("epoch"),
        "role": trial.role,
        **recipe_cells(trial.written_recipe),
    }


def _fronts(rows: Sequence[Cells], goal: Goal) -> None:
    """Adds to the rows of trials that were trained to their ends which front each is in."""
    ended = [row for row in rows if row["state"] == State.DONE.value and f"val_{goal.metric}" in row]
    crossed: list[dict[str, Any]] = [
        {one: row.get(f"cv_{one}", row[f"val_{one}"]) for one in goal.metrics} for row in ended
    ]
    points = np.array([goal.standings(figures) for figures in crossed]).reshape(len(ended), len(goal.several))
    for row, number in zip(ended, fronts(points).tolist(), strict=True):
        row["front"] = number


def _table(events: Iterable[Event], goal: Goal | None, *, heads: bool) -> pd.DataFrame:
    rows = [_row(trial) for trial in Trials.of(events).values() if trial.is_head == heads]
    several = goal is not None and bool(goal.several)
    if goal is not None and several:
        _fronts(rows, goal)
    metrics = [name for row in rows for name in row if name.startswith(("val_", "cv_"))]
    recipe = [name for row in rows for name in row if name.split(".")[0] in Recipe.model_fields]
    order = [
        *_LEADING,
        *(["front"] if several else []),
        *_FIGURES[:3],
        *(name for name in _FIGURES if name in metrics),
        *metrics,
        "best_epoch",
        "role",
        *recipe,
    ]
    return _frame(rows, list(dict.fromkeys(order)))


def _frame(rows: Sequence[Cells], leading: Sequence[str]) -> pd.DataFrame:
    """Rows of different keys as one table: the leading columns first, then the others as they come."""
    names = list(dict.fromkeys([*leading, *(name for row in rows for name in row)]))
    return pd.DataFrame([[row.get(name) for name in names] for row in rows], columns=names)


def _cell(value: Any) -> Any:
    # A class-weight dictionary would reach the CSV as Python's repr, which no other reader can parse.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value

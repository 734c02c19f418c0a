"""What a search says on the terminal at its end."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raysearch.record.evaluation import EvaluationDocument
from raysearch.record.folder import RunFolder
from raysearch.record.goal import Goal, Requirement
from raysearch.record.metric import in_words
from raysearch.record.tables import deciding, leaders, recipe_columns, varying
from raysearch.record.trial import State
from raysearch.reporting.ceiling import warnings_of
from raysearch.reporting.compare import paired_difference
from raysearch.reporting.comparison import comparison_line, comparison_of
from raysearch.reporting.continued import continued_sentences
from raysearch.reporting.front import how_to_ship, on_the_front
from raysearch.reporting.intake import caveats, leak
from raysearch.reporting.measured import (
    at_its_threshold,
    measured_models,
    plus_minus,
    retrieval_sentence,
    student_sentence,
    threshold_sentence,
)
from raysearch.reporting.required import objectives_of, requirements_of
from raysearch.reporting.sentences import incidents, short, verdict_line
from raysearch.reporting.trials import compared_images

_SHOWN = 10


def summary(run: RunFolder, console: Console | None = None) -> None:
    """Prints the ten best recipes, the evaluation, what was skipped or failed, and where the run is."""
    console = console or Console()
    metric = run.info.get("settings", {}).get("metric", "accuracy")
    trials, what = run.trials, "recipes"
    if not len(trials):  # heads were all that was searched, or all that it came to
        trials, what = run.heads, "heads"
    require = run.info.get("settings", {}).get("require", ())
    rows = leaders(trials, metric, _SHOWN, require)
    how = "cross-validated" if deciding(trials, metric).startswith("cv_") else "validation"
    kept = f" among those with {' and '.join(require)}" if require else ""
    _heading(console, f"The best {len(rows)} of {len(trials)} {what}, by {how} {metric}{kept}")
    console.print(best_recipes(trials, metric, require=require))
    if (goal := Goal.of(metric, require)).several:
        _front(run, trials, goal, console)
    events = run.events()
    if levels := [event for event in events if event["event"] == "level"]:
        _heading(console, "Whether it was worth going deeper, on validation images that chose nothing")
        for event in {event["level"]: event for event in levels}.values():
            console.print(verdict_line(event), highlight=False, soft_wrap=True)
    if run.evaluation is not None:
        intake = run.info.get("intake", {})
        unseen = leak(intake) is None and run.evaluation.get("test_reads", 1) == 1 and "continued" not in run.evaluation
        _heading(console, "On the test images" + ", which nothing has seen before" * unseen)
        _measured(run, run.evaluation, metric, console)
        for caveat in caveats(intake, run.evaluation):
            console.print(caveat, style="yellow", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print("There is no final evaluation yet.")
    if (comparison := comparison_of(events)) is not None:
        console.print(comparison_line(comparison, metric), markup=False, highlight=False, soft_wrap=True)
    for sentence in warnings_of(trials, metric, compared_images(run.folder, levels), run.evaluation):
        console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)
    skipped, failed = run.info.get("skipped", []), int((trials["state"] == State.FAILED).sum())
    if skipped:
        console.print(f"[yellow]{len(skipped)} unreadable image(s) skipped[/], listed in run.json, e.g. ", end="")
        console.print(f"{skipped[0]['path']}: {skipped[0]['reason']}", markup=False, highlight=False)
    for incident in incidents(events):
        console.print(incident, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if failed:
        console.print(f"[red]{failed} of the {what} failed[/]; why is in log.jsonl", highlight=False)
    console.print(Text(f"The run is in {run.folder}", style="bold"), soft_wrap=True)


def _front(run: RunFolder, trials: pd.DataFrame, goal: Goal, console: Console) -> None:
    """Prints the recipes of the front, and how another of them is shipped."""
    best = on_the_front(trials, goal)
    if not len(best):
        return
    _heading(console, f"The front of {' and '.join(map(in_words, goal.several))}")
    table, shipped = Table(), None if run.evaluation is None else run.evaluation["trial"]
    for name in ("trial", *goal.several, "balance", ""):
        table.add_column(name, justify="left" if name in ("trial", "") else "right", no_wrap=True)
    for row in best.to_dict("records"):
        figures = [f"{row[deciding(best, one)]:.4f}" for one in (*goal.several, goal.metric)]
        table.add_row(row["trial"], *figures, "shipped" if row["trial"] == shipped else "")
    console.print(table)
    console.print(how_to_ship(goal, str(run.folder)), markup=False, highlight=False, soft_wrap=True)


def _measured(run: RunFolder, evaluation: EvaluationDocument, metric: str, console: Console) -> None:
    """Prints the table, and what the figures in it are to be held against."""
    console.print(evaluation_table(evaluation))
    shipped = evaluation.get("shipped")
    threshold = None if shipped is None else shipped["threshold"]
    paired = paired_difference(run.folder / "predictions.parquet", "default", threshold)
    lines = []
    if shipped is not None and paired is not None:
        what = f"What is shipped{at_its_threshold(shipped)} against the default"
        lines.append(f"{what}, by accuracy, image by image: {paired}; {paired.verdict}")
    if shipped is not None and (sentence := threshold_sentence(shipped, evaluation)) is not None:
        lines.append(sentence)
    optimism = evaluation.get("optimism")
    if optimism is not None:
        lines.append(
            f"Optimism of the search: {optimism:+.4f} "
            f"(its best validation {metric} minus the mean over fresh seeds of the same recipe)"
        )
    lines += continued_sentences(evaluation)
    lines += [told for told in (student_sentence(evaluation), retrieval_sentence(evaluation)) if told]
    lines += [one.sentence for one in requirements_of(evaluation) if one.met]
    lines += objectives_of(evaluation)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def best_recipes(trials: pd.DataFrame, metric: str, n: int = _SHOWN, require: Sequence[str] = ()) -> Table:
    """The `n` best trials, each with the recipe that made it: see `recipes_table`."""
    shown = leaders(trials, metric, n, require)
    bounded = [name for text in require if (name := deciding(trials, Requirement.parse(text).metric)) in trials]
    return recipes_table(shown, trials, metric, ("trial", "parent", "depth", "epochs", *dict.fromkeys(bounded)))


def recipes_table(rows: pd.DataFrame, among: pd.DataFrame, metric: str, columns: Sequence[str]) -> Table:
    """A row a trial; of its recipe, what its own stage has and what differs between trials, as name=value.

    What it started from is not spelled out: its parent's name is enough, it is another row.

    Args:
        rows: of a trials or heads table.
        among: the whole table.
        metric: the figure that is shown.
        columns: of the table, to be shown first.
    """
    names = [name for name in varying(among, recipe_columns(among)) if name != "seed" and not name.endswith(".depth")]
    figure = deciding(among, metric)
    table = Table()
    for name in (*columns, metric):
        left = name in ("trial", "parent", "state", "role")
        table.add_column("from" if name == "parent" else name, justify="left" if left else "right", no_wrap=True)
    table.add_column("recipe", overflow="fold")
    for row in rows.to_dict("records"):
        own = max((int(name.split(".")[1]) for name in row if name.endswith(".depth") and short(row[name])), default=0)
        stage = f"schedule.{own}."
        shown = [name for name in names if name.startswith(stage) or not name.startswith("schedule.")]
        recipe = [f"{name.removeprefix(stage)}={short(row[name])}" for name in shown if short(row[name])]
        best = row.get(figure)
        fixed = [short(row[name]) for name in columns]
        table.add_row(*fixed, "" if best is None or pd.isna(best) else f"{best:.4f}", Text("  ".join(recipe)))
    return table


def evaluation_table(evaluation: EvaluationDocument) -> Table:
    """The test figures of what is shipped, single trainings, the default recipe and the best head, 80 columns wide."""
    table = Table()
    table.add_column("model")
    for name in ("trial", "cost", "accuracy", "macro-F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in measured_models(evaluation):
        table.add_row(one.label, one.trial, str(one.cost), one.told, plus_minus(one.macro_f1))
    return table


def _heading(console: Console, text: str) -> None:
    # Not a table's title: rich wraps that to the width of the table.
    console.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)

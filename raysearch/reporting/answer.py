"""The first section of the report page: what the search found, and what it is to be held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from raysearch.record.evaluation import EvaluationDocument
from raysearch.record.events import Event
from raysearch.record.metric import in_words
from raysearch.record.tables import cell, deciding, missing, recipe_cells, stages_of
from raysearch.reporting.compare import paired_difference
from raysearch.reporting.elements import Table
from raysearch.reporting.intake import Intake, caveats
from raysearch.reporting.measured import (
    at_its_threshold,
    measured_models,
    plus_minus,
    retrieval_sentence,
    shipped_sentence,
    student_sentence,
)
from raysearch.reporting.required import objectives_of, requirements_of


class Answer(TypedDict):
    """What the section shows."""

    recipe: str
    """A sentence."""
    figures: list[tuple[str, str]]
    """Each model's name, and its accuracy on the test images."""
    models: Table | None
    stages: Table | None
    """The recipe, a column a stage."""
    notes: list[str]


def answer_section(
    folder: Path,
    evaluation: EvaluationDocument | None,
    tables: Sequence[pd.DataFrame],
    events: Sequence[Event],
    winner: str | None,
    metric: str,
    intake: Intake,
) -> Answer:
    """The recipe in a sentence, as it was trained for good, the figures, and what they are to be held against."""
    rows = [row for table in tables for row in table[table["trial"] == winner].to_dict("records")]
    answer: Answer = {
        "recipe": "No trial has a figure yet, so there is no best recipe.",
        "figures": [],
        "models": None,
        "stages": None,
        "notes": [],
    }
    if rows:
        refits = [one for one in events if one["event"] == "refit" and one["trial"] == winner]
        recipe = recipe_cells(refits[-1]["recipe"]) if refits else rows[0]
        answer["recipe"] = f"{winner}: {recipe_sentence(recipe)}"
        answer["stages"] = _stages_table(recipe)
    if evaluation is None:
        if rows:
            figure = rows[0].get(deciding(tables[0], metric))
            told = "" if figure is None or pd.isna(figure) else f", {in_words(metric)} {figure:.4f}"
            answer["notes"].append(f"It is the best so far on the validation images{told}.")
        answer["notes"].append("The test images have not been read yet: that is done once, at the end of the search.")
        return answer
    shipped, models = evaluation.get("shipped"), []
    threshold = None if shipped is None else shipped["threshold"]
    for one in measured_models(evaluation):
        paired = None
        if one.key != "winner":
            paired = paired_difference(folder / "predictions.parquet", one.key, threshold)
            if paired is not None:
                against = f"Against {one.label}, by accuracy{at_its_threshold(shipped)}"
                answer["notes"].append(f"{against.removesuffix(',')}: {paired}; {paired.verdict}.")
        numbers = [str(one.trainings), str(one.cost), one.told, plus_minus(one.macro_f1)]
        models.append([one.label, one.trial, *numbers, "" if paired is None else str(paired)])
        answer["figures"].append((one.label, one.percent))
    what = "the winner" if shipped is None else "what is shipped"
    columns = ["model", "trial", "trainings", "cost", "accuracy", "macro-F1", f"accuracy of {what} against it"]
    answer["models"] = Table(columns, models, frozenset({0, 1}))
    answer["notes"] += [one.sentence for one in requirements_of(evaluation) if one.met]
    answer["notes"] += objectives_of(evaluation)
    answer["notes"] += _how_to_read(evaluation)
    answer["notes"] += [told for told in (student_sentence(evaluation), retrieval_sentence(evaluation)) if told]
    answer["notes"] += caveats(intake, evaluation)
    if evaluation.get("optimism") is not None:
        answer["notes"].append(
            f"The search flattered its winner by {evaluation['optimism']:+.4f}: its best validation {in_words(metric)} "
            "against the mean over fresh seeds."
        )
    if evaluation.get("test_reads", 1) > 1:
        reads = evaluation["test_reads"]
        answer["notes"].append(f"The test images have been read {reads} times, so they are no longer quite unseen.")
    return answer


def _how_to_read(evaluation: EvaluationDocument) -> list[str]:
    """What the signs in the table mean."""
    n = len(evaluation["test"]["accuracy"]["values"])
    if evaluation.get("shipped") is None:
        if n < 2:
            return []
        return [
            f"± is the standard deviation over {n} trainings of the winner with fresh seeds; the intervals are of the "
            "one of them that is in best/, image by image."
        ]
    trainings = f" ± is the standard deviation over {n} single trainings with fresh seeds." if n > 1 else ""
    return [
        f"In best/ is {shipped_sentence(evaluation)}. Its brackets are Wilson's interval (95 %), and it is held to the "
        f"others image by image.{trainings} Cost is how many passes through a network a prediction takes."
    ]


def recipe_sentence(row: Mapping[str, Any]) -> str:
    """A recipe's columns as a sentence."""
    stages: list[str] = []
    for values in stages_of(row).values():
        depth = int(values["depth"])
        opened = (
            "the head alone" if depth == 0 else f"the head and the last {'block' if depth == 1 else f'{depth} blocks'}"
        )
        rate = f"learning rate {cell(values.get('learning_rate'))}"
        if not missing(values.get("inherit")):
            rate = f"{cell(values['inherit'])} times the learning rate before"
        most = "" if values.get("keep") == "last" and missing(values.get("early_stopping_epochs")) else "up to "
        mixed = "" if missing(values.get("mixing")) or values["mixing"] == "none" else f", {values['mixing']}"
        stages.append(f"{opened} for {most}{int(values['epochs'])} epochs at {rate} ({values.get('course')}{mixed})")
    if not stages:
        return "the log has lost its recipe."
    kind = row.get("head.kind")
    head = f"{'an' if kind == 'embedding' else 'a'} {kind} head"
    start = f"{row.get('backbone')} with {row.get('pooling')} pooling and {head}"
    return f"{start}, trained in {len(stages)} stage{'s' * (len(stages) != 1)}: {'; then '.join(stages)}."


def _stages_table(row: Mapping[str, Any]) -> Table:
    """The whole recipe, a column a stage."""
    stages = stages_of(row)
    names = dict.fromkeys(name for values in stages.values() for name in values)
    rows = [[name, *(cell(values.get(name)) for values in stages.values())] for name in names]
    return Table(["", *(f"stage {number}" for number in stages)], [one for one in rows if any(one[1:])])

"""Whether what is shipped keeps what the search required, and what it is by several metrics, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from raysearch.record.evaluation import EvaluationDocument, MetricFigures
from raysearch.record.metric import in_words


@dataclass(frozen=True)
class Required:
    """One requirement."""

    met: bool
    sentence: str


def requirements_of(evaluation: EvaluationDocument | None) -> list[Required]:
    """What evaluation.json says of each requirement; none where nothing was required."""
    found = []
    for one in evaluation.get("requirements", []) if evaluation is not None else []:
        said = _said(one)
        if one["met"]:
            sentence = f"Required was {one['requirement']}, and it is kept: {in_words(one['metric'])} is {said}."
        else:
            sentence = (
                f"Required was {one['requirement']}, which what is shipped does not keep: {in_words(one['metric'])} is "
                f"{said}. Unless --ship says otherwise, what comes nearest is shipped. Ask for less, or give more "
                "images or trials."
            )
        found.append(Required(one["met"], sentence))
    return found


def objectives_of(evaluation: EvaluationDocument | None) -> list[str]:
    """What evaluation.json says of each metric of a search that was after several."""
    several = evaluation.get("objectives", []) if evaluation is not None else []
    return [f"By {in_words(one['metric'])}, what is shipped is {_said(one)}." for one in several]


def _said(one: MetricFigures) -> str:
    said = f"{one['figure']:.4f} {one['on'] if one['on'] != 'validation' else 'on validation'}"
    if one["low"] is not None and one["high"] is not None:
        said += f" (90 % interval {one['low']:.4f} to {one['high']:.4f})"
    if one["test"] is None:
        return f"{said}, and not measured on test: no images of {', '.join(one.get('test_lacks', []))}"
    figure, low, high = one["test"]
    return f"{said}, and {figure:.4f} [{low:.4f}, {high:.4f}] on the test images"

"""Whether what is shipped keeps what the search required, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from raysearch.record.evaluation import EvaluationDocument
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
        said = f"{one['figure']:.4f} {one['on'] if one['on'] != 'validation' else 'on validation'}"
        if one["low"] is not None and one["high"] is not None:
            said += f" (90 % interval {one['low']:.4f} to {one['high']:.4f})"
        figure, low, high = one["test"]
        said += f", and {figure:.4f} [{low:.4f}, {high:.4f}] on the test images"
        if one["met"]:
            sentence = f"Required was {one['requirement']}, and it is kept: {in_words(one['metric'])} is {said}."
        else:
            sentence = (
                f"Required was {one['requirement']}, which no recipe keeps: what is shipped comes nearest, with "
                f"{in_words(one['metric'])} {said}. Ask for less, or give more images or trials."
            )
        found.append(Required(one["met"], sentence))
    return found

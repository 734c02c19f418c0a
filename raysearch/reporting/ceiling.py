"""What a search's figures cannot tell: recipes apart at the ceiling of validation, or how it will do elsewhere."""

from __future__ import annotations

import math

import pandas as pd

from raysearch.record.evaluation import AccuracyInterval, EvaluationDocument
from raysearch.record.tables import leaders
from raysearch.reporting.required import requirements_of
from raysearch.reporting.trials import ComparedImages

_BEST = 5  # trials that are looked at, beside the default
_CEILING = 0.95  # of validation accuracy
_FIGURE = "val_accuracy"


def warnings_of(
    trials: pd.DataFrame, metric: str, images: ComparedImages | None, evaluation: EvaluationDocument | None
) -> list[str]:
    """Sentences for whoever is about to trust the choice; none where there is nothing to warn of.

    Args:
        trials: a trials table.
        metric: what the search was led by.
        images: that trials were compared on; None: not known.
        evaluation: evaluation.json, if it is there.
    """
    missed = [one.sentence for one in requirements_of(evaluation) if not one.met]
    found = [*missed, _ceiling(trials, metric, images), _elsewhere(evaluation)]
    return [sentence for sentence in found if sentence]


def _ceiling(trials: pd.DataFrame, metric: str, images: ComparedImages | None) -> str:
    """Whether the best recipes are as good as each other on validation, and nearly without a mistake.

    Accuracy says so only of a search that was led by it: a rare class may be missed where hardly a mistake is left.
    """
    if metric != "accuracy":
        return ""
    best = leaders(trials, metric, _BEST)
    compared = pd.concat([best, trials[trials["role"] == "default"]]).drop_duplicates("trial")
    figures = compared[_FIGURE].dropna() if _FIGURE in compared else []
    if images is None or len(figures) < 2:
        return ""
    low, high = float(min(figures)), float(max(figures))
    n = images.independent
    share = (high * n + 2) / (n + 4)  # Agresti and Coull's: of a perfect score the error is not 0
    error = math.sqrt(share * (1 - share) / n)
    default, said = ", the default included," if (compared["role"] == "default").any() else "", ""
    if high - low <= error:
        said = (
            f"Validation cannot tell the best recipes apart: {len(figures)} of them{default} have {low:.3f} to "
            f"{high:.3f}, and on {images.told} one standard error is {error:.3f}. "
        )
    if high > _CEILING:
        said += (
            f"Validation is at its ceiling ({high:.3f}): hardly a mistake is left there to choose by. If the model "
            "will see images of another population (another place, camera or year), that change matters more than "
            "which recipe was chosen; measure it on images from there: "
            "raysearch evaluate RUN --data SOURCE --split all."
        )
    return said.strip()


def _elsewhere(evaluation: EvaluationDocument | None) -> str:
    """Whether the test images are harder than the labelled ones by more than chance explains.

    Easier ones are no sign: out of fold, networks are judged that were trained on fewer images than what is shipped.
    """
    if evaluation is None or (shipped := evaluation.get("shipped")) is None:
        return ""
    point = next((one for one in evaluation.get("frontier", []) if one["kind"] == shipped["kind"]), None)
    if point is None:
        return ""
    known, test = point["out_of_fold"], point["test"]
    if known["low"] <= test["high"]:
        return ""
    return (
        f"The test images are not like the labelled ones: what is shipped has {_told(known)} out of fold, and "
        f"{_told(test)} on test, further apart than chance explains. No choice among recipes on the labelled images "
        "can see that; temperature and what --abstain promises hold for images like those only."
    )


def _told(interval: AccuracyInterval) -> str:
    return f"{interval['accuracy']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"

"""What the model card says in figures: what is shipped and how it was chosen, how good it is, how sure it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysearch.data.dataset import Dataset, Split
from raysearch.intervals import mean_interval
from raysearch.record.decision import decided
from raysearch.record.evaluation import ClassFigures, EvaluationDocument, Promise
from raysearch.reporting.comparison import Comparison, comparison_line
from raysearch.reporting.elements import percent
from raysearch.reporting.measured import (
    at_its_threshold,
    measured_models,
    plus_minus,
    shipped_sentence,
    threshold_sentence,
)
from raysearch.reporting.required import objectives_of, requirements_of
from raysearch.winner.shipment import Shipment

_NAMED_CONFUSIONS = 5


def choice_part(shipment: Shipment, evaluation: EvaluationDocument, comparison: Comparison | None, metric: str) -> str:
    """What it is, and why this and nothing else.

    Args:
        shipment: the classifier.
        evaluation: evaluation.json.
        comparison: the final one; None: there was none.
        metric: what the search was led by.
    """
    passes = f"{shipment.cost} pass{'es' * (shipment.cost != 1)} through a network"
    words = [f"It is {shipped_sentence(evaluation)}; a prediction costs {passes}.", _put_together(shipment, evaluation)]
    words.append(
        "Nothing was compared out of fold: it is what was best on the validation images."
        if comparison is None
        else comparison_line(comparison, metric)
    )
    words += [one.sentence if one.met else f"**{one.sentence}**" for one in requirements_of(evaluation)]
    words += objectives_of(evaluation)
    if points := evaluation.get("frontier"):
        told = [f"{one['kind']} {one['out_of_fold']['accuracy']:.4f}" for one in points]
        words.append(f"What could be shipped, with its accuracy out of fold: {', '.join(told)}.")
    return "\n\n".join(["## What it is, and how it was chosen", " ".join(word for word in words if word)])


def _put_together(shipment: Shipment, evaluation: EvaluationDocument) -> str:
    """How several networks, or two views, make one answer."""
    if shipment.kind == "averaged":
        return "Its tensors are the means of those of the trainings, which began with one head."
    if shipment.kind == "student":
        return (
            f"It learned from the labels and, on {evaluation.get('unlabelled', 0):,} more images without labels, from "
            "what networks answered that were trained with labels alone."
        )
    if shipment.kind == "mirror":
        return "Its probabilities are the means over an image and its mirror image."
    if shipment.kind == "ensemble":
        members = evaluation["shipped"].get("members", [])
        shares = [(one["networks"], one["trial"], one["weight"]) for one in members]
        told = [f"{networks} of {trial}'s recipe ({weight:.2f} of the mean)" for networks, trial, weight in shares]
        return f"Its probabilities are the means over its networks: {', '.join(told)}."
    return ""


def results_part(evaluation: EvaluationDocument, probabilities: Mapping[str, np.ndarray], data: Dataset) -> str:
    """How good it is on the test images, and what that is to be held against."""
    test, shipped = evaluation["test"], evaluation["shipped"]
    values = test["accuracy"]["values"]
    trainings = f"± is the standard deviation over {len(values)} single trainings with fresh seeds. " * (
        len(values) > 1
    )
    by_split: Mapping[str, Any] = evaluation
    splits = ", ".join(
        f"{said} {plus_minus(by_split[key]['accuracy'])}"
        for key, said in (("train", "training images"), ("val", "validation"), ("test", "test"))
        if key in by_split
    )
    if "out_of_fold" in shipped:
        splits += f"; of the classifier in this folder out of fold {shipped['out_of_fold']['accuracy']:.4f}"
    optimism = evaluation.get("optimism")
    flattered = "" if optimism is None else f" The search flattered it by {optimism:+.4f} on validation."
    first = measured_models(evaluation)[0]
    unseen = "" if data.account.leaks else " that the search never saw"
    measured = (
        f"On {len(data.test)} test images{unseen}, read {_times(evaluation.get('test_reads', 1))}. "
        f"{trainings}The classifier in this folder{at_its_threshold(shipped)} has accuracy {first.told} (Wilson's "
        "interval, 95 %); the last column is its accuracy against the others', image by image (95 % interval of the "
        "paired difference)."
    )
    return "\n\n".join(
        [
            "## Results",
            measured,
            _models(evaluation, probabilities, data.test),
            f"Accuracy by split, single trainings: {splits}.{flattered}",
            _classes(shipped["test"]["per_class"], data),
            _confusions(shipped["test"]["confusion"], data.classes),
        ]
    )


def _models(evaluation: EvaluationDocument, probabilities: Mapping[str, np.ndarray], test: Split) -> str:
    threshold = evaluation["shipped"]["threshold"]
    right = {
        name: (decided(shares, threshold if name == "winner" else None) == test.labels).astype(float)
        for name, shares in probabilities.items()
    }
    rows = []
    for one in measured_models(evaluation):
        against = ""
        if one.key != "winner" and one.key in right and len(test) > 1:
            gains = right["winner"] - right[one.key]
            mean, low, high = (100 * value for value in mean_interval(gains, 0.95, test.groups))
            against = f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
        rows.append([one.label, one.trial, one.cost, one.told, plus_minus(one.macro_f1), against])
    return markdown_table(["model", "trial", "cost", "accuracy", "macro-F1", "accuracy of this one against it"], rows)


def _classes(per_class: Mapping[str, ClassFigures], data: Dataset) -> str:
    train = np.bincount(data.train.labels, minlength=len(data.classes)).tolist()
    rows = [
        [name, *(f"{share:.4f}" for share in (row["precision"], row["recall"], row["f1"])), row["support"], train[i]]
        for i, (name, row) in enumerate(per_class.items())
    ]
    return markdown_table(["class", "precision", "recall", "F1", "test images", "training images"], rows)


def _confusions(confusion: Sequence[Sequence[float]], classes: Sequence[str]) -> str:
    counts = np.array(confusion, dtype=float)
    np.fill_diagonal(counts, 0)
    worst = [np.unravel_index(place, counts.shape) for place in np.argsort(-counts, axis=None)[:_NAMED_CONFUSIONS]]
    named = [f"{classes[i]} for {classes[j]} ({counts[i, j]:.3g})" for i, j in worst if counts[i, j]]
    return f"Most often taken: {', '.join(named)}." if named else "No test image was taken for another class."


def sureness_part(evaluation: EvaluationDocument) -> str:
    """Calibration, the threshold of two classes, and what abstaining promises."""
    shipped = evaluation["shipped"]
    errors, images = shipped["calibration_error"], shipped.get("images", 0)
    if images:
        words = [
            f"A temperature of {shipped['temperature']:.3f} was fitted out of fold on {images} images, and is applied "
            f"to every answer. Expected calibration error on the test images: {percent(errors['before'])} before, "
            f"{percent(errors['after'])} after."
        ]
    else:
        words = [
            "Nothing is known out of fold: no temperature was fitted, and no error can be promised. Expected "
            f"calibration error on the test images: {percent(errors['after'])}."
        ]
    if (sentence := threshold_sentence(shipped, evaluation)) is not None:
        words.append(sentence)
    parts = ["## How sure it is", " ".join(words)]
    if promises := shipped.get("promises"):
        parts.append(
            "`raysearch predict --abstain ERROR` leaves images unanswered, so that at most this share of its "
            "answers is wrong on images like the labelled ones (upper bound of 95 %, out of fold):"
        )
        columns = [
            "promised error",
            "least probability of an answer",
            "answered, out of fold",
            "answered, test",
            "wrong there",
        ]
        parts.append(markdown_table(columns, [_promise(one) for one in promises]))
    return "\n\n".join(parts)


def _promise(promise: Promise) -> list[str]:
    shares = (promise["coverage"], promise["test_coverage"], promise["test_error"])
    least = "too few images to promise it" if promise["confidence"] is None else f"{promise['confidence']:.3f}"
    return [percent(promise["error"], 0), least, *("" if share is None else percent(share) for share in shares)]


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times, so they are no longer quite unseen"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    """A value that breaks no row, whatever a class is called."""
    return " ".join(str(value).replace("|", "\\|").splitlines())

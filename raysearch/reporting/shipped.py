"""The sections of the report page on what is shipped: how it was chosen, and how sure it may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from raysearch.intervals import wilson
from raysearch.record.evaluation import AccuracyInterval, EvaluationDocument, Promise, ShippedFigures
from raysearch.record.events import Event
from raysearch.reporting import shipped_charts as charts
from raysearch.reporting.comparison import Comparison, Race, comparison_line, comparison_of, gain_text, unit
from raysearch.reporting.elements import Plot, Table, percent
from raysearch.reporting.measured import at_its_threshold, shipped_sentence, support, threshold_sentence

_UNREAD = "What could be shipped is measured at the end of the search, when the test images are read."


class Finals(TypedDict):
    """What the section on the final comparison shows."""

    lines: list[str]
    races: Table | None
    frontier: Plot | str
    members: Table | None
    """The recipes of a shipped ensemble."""


class Sureness(TypedDict):
    """What the section on probabilities shows."""

    lines: list[str]
    """Sentences; what there is nothing to show of is said here."""
    plots: list[Plot]
    promises: Table | None


def finals_section(events: Sequence[Event], evaluation: EvaluationDocument | None, metric: str) -> Finals:
    """Who was compared out of fold, what became of it, and all that could be shipped."""
    comparison, lines = comparison_of(events), []
    if comparison is not None:
        lines = [comparison_line(comparison, metric), _cost(comparison)]
    elif evaluation is None:
        lines = ["The final comparison is made when the search is over."]
    else:
        lines = ["There was no final comparison: the winner is the best on the validation images."]
    shipped = None if evaluation is None else evaluation.get("shipped")
    if evaluation is not None and shipped is not None:
        cost = f"{shipped['cost']} pass{'es' * (shipped['cost'] != 1)} through a network"
        lines.append(f"Shipped is {shipped_sentence(evaluation)}; a prediction costs {cost}.")
    return {
        "lines": [line for line in lines if line],
        "races": None if comparison is None else _races(comparison, metric),
        "frontier": _frontier(evaluation),
        "members": _members(shipped),
    }


def _cost(comparison: Comparison) -> str:
    parts = []
    if comparison.fold_trainings:
        parts.append(f"{comparison.fold_trainings} trainings on folds")
    if comparison.refits:
        images = "all labelled images" if comparison.all_images else "the training images"
        parts.append(f"{comparison.refits} with fresh seeds on {images}")
    if not parts or not comparison.seconds:
        return ""
    return f"It cost {' and '.join(parts)}: {comparison.seconds:.0f} seconds of training, all workers together."


def _races(comparison: Comparison, metric: str) -> Table | None:
    """A row a challenger and fold."""
    if not comparison.races:
        return None
    columns = [
        "challenger",
        "folds",
        "images",
        f"better by, {unit(metric)}",
        f"{percent(comparison.confidence, 0)} interval",
        "",
    ]
    rows = [
        [
            race.trial,
            f"{race.folds} of {comparison.folds}",
            str(race.images),
            gain_text(race.mean, metric),
            f"{gain_text(race.low, metric)} to {gain_text(race.high, metric)}",
            _became(race, comparison),
        ]
        for race in comparison.races
    ]
    return Table(columns, rows, frozenset({0, 5}))


def _became(race: Race, comparison: Comparison) -> str:
    if race.folds < comparison.folds:
        if race.goes_on:
            return "goes on"
        return "dropped: misses what is required by more" if race.nearer < 0 else "dropped: not ahead"
    if race.trial == comparison.chosen:
        if comparison.asked is not None:
            return "taken, as --ship-point asks"
        return "replaces the default" if comparison.first_is_default else "chosen"
    if race.nearer < 0:
        return "misses what is required by more"
    if race.surely:
        return "surely better, but not the best"
    return "not surely better" if race.mean > 0 else "not ahead"


def _frontier(evaluation: EvaluationDocument | None) -> Plot | str:
    if evaluation is None:
        return _UNREAD
    points, shipped = evaluation.get("frontier"), evaluation.get("shipped")
    if not points or shipped is None:
        return "Nothing was measured out of fold, so there is no choice to show of what could be shipped."
    return Plot(
        "frontier",
        charts.frontier(points, shipped["kind"], _default(evaluation)),
        "Accuracy against the cost of a prediction",
        "All that could be made of the trainings, with 95 % intervals (Wilson's). Squares: out of fold, on labelled "
        "images, each judged by networks that had not trained on it; what is shipped was chosen by them. Dots: the "
        f"test images, which chose nothing. The ring marks what is shipped{at_its_threshold(shipped).rstrip(',')}.",
    )


def _default(evaluation: EvaluationDocument) -> AccuracyInterval | None:
    other = evaluation.get("others", {}).get("default")
    if other is None:
        return None
    accuracy, images = (
        other["test"]["accuracy"]["mean"],
        sum(one["support"] for one in other["test"]["per_class"].values()),
    )
    shipped = evaluation.get("shipped")
    independent = images if shipped is None else shipped.get("independent", images)
    low, high = wilson(accuracy, independent) if images else (accuracy, accuracy)
    return {"accuracy": accuracy, "low": low, "high": high}


def _members(shipped: ShippedFigures | None) -> Table | None:
    if shipped is None or not shipped.get("members"):
        return None
    rows = [[one["trial"], f"{one['weight']:.2f}", str(one["networks"])] for one in shipped["members"]]
    return Table(["recipe of", "share of the mean", "networks"], rows)


def sureness_section(evaluation: EvaluationDocument | None) -> Sureness:
    """Calibration before and after, what may be withheld, and the threshold of two classes."""
    shipped = None if evaluation is None else evaluation.get("shipped")
    if evaluation is None or shipped is None:
        said = "How sure the model may be is measured at the end of the search."
        return {
            "lines": [said if evaluation is None else "This run does not say how sure its model may be."],
            "plots": [],
            "promises": None,
        }
    images, plots = shipped.get("images", 0), []
    if bins := shipped.get("reliability"):
        figure = charts.reliability(bins["before"], bins["after"], shipped["temperature"] != 1)
        plots.append(
            Plot(
                "reliability",
                figure,
                f"How often answers are right, on {support(shipped['test']['per_class'])} test images",
                "A point is a group of answers that are about as sure, the larger the more; on the dotted line they "
                "are as sure as right, below it too sure. Before and after the temperature.",
            )
        )
    if curve := shipped.get("curve"):
        plots.append(
            Plot(
                "risk-coverage",
                charts.risk_coverage(curve, shipped.get("promises", [])),
                f"Fewer answers, fewer mistakes: out of fold, on {images} images",
                "If only the surest answers are given. The dotted line is what the error stays under (95 %): where it "
                "crosses a promised error lies what --abstain answers.",
            )
        )
    lines = [_calibration(shipped, images), threshold_sentence(shipped, evaluation), _abstaining(shipped, images)]
    return {
        "lines": [line for line in lines if line],
        "plots": plots,
        "promises": promises_table(shipped.get("promises", [])),
    }


def _calibration(shipped: ShippedFigures, images: int) -> str:
    errors = shipped["calibration_error"]
    if not images:
        return (
            "Probabilities are the network's own: nothing out of fold says how to correct them. On the test images "
            f"they are off by {percent(errors['after'])} on average (expected calibration error)."
        )
    return (
        f"Logits are divided by a temperature of {shipped['temperature']:.3f}, fitted out of fold on {images} images. "
        f"The expected calibration error on the test images is {percent(errors['before'])} before "
        f"and {percent(errors['after'])} after."
    )


def _abstaining(shipped: ShippedFigures, images: int) -> str:
    promises = shipped.get("promises", [])
    if not promises:
        return "What raysearch predict --abstain could promise is not known: nothing was measured out of fold."
    if all(one["confidence"] is None for one in promises):
        largest = max(one["error"] for one in promises)
        most = percent(largest, 0)
        return f"With {images} out-of-fold images, raysearch predict --abstain cannot promise an error of {most}."
    return (
        "raysearch predict --abstain leaves images unanswered, so that at most the promised share of the answers is "
        "wrong, for images like the labelled ones:"
    )


def promises_table(promises: Sequence[Promise]) -> Table | None:
    """What `--abstain` does for each error; None where nothing can be promised."""
    if all(one["confidence"] is None for one in promises):
        return None
    columns = ["--abstain", "answers from a probability of", "answered, out of fold", "answered, test", "wrong there"]
    rows = [
        [f"{one['error']:g}", *_kept(one)]
        if one["confidence"] is not None
        else [f"{one['error']:g}", "too few images", "", "", ""]
        for one in promises
    ]
    return Table(columns, rows)


def _kept(promise: Promise) -> list[str]:
    shares = [promise["coverage"], promise["test_coverage"], promise["test_error"]]
    return [f"{promise['confidence']:.3f}", *("" if share is None else percent(share) for share in shares)]

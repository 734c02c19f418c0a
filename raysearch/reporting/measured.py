"""The models that a search measures on the test images, and how their figures are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raysearch.intervals import wilson
from raysearch.record.evaluation import ClassFigures, EvaluationDocument, Kind, Other, ShippedFigures, Spread
from raysearch.record.metric import in_words

OTHERS = (("default", "the default recipe"), ("head", "the best head alone"))
"""The models that are measured beside the winner, in the order in which they are shown."""


@dataclass(frozen=True)
class Model:
    """A model on the test images, or several trainings of one recipe."""

    key: str
    """The column of predictions.parquet that has its answers."""
    label: str
    trial: str
    trainings: int
    """How many trainings were measured; of what is shipped, those that it is made of."""
    cost: int
    """Passes through a network that a prediction takes."""
    accuracy: Spread
    macro_f1: Spread
    independent: float | None = None
    """Test images that it was measured on, groups counted as fewer; None of others, whose spread is over trainings."""

    @property
    def told(self) -> str:
        """The accuracy with its deviation over trainings; of what is shipped, with its interval (Wilson's, 95 %)."""
        if not self.independent:
            return plus_minus(self.accuracy)
        low, high = wilson(self.accuracy["mean"], self.independent)
        return f"{self.accuracy['mean']:.4f} [{low:.4f}, {high:.4f}]"

    @property
    def percent(self) -> str:
        """The accuracy in percent, with its deviation over trainings."""
        std = self.accuracy["std"]
        return f"{100 * self.accuracy['mean']:.1f} %" + ("" if std is None else f" ± {100 * std:.1f}")


def measured_models(evaluation: EvaluationDocument) -> list[Model]:
    """The models that evaluation.json has: what is shipped first, then fresh single trainings, default and head.

    Of runs that know nothing of what is shipped, the winner stands in place of the first two.
    """
    others = evaluation.get("others", {})
    shipped = evaluation.get("shipped")
    told = {"default": "the default recipe, as the search trained it"} if shipped is not None else {}
    found = [_other(key, told.get(key, label), others[key]) for key, label in OTHERS if key in others]
    trained: Other = {"trial": evaluation.get("trial", ""), "test": evaluation["test"]}
    if shipped is None:
        return [_other("winner", "the winner", trained), *found]
    first = Model(
        "winner",
        f"shipped: {shipped_sentence(evaluation)}",
        evaluation["trial"],
        shipped.get("trainings", 1),
        shipped["cost"],
        _alone(shipped["test"]["accuracy"]),
        _alone(shipped["test"]["macro_f1"]),
        shipped.get("independent", support(shipped["test"]["per_class"])),
    )
    if shipped["kind"] == "single" and evaluation.get("refits", 0) < 2:
        return [first, *found]
    return [first, _other("shipped_single", "single trainings with fresh seeds", trained), *found]


def shipped_sentence(evaluation: EvaluationDocument) -> str:
    """What best/ holds, in words, e.g. "the average of 3 trainings"; without figures of it, "the winner"."""
    shipped = evaluation.get("shipped")
    if shipped is None:
        return "the winner"
    trainings = shipped.get("trainings", 1)
    one = "a single training" if evaluation.get("refits", 0) else "the winner as the search trained it"
    base = f"the average of {trainings} trainings" if trainings > 1 else one
    words = {
        "single": one,
        "student": "a student of the trained networks",
        "mirror": f"{base}, with the mirror image",
        "ensemble": f"an ensemble of {trainings} networks",
    }
    return words.get(shipped["kind"], base)


def student_sentence(evaluation: EvaluationDocument) -> str | None:
    """How the student stands to what would be shipped without it, out of fold; None where there is no student."""
    points = {one["kind"]: one["out_of_fold"]["accuracy"] for one in evaluation.get("frontier", [])}
    if "student" not in points or "unlabelled" not in evaluation:
        return None
    other: Kind = "averaged" if "averaged" in points else "single"
    shipped = evaluation.get("shipped")
    told: dict[Kind, str] = {kind: f"{points[kind]:.4f}" for kind in ("student", other)}
    if shipped is not None and shipped["kind"] in told and shipped["threshold"] is not None:
        told[shipped["kind"]] += f" (at its threshold of {shipped['threshold']:.3f})"
    verdict = "" if shipped is not None and shipped["kind"] == "student" else "not "
    return (
        f"A student learned from {evaluation['unlabelled']:,} images without labels: out of fold its accuracy is "
        f"{told['student']}, that of the {other} network {told[other]}; it is {verdict}shipped."
    )


def at_its_threshold(shipped: ShippedFigures | None) -> str:
    """Where what is shipped is held to what answers with the likelier class: ", at its threshold of 0.082,", or "".

    Of two classes a threshold may be kept that costs accuracy, for a bound or another metric.
    """
    threshold = None if shipped is None else shipped["threshold"]
    return "" if threshold is None else f", at its threshold of {threshold:.3f},"


def retrieval_sentence(evaluation: EvaluationDocument) -> str | None:
    """Says how well test images are found by embeddings; None where the head makes none."""
    test = evaluation["test"]
    if "precision_at_10" not in test:
        return None
    return (
        f"Among the test images, of the first 10 results {plus_minus(test['precision_at_10'])} are of the class "
        f"that was asked for, of the first 20 {plus_minus(test['precision_at_20'])}, by embeddings of single trainings."
    )


def support(per_class: Mapping[str, ClassFigures]) -> int:
    """How many images a model was measured on."""
    return sum(one["support"] for one in per_class.values())


def plus_minus(spread: Spread) -> str:
    """The mean and its deviation, e.g. "0.6813 ± 0.0042"; the mean alone where there is one value."""
    return f"{spread['mean']:.4f}" + ("" if spread["std"] is None else f" ± {spread['std']:.4f}")


def threshold_sentence(shipped: ShippedFigures, evaluation: EvaluationDocument) -> str | None:
    """Says from which probability on the second of two classes is the answer; None where the likelier class is."""
    if shipped["threshold"] is None:
        return None
    second = list(shipped["test"]["per_class"])[1]
    if bounds := [one["requirement"] for one in evaluation.get("requirements", [])]:
        return (
            f"The answer is {second} from a probability of {shipped['threshold']:.3f} on, not from one half: out of "
            f"fold, on {shipped.get('images', 0)} images, that is nearest to {' and '.join(bounds)}, and the best "
            f"{in_words(evaluation['metric'])} among what is as near."
        )
    return (
        f"The answer is {second} from a probability of {shipped['threshold']:.3f} on, not from one half: out of fold, "
        f"on {shipped.get('images', 0)} images, the {in_words(evaluation['metric'])} is surely better so."
    )


def _other(key: str, label: str, other: Other) -> Model:
    accuracy = other["test"]["accuracy"]
    trial, trainings = other["trial"] or "", len(accuracy["values"])
    return Model(key, label, trial, trainings, 1, accuracy, other["test"]["macro_f1"])


def _alone(value: float) -> Spread:
    return {"mean": value, "std": None, "values": [value]}

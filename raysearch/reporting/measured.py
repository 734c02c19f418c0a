"""The models that a search measures on the test images, and how their figures are told."""

from __future__ import annotations

from raysearch.record.evaluation import EvaluationDocument, Figures, Other, Spread

MODELS = (("winner", "the winner"), ("default", "the default recipe"), ("head", "the best head alone"))
"""The three models that are measured on the test split, in the order in which they are shown."""


def measured_models(evaluation: EvaluationDocument) -> list[tuple[str, str, str, Figures]]:
    """The models of `MODELS` that evaluation.json has: key, label, trial, and the figures on the test images."""
    winner: Other = {"trial": evaluation.get("trial", ""), "test": evaluation["test"]}
    found = {"winner": winner, **evaluation.get("others", {})}
    return [(key, label, found[key]["trial"] or "", found[key]["test"]) for key, label in MODELS if key in found]


def plus_minus(spread: Spread) -> str:
    """The mean and its deviation, e.g. "0.6813 ± 0.0042"; the mean alone where there is one value."""
    return f"{spread['mean']:.4f}" + ("" if spread["std"] is None else f" ± {spread['std']:.4f}")

"""What best/ holds: one network or several, how their answers are put together, and how sure they may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raysearch.data.selection import evenly_spaced
from raysearch.errors import InputError
from raysearch.recipe import Recipe
from raysearch.record.decision import decided
from raysearch.record.evaluation import CurvePoint, Kind, Promise
from raysearch.winner.confidence import Floats, RiskCoverage, abstention, risk_coverage
from raysearch.winner.shipped import Calibrated, MeanOfProbabilities

PROMISED = (0.01, 0.02, 0.05, 0.1)
"""Errors of which a page and a card say what `--abstain` would do."""

_CURVE = 400  # points of a curve that are kept


class MemberInfo(TypedDict):
    """One network."""

    recipe: dict[str, object]
    weight: float
    """Its share of the mean."""


class ShippedInfo(TypedDict):
    """How it stands in labels.json."""

    kind: Kind
    mirrored: bool
    """Whether each network sees the image and its mirror image."""
    members: list[MemberInfo]
    """More than one of an ensemble."""
    temperature: float
    threshold: float | None
    """The probability from which on the second of two classes is the answer; None: the likelier class is."""
    curve: list[CurvePoint]
    images: int
    """Images that the temperature, the threshold and the curve are from, answered out of fold."""


@dataclass(frozen=True)
class Confidence:
    """How sure a classifier may be, as answers to images say that it had not trained on."""

    temperature: float = 1.0
    threshold: float | None = None
    curve: RiskCoverage | None = None
    images: int = 0

    def least(self, error: float) -> float | None:
        """The confidence from which on at most this share of the answers is wrong; None: nobody can say so."""
        return None if self.curve is None else abstention(self.curve, error)

    def promise(self, error: float) -> float:
        """The same as `least`, for whoever insists.

        Raises:
            InputError: the error is no share, or nobody can promise it.
        """
        if not 0 < error < 1:
            raise InputError(f"abstain {error:g}: the share of wrong answers must be between 0 and 1, e.g. 0.05")
        if self.curve is None:
            raise InputError(
                "abstain: how often this classifier is wrong is not known out of fold (its search made no final "
                "comparison on folds), so nothing can be promised; predict without it, or search with --folds 3"
            )
        least = self.least(error)
        if least is None:
            smallest = math.ceil(1000 * float(self.curve.bound.min())) / 10
            raise InputError(
                f"abstain {error:g}: from {self.images} out-of-fold images nobody can promise that at most "
                f"{100 * error:g} % of the answers are wrong; the least that they can is {smallest:g} %"
            )
        return least

    def promises(self, probabilities: Floats, labels: NDArray[np.int64]) -> list[Promise]:
        """What abstaining does for each of `PROMISED`; nothing where there is no curve.

        Args:
            probabilities: calibrated, of the test images, (n, classes).
            labels: theirs, (n,).
        """
        return [] if self.curve is None else [self._promise(error, probabilities, labels) for error in PROMISED]

    def _promise(self, error: float, probabilities: Floats, labels: NDArray[np.int64]) -> Promise:
        least = self.least(error)
        if least is None or self.curve is None:
            return {"error": error, "confidence": None, "coverage": None, "test_coverage": None, "test_error": None}
        said = decided(probabilities, self.threshold)
        given = probabilities[np.arange(len(said)), said] >= least
        return {
            "error": error,
            "confidence": least,
            "coverage": float(self.curve.coverage[self.curve.confidences >= least].max()),
            "test_coverage": float(given.mean()),
            "test_error": float((said != labels)[given].mean()) if given.any() else None,
        }

    @staticmethod
    def of(
        probabilities: Floats,
        labels: NDArray[np.int64],
        temperature: float,
        threshold: float | None,
        groups: NDArray[np.int64] | None = None,
    ) -> Confidence:
        """What calibrated out-of-fold probabilities, (n, classes), say; groups as of `risk_coverage`."""
        curve = risk_coverage(probabilities, labels, threshold, groups)
        return Confidence(temperature, threshold, curve, len(labels))

    @staticmethod
    def read(info: ShippedInfo | None) -> Confidence:
        """What labels.json says; without a word there, nothing is known."""
        if info is None:
            return Confidence()
        points, curve = info["curve"], None
        if points:
            curve = RiskCoverage(
                np.array([point["confidence"] for point in points]),
                np.array([point["coverage"] for point in points]),
                np.array([point["risk"] for point in points]),
                np.array([point["bound"] for point in points]),
            )
        return Confidence(info["temperature"], info["threshold"], curve, info["images"])

    def points(self) -> list[CurvePoint]:
        """The curve, thinned out."""
        if self.curve is None:
            return []
        kept = evenly_spaced(len(self.curve.risk), _CURVE)
        columns = (self.curve.confidences, self.curve.coverage, self.curve.risk, self.curve.bound)
        return [
            {"confidence": float(a), "coverage": float(b), "risk": float(c), "bound": float(d)}
            for a, b, c, d in zip(*(column[kept] for column in columns), strict=True)
        ]


@dataclass(frozen=True)
class Network:
    """One trained network."""

    recipe: Recipe
    classifier: nn.Module
    weight: float = 1.0


@dataclass(frozen=True)
class Shipment:
    """What is shipped.

    Args:
        kind: what it is.
        networks: at least one; more than one of an ensemble.
        mirrored: whether each sees the image and its mirror image.
        confidence: how sure it may be.
    """

    kind: Kind
    networks: tuple[Network, ...]
    mirrored: bool = False
    confidence: Confidence = Confidence()

    @staticmethod
    def of(classifier: nn.Module, recipe: Recipe) -> Shipment:
        """One network as it is, of which nothing is known out of fold."""
        return Shipment("single", (Network(recipe, classifier),))

    @property
    def cost(self) -> int:
        """Passes through a network that a prediction takes."""
        return len(self.networks) * (2 if self.mirrored else 1)

    def module(self) -> nn.Module:
        """The whole as one module in eval mode: prepared images (n, 3, s, s) to logits (n, classes)."""
        classifiers = [network.classifier for network in self.networks]
        whole = classifiers[0]
        if self.cost > 1:
            weights = [network.weight for network in self.networks]
            whole = MeanOfProbabilities(classifiers, weights, mirrored=self.mirrored)
        if self.confidence.temperature != 1:
            whole = Calibrated(whole, self.confidence.temperature)
        return whole.eval().requires_grad_(False)

    def info(self) -> ShippedInfo:
        """How it stands in labels.json."""
        return {
            "kind": self.kind,
            "mirrored": self.mirrored,
            "members": [
                {"recipe": network.recipe.model_dump(mode="json"), "weight": network.weight}
                for network in self.networks
            ],
            "temperature": self.confidence.temperature,
            "threshold": self.confidence.threshold,
            "curve": self.confidence.points(),
            "images": self.confidence.images,
        }

    def calibrated(self, confidence: Confidence) -> Shipment:
        """The same, as sure as it may be."""
        return replace(self, confidence=confidence)


def equal_shares(recipe: Recipe, classifiers: Sequence[nn.Module], weight: float) -> list[Network]:
    """Networks of one recipe that have a weight together."""
    return [Network(recipe, classifier, weight / len(classifiers)) for classifier in classifiers]

"""What a classifier answers, where of two classes the likelier one is not always the answer, and what that is worth."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from raysearch.record.decision import decided
from raysearch.record.metric import RANKED
from raysearch.training.metrics import classification_metrics

OF_PROBABILITIES = ("loss", *RANKED)
"""What no threshold changes."""


@dataclass(frozen=True)
class Decisions:
    """What a classifier makes of some images: how likely it holds each class for, and which it names."""

    logits: Tensor
    """Shape (n, classes); calibrated, if the threshold is of calibrated probabilities."""
    threshold: float | NDArray[np.float64] | None = None
    """As of `raysearch.record.decision.decided`."""

    @cached_property
    def said(self) -> Tensor:
        """The class that it names for each image, integer (n,)."""
        if self.threshold is None:
            return self.logits.argmax(1)
        return torch.from_numpy(decided(torch.softmax(self.logits.double(), dim=1).numpy(), self.threshold))

    def figures(
        self, images: Tensor, labels: Tensor, classes: Sequence[str], also: Collection[str] | None = ()
    ) -> dict[str, float]:
        """What `classification_metrics` finds on some of the images.

        Args:
            images: places of them, integer.
            labels: of all, integer (n,).
            classes: in the order of the logits.
            also: as of `classification_metrics`.
        """
        found = classification_metrics(self.logits[images], labels[images], classes, also)
        return found if self.threshold is None else of_answers(self.said[images], labels[images], classes, found)


def of_answers(said: Tensor, labels: Tensor, classes: Sequence[str], plain: Mapping[str, float]) -> dict[str, float]:
    """A classifier's figures where its answers are not its likeliest classes: log-loss and ranks stay as they are.

    Args:
        said: the class that it names for each image, integer (n,).
        labels: integer (n,).
        classes: in their order.
        plain: its figures with the likeliest classes for answers.
    """
    still = {name: plain[name] for name in OF_PROBABILITIES if name in plain}
    return classification_metrics(functional.one_hot(said, len(classes)).double(), labels, classes, None) | still

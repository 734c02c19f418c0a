"""What a stage minimises: cross-entropy, focal loss or logit-adjusted cross-entropy, each class with its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from raysearch.recipe import Stage
from raysearch.training.class_weights import class_weights

LEAST_REST = 1e-12
"""The least of 1 - p that is told from 0: a power below 1 of it has no derivative there."""


@dataclass(frozen=True)
class Loss:
    """The loss of one stage.

    With the probabilities p of the shifted logits, the mass q that label smoothing gives each class, and the classes'
    weights w, an image's loss is the sum over classes of -q w (1 - p)^gamma log p. Without smoothing that is

    - cross-entropy with gamma = 0 and no shift,
    - the focal loss of Lin et al. 2017 (equation 5) with gamma above 0: images that are surely right count less,
    - the logit-adjusted loss of Menon et al. 2021 (equation 10) with the shift tau log(prior): a rare class must be
      ahead by more while it is trained, and the raw logits, which are what is evaluated, are fair to it.
    """

    weights: Tensor
    """Of the classes, (c,)."""
    shift: Tensor
    """Added to the logits, (c,)."""
    gamma: float
    smoothing: float

    @classmethod
    def of(cls, stage: Stage, labels: Tensor, classes: Sequence[str]) -> Loss:
        """What a stage minimises on training images of these labels (integer, (n,)), on the labels' device."""
        weights = class_weights(stage.class_weights, labels, classes).to(labels.device)
        shift = torch.zeros_like(weights)
        if stage.loss == "logit_adjusted":
            counts = torch.bincount(labels.cpu(), minlength=len(classes)).clamp(min=1)  # MPS has no float64
            shift = (stage.adjustment_tau * (counts.double() / len(labels)).log()).float().to(labels.device)
        return cls(weights, shift, stage.focal_gamma if stage.loss == "focal" else 0.0, stage.label_smoothing)

    def summed(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of images added up.

        Args:
            logits: as the network gives them, (n, c).
            target: integer (n,).
        """
        if self.gamma:
            return self.each(logits, target).sum()
        return functional.cross_entropy(
            logits + self.shift, target, self.weights, reduction="sum", label_smoothing=self.smoothing
        )

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each image, (n,); arguments as of `summed`."""
        logits = logits + self.shift
        if not self.gamma:
            return functional.cross_entropy(
                logits, target, self.weights, reduction="none", label_smoothing=self.smoothing
            )
        mass = functional.one_hot(target, len(self.weights)) * (1 - self.smoothing)
        mass = (mass + self.smoothing / len(self.weights)) * self.weights
        logs = functional.log_softmax(logits, dim=1)
        return -(mass * (-logs.expm1()).clamp(min=LEAST_REST) ** self.gamma * logs).sum(dim=1)

"""What a network learns from others: what they answer to what it sees itself, softened, beside an image's own label.

The loss of an image is h times that of its label and 1 - h times T^2 times the Kullback-Leibler divergence of the
network's probabilities from the teacher's, both at temperature T (Hinton, Vinyals and Dean 2015). An image without a
label has h = 0.

The teacher is shown the student's own input: the same view of the image, mixed with the same other one. Answers to the
image as it is, given for every view of it, made a student two points worse than its teachers (benchmarks/README.md);
Beyer et al. (2022) found the same. Both networks have the same frozen blocks, so only what is behind them runs twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raysearch.models.boundary import cut
from raysearch.models.transfer import to_device
from raysearch.training.calibration import LEAST
from raysearch.training.losses import Loss

TEMPERATURE = 2.0
HARD_SHARE = 0.3
"""h, of an image that has a label."""

LossOfLabels = Callable[[Tensor, NDArray[np.integer]], Tensor]
"""The loss of some images added up, of their labels, integer (m,), and their places among the training images, (m,)."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """Networks that answer together, and how much of what is learned of an image they have no part in."""

    networks: tuple[nn.Sequential, ...]
    """Whole classifiers, in eval mode; at a stage, what of them is behind its boundary."""
    hard: NDArray[np.float32]
    """What of each image's loss its label has, in [0, 1], (n,)."""

    def take(self, indices: NDArray[np.integer]) -> Teacher:
        """Those of some of the images, in this order."""
        return replace(self, hard=self.hard[indices])

    def behind(self, depth: int) -> Teacher:
        """The same from the boundary of a depth on, before which none of them was trained."""
        return replace(self, networks=tuple(cut(one, depth)[1] for one in self.networks))

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> Tensor:
        """The mean of the networks' probabilities, fp32 (m, c)."""
        return torch.stack([torch.softmax(one(inputs).float(), dim=1) for one in self.networks]).mean(dim=0)


class Distillation:
    """The loss of images that a teacher answers.

    Args:
        loss: of the labels.
        teacher: of all training images.
        device: where it is computed; the teacher's networks are put there.
        temperature: by which both networks' logits are divided.
    """

    def __init__(self, loss: Loss, teacher: Teacher, device: torch.device, temperature: float = TEMPERATURE) -> None:
        self._loss, self._teacher, self._temperature = loss, teacher, temperature
        self._hard = torch.from_numpy(teacher.hard).to(device)
        for network in teacher.networks:
            network.to(device)

    def of(self, inputs: Tensor, logits: Tensor) -> LossOfLabels:
        """The loss of what a network answers to some inputs; each image counts by the weight of its class.

        Args:
            inputs: what it has seen, (m, ...).
            logits: as it gives them, (m, c).
        """
        targets = torch.softmax(self._teacher.answers(inputs).clamp(min=LEAST).log() / self._temperature, dim=1)
        logs = functional.log_softmax(logits / self._temperature, dim=1)
        soft = self._temperature**2 * functional.kl_div(logs, targets, reduction="none").sum(dim=1)

        def summed(labels: Tensor, indices: NDArray[np.integer]) -> Tensor:
            hard = self._hard[to_device(np.asarray(indices, dtype=np.int64), logits.device)]
            return (hard * self._loss.each(logits, labels) + (1 - hard) * self._loss.weights[labels] * soft).sum()

        return summed


def loss_of_answers(
    loss: Loss, teacher: Teacher | None, device: torch.device
) -> Callable[[Tensor, Tensor], LossOfLabels]:
    """What gives the loss of inputs and logits as `Distillation.of` does; without a teacher, by labels alone."""
    if teacher is None:
        return lambda inputs, logits: lambda labels, indices: loss.summed(logits, labels)
    return Distillation(loss, teacher, device).of

"""What a network learns from others' answers: their probabilities, softened, beside an image's own label.

The loss of an image is h times that of its label and 1 - h times T^2 times the Kullback-Leibler divergence of the
network's probabilities from the teacher's, both at temperature T (Hinton, Vinyals and Dean 2015). An image without a
label has h = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from raysearch.training.calibration import LEAST
from raysearch.training.losses import Loss

TEMPERATURE = 2.0
HARD_SHARE = 0.3
"""h, of an image that has a label."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A teacher's answers to some images."""

    probabilities: NDArray[np.float32]
    """(n, c)."""
    hard: NDArray[np.float32]
    """What of each image's loss its label has, in [0, 1], (n,)."""

    def take(self, indices: NDArray[np.integer]) -> Teacher:
        """Those to some of the images, in this order."""
        return Teacher(self.probabilities[indices], self.hard[indices])


class Distillation:
    """The loss of images that a teacher has answered.

    Args:
        loss: of the labels.
        teacher: its answers to all training images.
        temperature: by which both networks' logits are divided.
        device: where it is computed.
    """

    def __init__(self, loss: Loss, teacher: Teacher, device: torch.device, temperature: float = TEMPERATURE) -> None:
        logits = torch.from_numpy(teacher.probabilities).clamp(min=LEAST).log()
        self._loss, self._temperature = loss, temperature
        self._targets = torch.softmax(logits / temperature, dim=1).to(device)
        self._hard = torch.from_numpy(teacher.hard).to(device)

    def summed(self, logits: Tensor, labels: Tensor, indices: NDArray[np.integer]) -> Tensor:
        """The loss of images added up; each counts by the weight of its class.

        Args:
            logits: as the network gives them, (m, c).
            labels: integer (m,).
            indices: of the same among the training images, (m,).
        """
        places = torch.from_numpy(np.asarray(indices, dtype=np.int64)).to(logits.device)
        hard, targets = self._hard[places], self._targets[places]
        logs = functional.log_softmax(logits / self._temperature, dim=1)
        soft = self._temperature**2 * functional.kl_div(logs, targets, reduction="none").sum(dim=1)
        return (hard * self._loss.each(logits, labels) + (1 - hard) * self._loss.weights[labels] * soft).sum()


def summed_by(
    loss: Loss, teacher: Teacher | None, device: torch.device
) -> Callable[[Tensor, Tensor, NDArray[np.integer]], Tensor]:
    """What gives the loss of images added up, as `Distillation.summed` does; without a teacher, by labels alone."""
    if teacher is None:
        return lambda logits, labels, indices: loss.summed(logits, labels)
    return Distillation(loss, teacher, device).summed

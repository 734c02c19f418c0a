"""Temperature scaling (Guo et al. 2017): one number that makes a classifier as sure as it is right."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

_LARGEST = 20.0
LEAST = 1e-12
"""A probability below it has no logarithm worth the name."""


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """What to divide logits by for the least log-loss on these images; within [1/20, 20].

    Args:
        logits: shape (n, c).
        labels: integer (n,).
    """
    logits, bound = logits.double(), math.log(_LARGEST)

    def loss(log_temperature: float) -> float:
        return functional.cross_entropy(logits / math.exp(log_temperature), labels).item()

    return math.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x)


def calibrated_losses(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The log-loss of each image (nats), shape (n,), of logits (n, c) over a temperature."""
    with torch.no_grad():
        return functional.cross_entropy(logits.double() / temperature, labels, reduction="none")


def logarithms(probabilities: NDArray[np.float64]) -> torch.Tensor:
    """Logits whose softmax these probabilities are, (n, classes); of what is next to nothing, a number all the same."""
    return torch.from_numpy(np.log(np.maximum(probabilities, LEAST)))


def tempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, classes) of logits that are divided by a temperature."""
    return torch.softmax(logarithms(probabilities) / temperature, dim=1).numpy()

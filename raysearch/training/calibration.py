"""Temperature scaling (Guo et al. 2017): one number that makes a classifier as sure as it is right."""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

_LARGEST = 20.0


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

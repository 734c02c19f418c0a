"""What can be shipped: one network, its mean with the mirror image, or several whose probabilities are averaged.

Each is a module that takes prepared images, float32 (n, 3, s, s), and returns (n, classes) whose softmax is the answer,
so whatever measures, explains or exports a classifier does so with all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raysearch.training.calibration import LEAST


class MeanOfProbabilities(nn.Module):
    """The mean of several classifiers' probabilities, as their logarithms.

    Args:
        members: each returns logits (n, classes).
        weights: of each, above 0; they need not add up to one. None: all alike.
        mirrored: whether each member sees the image and its mirror image.
    """

    def __init__(
        self, members: Sequence[nn.Module], weights: Sequence[float] | None = None, *, mirrored: bool = False
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one member")
        shares = [1.0] * len(members) if weights is None else list(weights)
        if len(shares) != len(members) or not all(share > 0 for share in shares):
            raise ValueError(f"{len(members)} members need as many weights above 0, got {shares}")
        self.members = nn.ModuleList(members)
        self.shares = [share / sum(shares) for share in shares]
        self.mirrored = mirrored

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (n, classes) of images (n, 3, s, s)."""
        views = [images, images.flip(3)] if self.mirrored else [images]
        mean = sum(
            share / len(views) * torch.softmax(member(view), dim=1)
            for member, share in zip(self.members, self.shares, strict=True)
            for view in views
        )
        assert isinstance(mean, Tensor)
        return mean.clamp_min(LEAST).log()


class Calibrated(nn.Module):
    """A classifier whose logits are divided by a temperature (Guo et al. 2017): it is as sure as it is right.

    The order of the classes stays as it was for every image.
    """

    def __init__(self, classifier: nn.Module, temperature: float) -> None:
        super().__init__()
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"a temperature must be above 0, got {temperature}")
        self.classifier, self.temperature = classifier, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 3, s, s)."""
        logits: Tensor = self.classifier(images) / self.temperature
        return logits


class Mirrored(nn.Module):
    """A classifier that is shown the mirror image."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 3, s, s), mirrored left to right."""
        logits: Tensor = self.classifier(images.flip(3))
        return logits

"""How pixels are normalised: every classifier here takes ImageNet's normalisation, whatever its weights want."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalization:
    """Of red, green and blue, as fractions of the full range: (value - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD)


class Renormalize(nn.Module):
    """Makes of ImageNet's normalisation the one that a network's weights were trained with.

    It is the first layer of such a network, so all networks take the same input: prepared images, exported files and
    networks that answer together need not know which is which.
    """

    def __init__(self, wanted: Normalization) -> None:
        super().__init__()
        self.wanted = wanted
        mean, std = (torch.tensor(values, device="cpu").view(3, 1, 1) for values in (wanted.mean, wanted.std))
        given = [torch.tensor(values, device="cpu").view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)]
        self.scale: Tensor
        self.shift: Tensor
        # Constants, not weights: they are in no file, and on the CPU even where a network is laid out on "meta".
        self.register_buffer("scale", given[1] / std, persistent=False)
        self.register_buffer("shift", (given[0] - mean) / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w), ImageNet-normalised, to (n, 3, h, w)."""
        return images * self.scale + self.shift

    def extra_repr(self) -> str:
        return f"mean={self.wanted.mean}, std={self.wanted.std}"

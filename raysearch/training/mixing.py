"""Images of a step mixed with others of the same step, as what the frozen blocks made of them.

The trained blocks see activations, not pixels; so mixing is the same whether these come from disk, from memory or live.
Mixup of them is manifold mixup (Verma et al. 2019); CutMix (Yun et al. 2019) cuts out of feature maps, of which each
place stands for a patch of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from raysearch.models.transfer import to_device
from raysearch.recipe import Stage


@dataclass(frozen=True)
class Mixing:
    """How the images of one step are mixed: all of them alike, each with its partner."""

    kind: str
    """mixup or cutmix."""
    partners: NDArray[np.int64]
    """For each image, the place of its partner in the step, (n,): a permutation."""
    share: float
    """What of an image is its own, in [0, 1]."""
    corner: tuple[float, float]
    """Where the partner's rectangle lies, of where it could lie: down and across, in [0, 1)."""

    @classmethod
    def draw(cls, stage: Stage, images: int, seed: tuple[int, ...]) -> Mixing | None:
        """Of a step on so many images, from these numbers alone; None if it is not mixed."""
        if stage.mixing == "none":
            return None
        random = np.random.default_rng(seed)
        if random.random() >= stage.mixing_rate:
            return None
        share = float(random.beta(stage.mixing_alpha, stage.mixing_alpha))
        return cls(stage.mixing, random.permutation(images), share, tuple(random.random(2).tolist()))

    def mix(self, own: Tensor, others: Tensor) -> tuple[Tensor, float]:
        """Activations with their partners' in them, and the share of each that is its own.

        A rectangle has whole places, so that its area tells the share, not the number that was drawn.

        Args:
            own: (n, ...), for cutmix (n, c, h, w); it is changed in place.
            others: their partners', of the same shape.
        """
        if self.kind == "mixup":
            return own.lerp_(others, 1 - self.share), self.share
        height, width = own.shape[2:]
        side = (1 - self.share) ** 0.5
        tall, wide = round(side * height), round(side * width)
        top, left = int(self.corner[0] * (height - tall + 1)), int(self.corner[1] * (width - wide + 1))
        own[:, :, top : top + tall, left : left + wide] = others[:, :, top : top + tall, left : left + wide]
        return own, 1 - tall * wide / (height * width)


@dataclass(frozen=True, eq=False)
class Step:
    """The images of one step, and how they are mixed.

    A step may be taken in pieces, by several processes: `places` are those of a piece's images, integer (m,).
    """

    indices: NDArray[np.integer]
    """Of the training images, (n,)."""
    labels: Tensor
    """Of the same, integer (n,), on the device."""
    mixing: Mixing | None

    def inputs(self, places: NDArray[np.int64], read: Callable[[NDArray[np.integer]], Tensor]) -> tuple[Tensor, float]:
        """What the suffix sees of a piece's images, (m, ...), and the share of each that is its own.

        Args:
            places: of the piece.
            read: the activations of some training images, (m, ...).
        """
        own = read(self.indices[places])
        if self.mixing is None:
            return own, 1.0
        partners = self.mixing.partners[places]
        if len(places) == len(self.indices):  # they have all been read
            return self.mixing.mix(own, own[to_device(partners, own.device)])
        return self.mixing.mix(own, read(self.indices[partners]))

    def own_labels(self, places: NDArray[np.int64]) -> Tensor:
        """Of a piece's images, (m,)."""
        return self.labels[places[0] : places[-1] + 1] if len(places) else self.labels[:0]

    def summed(
        self, places: NDArray[np.int64], share: float, loss: Callable[[Tensor, NDArray[np.integer]], Tensor]
    ) -> Tensor:
        """A piece's loss: each part counts by its share.

        Args:
            places: of the piece.
            share: of each image that is its own.
            loss: what it is if all its images were these: their labels, and their indices among the training images.
        """
        own = loss(self.own_labels(places), self.indices[places])
        if self.mixing is None:
            return own
        others = self.mixing.partners[places]
        partners = to_device(others, self.labels.device)
        return share * own + (1 - share) * loss(self.labels[partners], self.indices[others])

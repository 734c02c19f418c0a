"""The supervised contrastive loss (Khosla et al. 2020, equation 2): embeddings of one class near each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysearch.models.head import embeds, logits_and_embeddings
from raysearch.recipe import Stage
from raysearch.training.ranks import ALONE, Ranks

ITSELF = -1e30
"""In the place of an image's similarity to itself: it adds nothing to a sum, and a lone image still has one."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """A suffix in training, and what the loss of one stage has beside that of its logits."""

    suffix: nn.Sequential
    stage: Stage
    weights: Tensor
    """Of the classes, (c,)."""
    contrasts: bool
    """Whether there is such a part: the stage asks for it, and the suffix ends with an embedding head."""

    @classmethod
    def of(cls, stage: Stage, suffix: nn.Sequential, weights: Tensor, ranks: Ranks = ALONE) -> Contrast:
        """That of a stage.

        Raises:
            ValueError: several processes would share out a batch whose images are to be compared with each other.
        """
        contrasts = bool(stage.contrastive) and embeds(suffix)
        if contrasts and ranks.size > 1:
            raise ValueError(
                f"contrastive compares all images of a batch, but {ranks.size} workers share it out: take one a trial"
            )
        return cls(suffix, stage, weights, contrasts)

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | float]:
        """The logits of images with these labels (n,), fp32 (n, c), and what their loss has beside that of these."""
        if not self.contrasts:
            return self.suffix(inputs).float(), 0.0
        logits, embeddings = logits_and_embeddings(self.suffix, inputs)
        loss = contrastive_loss(embeddings.float(), labels, self.weights, self.stage.contrastive_temperature)
        return logits.float(), self.stage.contrastive * loss

    @property
    def images_at_least(self) -> int:
        """The smallest piece of a batch that is trained on: all of it; or two, where one image has no statistics."""
        if self.contrasts:
            return self.stage.batch_size
        return 2 if self.stage.batch_norm == "train" else 1


def contrastive_loss(embeddings: Tensor, labels: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """The loss of a batch, added up over its images; each counts by the weight of its class.

    Of image i it is the mean over the others p of its class of -log(exp(z_i z_p / t) / sum over a of exp(z_i z_a / t)),
    where a runs over all images but i; 0 where no other is of its class.

    Args:
        embeddings: z, of length 1, (n, d).
        labels: integer (n,).
        weights: of the classes, (c,).
        temperature: t.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logs = (embeddings @ embeddings.T / temperature).masked_fill(itself, ITSELF).log_softmax(dim=1)
    positive = (labels[:, None] == labels) & ~itself
    summed = (logs * positive).sum(dim=1)
    return -(weights[labels] * summed / positive.sum(dim=1).clamp(min=1)).sum()

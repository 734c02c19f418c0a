"""The embeddings of k heads at once, and the gradients that go through them; see `training.contrast` for the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from raysearch.models.head import LEAST_LENGTH
from raysearch.training.contrast import ITSELF


def to_length_one(projected: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (k, d, n) of projections of that shape, which they take the place of, and the lengths (k, 1, n)."""
    lengths = projected.norm(dim=1, keepdim=True).clamp_(min=LEAST_LENGTH)
    return projected.div_(lengths), lengths


def through_length_one(embeddings: Tensor, lengths: Tensor, gradients: Tensor) -> Tensor:
    """The gradients of the projections, from those of the embeddings, (k, d, n) all; `gradients` is used up.

    Of z = u / |u| it is (g - z (z g)) / |u|: what would make a vector longer changes nothing.
    """
    along = (embeddings * gradients).sum(1, keepdim=True)
    return gradients.addcmul_(embeddings, along, value=-1).div_(lengths)


def contrast(embeddings: Tensor, truth: Tensor, counts: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    """The supervised contrastive loss of a batch, a head each.

    Args:
        embeddings: z, of length 1, (k, d, n).
        truth: labels as float (c, n).
        counts: what each image's loss counts, (k, n).
        temperatures: t, (k,).

    Returns: the losses (k,), and their gradients by the embeddings (k, d, n).
    """
    itself = torch.eye(embeddings.shape[2], dtype=torch.bool, device=embeddings.device)
    positive = (truth.T @ truth).masked_fill_(itself, 0.0)
    positive /= positive.sum(1, keepdim=True).clamp(min=1)  # a row: what the others of its class count, 1 in all
    similar = torch.bmm(embeddings.mT, embeddings) / temperatures[:, None, None]
    logs = similar.masked_fill_(itself, ITSELF).log_softmax(2)
    some = positive.sum(1)  # 1, or 0 where no other is of the class
    losses = -(logs * positive).sum(2).mul_(counts).sum(1)
    by_similarity = logs.exp_().mul_(some[:, None]).sub_(positive).mul_(counts[:, :, None])
    both = (by_similarity + by_similarity.mT).div_(temperatures[:, None, None])
    return losses, torch.bmm(embeddings, both)

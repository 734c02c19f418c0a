"""What a suffix, or a whole network, makes of images as it is: logits, and embeddings where they are asked for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysearch.activations.base import Activations
from raysearch.models.boundary import prepare
from raysearch.models.head import WithEmbeddings
from raysearch.models.memory import slices, within_memory
from raysearch.models.precision import autocast, full_precision
from raysearch.training.ranks import Ranks


class Answers(NamedTuple):
    """Of n images."""

    logits: Tensor
    """(n, c), fp32 on the CPU."""
    embeddings: Tensor
    """(n, width), fp32 on the device; (n, 0) where they were not asked for."""
    batch: int
    """Images at a time that memory was enough for."""


@torch.no_grad()
def answers(
    suffix: nn.Sequential,
    images: Activations,
    classes: int,
    *,
    device: torch.device,
    ranks: Ranks,
    batch: int,
    embed: bool = False,
) -> Answers:
    """The answers of a suffix to view 0 of images, in fp32; it is left in eval mode.

    Args:
        suffix: maps a batch of activations to logits (m, c).
        images: that are asked for; processes share them out.
        classes: c.
        device: where they come.
        ranks: the processes that ask together.
        batch: images at a time, at first.
        embed: whether embeddings are asked for.
    """
    suffix.eval()
    n = len(images)
    mine, rows = np.arange(n)[ranks.share(n)], WithEmbeddings(suffix) if embed else suffix

    def in_pieces_of(size: int) -> Tensor:
        found = [rows(images.batch(mine[piece], 0)) for piece in slices(len(mine), size)]
        # A process without images does not know how wide an embedding is, but all must send rows of one width.
        return torch.cat(found) if found else rows(images.batch(np.arange(1), 0))[:0]

    with full_precision(device), autocast(device, "fp32"):
        together, batch = within_memory(in_pieces_of, batch)
    together = ranks.gather(together.float(), n)
    return Answers(together[:, :classes].cpu(), together[:, classes:], batch)


def exact_rows(network: nn.Module, images: NDArray[np.uint8], device: torch.device, batch: int) -> tuple[Tensor, int]:
    """What a network, in eval mode and on the device, makes of images: rows (n, width), fp32 on the CPU.

    Args:
        network: takes prepared images.
        images: (n, h, w, 3), at least one.
        device: where it is.
        batch: images at a time, at first.

    Returns: the rows, and images at a time that memory was enough for.
    """

    def in_pieces_of(size: int) -> Tensor:
        pieces = slices(len(images), size)
        return torch.cat([network(prepare(images[piece], device)).flatten(1).float().cpu() for piece in pieces])

    with full_precision(device), torch.inference_mode(), autocast(device, "fp32"):
        return within_memory(in_pieces_of, batch)

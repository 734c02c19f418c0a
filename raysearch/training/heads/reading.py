"""What the heads of a pack read in an epoch: the features, once for all of them, under the dropout of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from raysearch.activations.base import Activations
from raysearch.models.memory import slices, within_memory
from raysearch.training.heads.stacked import EpochInputs
from raysearch.training.numerics import seeded
from raysearch.training.order import EpochOrder


def read_view(activations: Activations, order: np.ndarray, view: int, device: torch.device) -> Tensor:
    """These images in one view, in this order: (n, width)."""

    def in_pieces_of(size: int) -> Tensor:
        rows = torch.empty(len(order), *activations.shape, device=device)
        for piece in slices(len(order), size):
            rows[piece] = activations.batch(order[piece], view)
        return rows

    return within_memory(in_pieces_of, activations.at_once)[0]


def readings(
    features: Tensor, one_hot: Tensor, order: EpochOrder, seed: int, dropouts: Sequence[float], hidden_units: int | None
) -> Iterator[tuple[EpochInputs, int]]:
    """What the heads of each dropout read, one after the other; each is done with when the next is asked for.

    Args:
        features: (n, width), in the order of training.
        one_hot: labels (c, n), float, in the same order.
        order: of the epoch.
        seed: of the recipes.
        dropouts: of the heads, those of one dropout being neighbours.
        hidden_units: of each head; None: the heads are linear, and their dropout is on the features themselves.

    Returns: the reading, and how many of the heads have it.
    """
    uniform: Tensor | None = None
    buffer: Tensor | None = None
    for dropout, group in groupby(dropouts):
        count = len(list(group))
        if dropout == 0:
            yield EpochInputs(features, one_hot, order.batches), count
            continue
        if uniform is None:
            width = features.shape[1] if hidden_units is None else hidden_units
            uniform = _uniform(width, order, seed, features.device)
        # Into a float tensor at once: to multiply by a tensor of another type takes ten times as long.
        # One buffer for all rates, each of which is done with when the next is asked for.
        buffer = torch.empty_like(uniform) if buffer is None else buffer
        factors = torch.ge(uniform, dropout, out=buffer).mul_(1 / (1 - dropout))
        if hidden_units is None:
            yield EpochInputs(factors.mul_(features), one_hot, order.batches), count
        else:
            yield EpochInputs(features, one_hot, order.batches, factors.T.contiguous()), count


def one_hot_labels(labels: Tensor, classes: int) -> Tensor:
    """Integer labels (n,) as `EpochInputs` has them: float (classes, n)."""
    return functional.one_hot(labels, classes).float().T.contiguous()


def _uniform(width: int, order: EpochOrder, seed: int, device: torch.device) -> Tensor:
    """Numbers (n, width) that dropout compares with its rate, drawn as for a head alone: `models.head.Dropout`."""
    uniform = torch.empty(len(order.images), width, device=device)
    with seeded(device, seed, order.view, 1):
        for batch in order.batches:
            torch.rand((batch.stop - batch.start, width), out=uniform[batch])
    return uniform

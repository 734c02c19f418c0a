"""A backbone's blocks as a table: what `--plan` shows of the network."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from raysearch.models.boundary import block_names


@dataclass(frozen=True)
class BlockRow:
    """One child of a classifier."""

    name: str
    parameters: int
    """Numbers that training can change (BatchNorm's statistics are not among them)."""
    output_shape: tuple[int, ...]
    """What one image becomes: (channels, height, width), (tokens, channels), or (features,)."""
    depth: int | None
    """Trained at this depth and deeper; None where there is nothing to train."""


def block_table(classifier: nn.Sequential, image_size: int) -> list[BlockRow]:
    """The classifier's children from input to output, for images of `image_size` px; computes shapes only."""
    shadow = copy.deepcopy(classifier).to("meta").eval()
    names = block_names(classifier)
    depths = {name: len(names) - i for i, name in enumerate(names)} | {"head": 0}
    rows = []
    maps = torch.empty(1, 3, image_size, image_size, device="meta")
    for name, child in shadow.named_children():
        maps = child(maps)
        parameters = sum(p.numel() for p in child.parameters())
        rows.append(BlockRow(name, parameters, tuple(maps.shape[1:]), depths.get(name)))
    return rows

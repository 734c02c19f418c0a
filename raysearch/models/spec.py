"""What the rest of the program knows about a backbone: its blocks, its limits, and where its weights come from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torchvision.models import WeightsEnum

Blocks = dict[str, nn.Sequential]


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone of the registry.

    A block is a `Sequential` of the network's own modules under their own names, so a tensor's name here is its
    block's name followed by the name it has in torchvision (`features.28.weight` is `block5.28.weight`).
    """

    name: str
    block_names: tuple[str, ...]
    """The blocks' names, from input to output."""
    channels: int
    """Channels of the last feature map."""
    min_image_size: int
    """Smallest height and width, in pixels, that leaves one pixel in the last feature map."""
    build: Callable[[], Blocks]
    """The blocks, initialised from torch's global CPU generator; `build_blocks` is the seeded way to call it."""
    imagenet: WeightsEnum | None = None
    """torchvision's ImageNet weights, if it has any."""
    bundled: str | None = None
    """File in `raysearch/assets` with weights to use where ImageNet's cannot be had."""

    def build_blocks(self, seed: int) -> Blocks:
        """The blocks from input to output, initialised from `seed` as torchvision initialises them.

        Leaves the process's random state as it was.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the accelerators' states too
            return self.build()

    def expected_tensors(self) -> Mapping[str, torch.Tensor]:
        """Names, shapes and dtypes of all tensors of the blocks, on the meta device: no memory, no arithmetic."""
        with torch.device("meta"):
            return nn.Sequential(OrderedDict(self.build())).state_dict()

    def problems(self, *, image_size: int, depth: int) -> list[str]:
        """What of a recipe this backbone cannot do, a sentence each."""
        found = []
        if depth > len(self.block_names):
            found.append(
                f"depth {depth}: {self.name} has {len(self.block_names)} blocks ({', '.join(self.block_names)}); "
                f"give a depth from 0 to {len(self.block_names)}"
            )
        if image_size < self.min_image_size:
            found.append(
                f"image size {image_size}: {self.name} needs at least {self.min_image_size} px; give --image-size "
                f"{self.min_image_size} or larger"
            )
        return found

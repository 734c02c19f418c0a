"""ViT-B/16 (Dosovitskiy et al. 2021): torchvision's patches, and its encoder in pairs of layers.

What blocks hand on are tokens, the class token first. The encoder's last norm belongs to the last block.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer, ViT_B_16_Weights, vit_b_16

from raysearch.models.dividing import whole_network
from raysearch.models.spec import BackboneSpec, Blocks, Tokens

_LAYERS = 12
_LAYERS_A_BLOCK = 2


class PatchTokens(nn.Module):
    """Cuts an image into patches and makes a token of each, with its position, behind the class token.

    Positions are those of the images that the network was made for; for other images they are interpolated as
    torchvision's `interpolate_embeddings` does it.
    """

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.conv_proj, self.class_token = network.conv_proj, network.class_token
        self.pos_embedding = network.encoder.pos_embedding

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, 1 + patches, channels)."""
        patches = self.conv_proj(images)
        of_class = self.class_token.expand(images.shape[0], -1, -1)
        tokens = torch.cat([of_class, patches.flatten(2).transpose(1, 2)], dim=1)
        return tokens + self._positions(patches.shape[2], patches.shape[3])

    def _positions(self, height: int, width: int) -> Tensor:
        """(1, 1 + height * width, channels)."""
        of_class, of_places = self.pos_embedding[:, :1], self.pos_embedding[:, 1:]
        side = math.isqrt(of_places.shape[1])
        if (height, width) == (side, side):
            return self.pos_embedding
        there = of_places.transpose(1, 2).unflatten(2, (side, side))
        here = functional.interpolate(there, (height, width), mode="bicubic", align_corners=True)
        return torch.cat([of_class, here.flatten(2).transpose(1, 2)], dim=1)


def divide(network: nn.Module, layers_a_block: int) -> Blocks:
    """The blocks of a vision transformer of torchvision's: its stem, and its layers in groups."""
    assert isinstance(network, VisionTransformer)
    blocks: Blocks = {"stem": nn.Sequential()}
    blocks["stem"].add_module("tokens", PatchTokens(network))
    for number, (name, layer) in enumerate(network.encoder.layers.named_children()):
        block = blocks.setdefault(f"encoder{number // layers_a_block + 1}", nn.Sequential())
        block.add_module(name, layer)
    block.add_module("ln", network.encoder.ln)
    return blocks


SPEC = BackboneSpec(
    name="vit_b_16",
    block_names=("stem", *(f"encoder{i + 1}" for i in range(_LAYERS // _LAYERS_A_BLOCK))),
    channels=768,
    min_image_size=16,
    network=partial(whole_network, vit_b_16),
    divide=partial(divide, layers_a_block=_LAYERS_A_BLOCK),
    imagenet=ViT_B_16_Weights.IMAGENET1K_V1,
    trained_size=224,
    size_step=16,
    tokens=Tokens(before=1, class_token=True),
)

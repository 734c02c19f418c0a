"""RegNetY-400MF (Radosavovic et al. 2020): torchvision's stem and the four stages of its body."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torchvision.models import RegNet_Y_400MF_Weights, regnet_y_400mf

from raysearch.models.dividing import grouped, whole_network
from raysearch.models.spec import BackboneSpec

_GROUPS = {"stem": ("stem",)} | {f"stage{i}": (f"trunk_output.block{i}",) for i in range(1, 5)}


def _network() -> nn.Module:
    with torch.device("cpu"):  # torchvision computes the widths with tensors, which hold nothing on the meta device
        return whole_network(regnet_y_400mf)


SPEC = BackboneSpec(
    name="regnet_y_400mf",
    block_names=tuple(_GROUPS),
    channels=440,
    min_image_size=32,
    network=_network,
    divide=partial(grouped, groups=_GROUPS),
    imagenet=RegNet_Y_400MF_Weights.IMAGENET1K_V2,
    trained_size=224,
)

"""Swin-T (Liu et al. 2021): torchvision's `features`, patches and four stages, each but the first with its merging.

Its modules work on maps with channels last; here they stand between maps as all other networks have them. The norm
before its pooling belongs to the last stage.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models import Swin_T_Weights, swin_t

from raysearch.models.dividing import grouped, whole_network, with_channels_last_inside
from raysearch.models.spec import BackboneSpec, Blocks

_GROUPS = {"stem": ("0",), "stage1": ("1",), "stage2": ("2", "3"), "stage3": ("4", "5"), "stage4": ("6", "7")}


def divide(network: nn.Module) -> Blocks:
    """The blocks of a Swin transformer of torchvision's with four stages."""
    blocks = grouped(network.get_submodule("features"), _GROUPS)
    blocks["stage4"].add_module("norm", network.get_submodule("norm"))
    return with_channels_last_inside(blocks)


SPEC = BackboneSpec(
    name="swin_t",
    block_names=tuple(_GROUPS),
    channels=768,
    min_image_size=32,
    network=partial(whole_network, swin_t),
    divide=divide,
    imagenet=Swin_T_Weights.IMAGENET1K_V1,
    trained_size=224,
)

"""Swin-T (Liu et al. 2021): torchvision's `features`, patches and four stages, each but the first with its merging.

Its modules work on maps with channels last; here they stand between maps as all other networks have them. The norm
before its pooling belongs to the last stage.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn
from torchvision.models import Swin_T_Weights, swin_t
from torchvision.ops.misc import Permute

from raysearch.models.dividing import grouped, whole_network
from raysearch.models.spec import BackboneSpec, Blocks

_GROUPS = {"stem": ("0",), "stage1": ("1",), "stage2": ("2", "3"), "stage3": ("4", "5"), "stage4": ("6", "7")}


class ChannelsLast(nn.Sequential):
    """Modules that work on (n, h, w, channels), between maps (n, channels, h, w)."""

    def forward(self, maps: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, channels, h, w), of other sizes; what is moved are axes, and no memory."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def divide(network: nn.Module) -> Blocks:
    """The blocks of a Swin transformer of torchvision's with four stages."""
    blocks = grouped(network.get_submodule("features"), _GROUPS)
    stem = blocks.pop("stem")  # it ends with channels last, and begins with an image
    stem.add_module("permute", Permute([0, 3, 1, 2]))
    blocks["stage4"].add_module("norm", network.get_submodule("norm"))
    return {"stem": stem} | {name: ChannelsLast(OrderedDict(block.named_children())) for name, block in blocks.items()}


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

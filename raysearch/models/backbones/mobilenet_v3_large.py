"""MobileNetV3-Large (Howard et al. 2019): torchvision's `features`, grouped by the size of their maps.

The hidden layer of its classifier, which works on pooled features, is left out: the head is what is searched.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large

from raysearch.models.dividing import grouped, whole_network
from raysearch.models.spec import BackboneSpec, Blocks

_GROUPS = {
    "stem": ("0", "1"),
    "stage1": ("2", "3"),
    "stage2": ("4", "5", "6"),
    "stage3": ("7", "8", "9", "10"),
    "stage4": ("11", "12"),
    "stage5": ("13", "14", "15", "16"),
}


def _divide(network: nn.Module) -> Blocks:
    return grouped(network.get_submodule("features"), _GROUPS)


SPEC = BackboneSpec(
    name="mobilenet_v3_large",
    block_names=tuple(_GROUPS),
    channels=960,
    min_image_size=32,
    network=partial(whole_network, mobilenet_v3_large),
    divide=_divide,
    imagenet=MobileNet_V3_Large_Weights.IMAGENET1K_V2,
    trained_size=224,
)

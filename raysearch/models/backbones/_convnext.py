"""ConvNeXt (Liu et al. 2022): torchvision's `features`, a stem and four stages with the downsampling before them.

torchvision's classifier begins with a LayerNorm of the pooled features. It belongs to the last stage here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models import ConvNeXt, WeightsEnum

from raysearch.models.dividing import NormOfMean, grouped, whole_network
from raysearch.models.spec import BackboneSpec, Blocks

_GROUPS = {"stem": ("0",), "stage1": ("1",), "stage2": ("2", "3"), "stage3": ("4", "5"), "stage4": ("6", "7")}


def _divide(network: nn.Module) -> Blocks:
    blocks = grouped(network.get_submodule("features"), _GROUPS)
    norm = network.get_submodule("classifier.0")
    assert isinstance(norm, nn.LayerNorm)
    blocks["stage4"].add_module("norm", NormOfMean(norm))
    return blocks


def convnext_spec(network: Callable[..., ConvNeXt], *, imagenet: WeightsEnum) -> BackboneSpec:
    """The spec of a ConvNeXt of torchvision's, named as its function is."""
    return BackboneSpec(
        name=network.__name__,
        block_names=tuple(_GROUPS),
        channels=768,
        min_image_size=32,
        network=partial(whole_network, network),
        divide=_divide,
        imagenet=imagenet,
        trained_size=224,
    )

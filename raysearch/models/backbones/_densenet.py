"""DenseNet (Huang et al. 2017): torchvision's `features`, grouped into a stem and four dense blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models import DenseNet, WeightsEnum

from raysearch.models.dividing import whole_network
from raysearch.models.spec import BackboneSpec, Blocks


def _divide(network: nn.Module) -> Blocks:
    blocks: Blocks = {"stem": nn.Sequential()}
    block = blocks["stem"]
    for name, module in network.get_submodule("features").named_children():
        if name.startswith("denseblock"):
            block = blocks[name] = nn.Sequential()
        block.add_module(name, module)  # a transition belongs to the block before it, the last norm to denseblock4
    # torchvision applies this ReLU in forward(), outside `features`; without it the pooled features are others.
    block.add_module("relu5", nn.ReLU())
    return blocks


def densenet_spec(
    network: Callable[..., DenseNet], *, channels: int, imagenet: WeightsEnum, bundled: str | None = None
) -> BackboneSpec:
    """The spec of a DenseNet of torchvision's, named as its function is."""
    return BackboneSpec(
        name=network.__name__,
        block_names=("stem", "denseblock1", "denseblock2", "denseblock3", "denseblock4"),
        channels=channels,
        min_image_size=29,
        network=partial(whole_network, network),
        divide=_divide,
        imagenet=imagenet,
        bundled=bundled,
        trained_size=224,
    )

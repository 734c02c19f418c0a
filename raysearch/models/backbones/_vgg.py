"""VGG (Simonyan and Zisserman 2015): torchvision's `features`, a block up to and with each max-pooling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torchvision.models import VGG, WeightsEnum

from raysearch.models.spec import BackboneSpec, Blocks


def _network(build: Callable[..., VGG]) -> VGG:
    device = torch.get_default_device()
    with torch.device("meta"):  # the classifier's 120 million parameters are not wanted, so they get no memory
        network = build(weights=None, init_weights=False)
    network.features.to_empty(device=device)
    for module in network.features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's VGG
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every convolution of VGG has a bias
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return network


def _divide(network: nn.Module) -> Blocks:
    blocks: Blocks = {}
    block = nn.Sequential()
    for name, module in network.get_submodule("features").named_children():
        block.add_module(name, module)
        if isinstance(module, nn.MaxPool2d):
            blocks[f"block{len(blocks) + 1}"] = block
            block = nn.Sequential()
    return blocks


def vgg_spec(network: Callable[..., VGG], *, imagenet: WeightsEnum) -> BackboneSpec:
    """The spec of a VGG of torchvision's, named as its function is."""
    return BackboneSpec(
        name=network.__name__,
        block_names=("block1", "block2", "block3", "block4", "block5"),
        channels=512,
        min_image_size=32,
        network=partial(_network, network),
        divide=_divide,
        imagenet=imagenet,
        trained_size=224,
    )

"""VGG-19 (without BatchNorm): torchvision's `features`, a block up to and with each max-pooling."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import VGG19_Weights, vgg19

from raysearch.models.spec import BackboneSpec, Blocks


def _build() -> Blocks:
    device = torch.get_default_device()
    with torch.device("meta"):  # the classifier's 120 million parameters are not wanted, so they get no memory
        features = vgg19(weights=None, init_weights=False).features
    features.to_empty(device=device)
    blocks: Blocks = {}
    block = nn.Sequential()
    for name, module in features.named_children():
        block.add_module(name, module)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's VGG
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every convolution of VGG has a bias
        elif isinstance(module, nn.MaxPool2d):
            blocks[f"block{len(blocks) + 1}"] = block
            block = nn.Sequential()
    return blocks


SPEC = BackboneSpec(
    name="vgg19",
    block_names=("block1", "block2", "block3", "block4", "block5"),
    channels=512,
    min_image_size=32,
    build=_build,
    imagenet=VGG19_Weights.IMAGENET1K_V1,
)

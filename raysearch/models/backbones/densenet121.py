"""DenseNet-121: torchvision's `features`, grouped into a stem and four dense blocks."""

from __future__ import annotations

from torch import nn
from torchvision.models import DenseNet121_Weights, densenet121

from raysearch.models.spec import BackboneSpec, Blocks


def _build() -> Blocks:
    blocks: Blocks = {"stem": nn.Sequential()}
    block = blocks["stem"]
    for name, module in densenet121(weights=None, num_classes=1).features.named_children():
        if name.startswith("denseblock"):
            block = blocks[name] = nn.Sequential()
        block.add_module(name, module)  # a transition belongs to the block before it, the last norm to denseblock4
    # torchvision applies this ReLU in forward(), outside `features`; without it the pooled features are others.
    block.add_module("relu5", nn.ReLU())
    return blocks


SPEC = BackboneSpec(
    name="densenet121",
    block_names=("stem", "denseblock1", "denseblock2", "denseblock3", "denseblock4"),
    channels=1024,
    min_image_size=29,
    build=_build,
    imagenet=DenseNet121_Weights.IMAGENET1K_V1,
    bundled="densenet121_cifar100.safetensors",
)

"""Networks to test with: small backbones of the registry, and smallest members of families that have no small one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig

from raysearch.models.backbones import vit_b_16
from raysearch.models.boundary import build_classifier
from raysearch.models.registry import BACKBONES
from raysearch.models.spec import BackboneSpec
from raysearch.recipe import Recipe, Stage


def _convnext() -> ConvNeXt:
    widths = (8, 12, 16, 24)
    stages = [CNBlockConfig(n, after, 1) for n, after in zip(widths, (*widths[1:], None), strict=True)]
    return ConvNeXt(stages, num_classes=1)


def _swin() -> SwinTransformer:
    sizes = {"patch_size": [4, 4], "embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2]}
    return SwinTransformer(**sizes, window_size=[7, 7], stochastic_depth_prob=0.0, num_classes=1)


def _vit() -> VisionTransformer:
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=1
    )


TINY: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        replace(BACKBONES["convnext_tiny"], name="mini_convnext", channels=24, network=_convnext, imagenet=None),
        replace(BACKBONES["swin_t"], name="mini_swin", channels=64, network=_swin, imagenet=None),
        replace(
            BACKBONES["vit_b_16"],
            name="mini_vit",
            block_names=("stem", "encoder1", "encoder2"),
            channels=16,
            network=_vit,
            divide=partial(vit_b_16.divide, layers_a_block=2),
            min_image_size=8,
            size_step=8,
            trained_size=32,
            imagenet=None,
        ),
    )
}
SMALL = ("densenet121", "efficientnet_b0", "mobilenet_v3_large", "regnet_y_400mf", "resnet18", "simple_cnn", *TINY)
"""One of each way to build a network; VGG aside, whose smallest is not small."""


FEW = ("densenet121", "simple_cnn", *TINY)
"""Where each network takes its time: maps with and without BatchNorm, maps with channels last inside, tokens."""


def register_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the length of a test, `TINY` are of the registry."""
    for name, spec in TINY.items():
        monkeypatch.setitem(BACKBONES, name, spec)


def spec_of(name: str) -> BackboneSpec:
    """Of a backbone of the registry or of `TINY`."""
    return TINY.get(name) or BACKBONES[name]


def classifier_of(backbone: str, pooling: str = "avg", size: int = 32, classes: int = 3) -> nn.Sequential:
    """A classifier none of whose tensors is constant, as a pretrained one's are not.

    First weights have zeros, ones and scales of 1e-6, which would hide what is missing or in the wrong place.
    """
    recipe = Recipe(backbone=backbone, image_size=size, pooling=pooling, schedule=(Stage(depth=0, epochs=1),))
    classifier = build_classifier(recipe, classes)
    generator = torch.Generator().manual_seed(0)
    for tensor in classifier.state_dict().values():
        if tensor.is_floating_point() and (tensor == tensor.flatten()[0]).all():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
    return classifier

"""ResNet (He et al. 2016): torchvision's stem and four stages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torchvision.models import ResNet, WeightsEnum

from raysearch.models.dividing import grouped, whole_network
from raysearch.models.spec import BackboneSpec

_GROUPS = {
    "stem": ("conv1", "bn1", "relu", "maxpool"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4",),
}


def resnet_spec(network: Callable[..., ResNet], *, channels: int, imagenet: WeightsEnum) -> BackboneSpec:
    """The spec of a ResNet of torchvision's, named as its function is."""
    return BackboneSpec(
        name=network.__name__,
        block_names=tuple(_GROUPS),
        channels=channels,
        min_image_size=32,
        network=partial(whole_network, network),
        divide=partial(grouped, groups=_GROUPS),
        imagenet=imagenet,
        trained_size=224,
    )

"""EfficientNet (Tan and Le 2019, 2021): torchvision's `features`, a stem and the stages, with the last convolution."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models import EfficientNet, WeightsEnum

from raysearch.models.dividing import grouped, whole_network
from raysearch.models.spec import BackboneSpec, Blocks


def _divide(network: nn.Module, groups: dict[str, tuple[str, ...]]) -> Blocks:
    return grouped(network.get_submodule("features"), groups)


def efficientnet_spec(
    network: Callable[..., EfficientNet], *, stages: int, imagenet: WeightsEnum, trained_size: int
) -> BackboneSpec:
    """The spec of an EfficientNet of torchvision's, named as its function is."""
    groups: dict[str, tuple[str, ...]] = {"stem": ("0",)}
    groups |= {f"stage{number}": (str(number),) for number in range(1, stages)}
    groups[f"stage{stages}"] = (str(stages), str(stages + 1))
    return BackboneSpec(
        name=network.__name__,
        block_names=tuple(groups),
        channels=1280,
        min_image_size=32,
        network=partial(whole_network, network),
        divide=partial(_divide, groups=groups),
        imagenet=imagenet,
        trained_size=trained_size,
    )

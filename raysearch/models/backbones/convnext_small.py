"""ConvNeXt-Small: see `_convnext`."""

from torchvision.models import ConvNeXt_Small_Weights, convnext_small

from raysearch.models.backbones._convnext import convnext_spec

SPEC = convnext_spec(convnext_small, imagenet=ConvNeXt_Small_Weights.IMAGENET1K_V1)

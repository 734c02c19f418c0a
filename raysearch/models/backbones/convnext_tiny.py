"""ConvNeXt-Tiny: see `_convnext`."""

from torchvision.models import ConvNeXt_Tiny_Weights, convnext_tiny

from raysearch.models.backbones._convnext import convnext_spec

SPEC = convnext_spec(convnext_tiny, imagenet=ConvNeXt_Tiny_Weights.IMAGENET1K_V1)

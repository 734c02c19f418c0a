"""EfficientNet-B0: see `_efficientnet`."""

from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from raysearch.models.backbones._efficientnet import efficientnet_spec

SPEC = efficientnet_spec(efficientnet_b0, stages=7, imagenet=EfficientNet_B0_Weights.IMAGENET1K_V1, trained_size=224)

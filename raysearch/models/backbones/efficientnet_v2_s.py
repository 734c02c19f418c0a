"""EfficientNetV2-S: see `_efficientnet`."""

from torchvision.models import EfficientNet_V2_S_Weights, efficientnet_v2_s

from raysearch.models.backbones._efficientnet import efficientnet_spec

SPEC = efficientnet_spec(
    efficientnet_v2_s, stages=6, imagenet=EfficientNet_V2_S_Weights.IMAGENET1K_V1, trained_size=384
)

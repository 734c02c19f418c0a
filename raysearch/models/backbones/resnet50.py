"""ResNet-50: see `_resnet`."""

from torchvision.models import ResNet50_Weights, resnet50

from raysearch.models.backbones._resnet import resnet_spec

SPEC = resnet_spec(resnet50, channels=2048, imagenet=ResNet50_Weights.IMAGENET1K_V2)

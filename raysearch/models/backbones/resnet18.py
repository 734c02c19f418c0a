"""ResNet-18: see `_resnet`."""

from torchvision.models import ResNet18_Weights, resnet18

from raysearch.models.backbones._resnet import resnet_spec

SPEC = resnet_spec(resnet18, channels=512, imagenet=ResNet18_Weights.IMAGENET1K_V1)

"""VGG-16, without BatchNorm: see `_vgg`."""

from torchvision.models import VGG16_Weights, vgg16

from raysearch.models.backbones._vgg import vgg_spec

SPEC = vgg_spec(vgg16, imagenet=VGG16_Weights.IMAGENET1K_V1)

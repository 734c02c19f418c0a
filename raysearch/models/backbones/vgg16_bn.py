"""VGG-16 with BatchNorm: see `_vgg`."""

from torchvision.models import VGG16_BN_Weights, vgg16_bn

from raysearch.models.backbones._vgg import vgg_spec

SPEC = vgg_spec(vgg16_bn, imagenet=VGG16_BN_Weights.IMAGENET1K_V1)

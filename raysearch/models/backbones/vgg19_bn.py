"""VGG-19 with BatchNorm: see `_vgg`."""

from torchvision.models import VGG19_BN_Weights, vgg19_bn

from raysearch.models.backbones._vgg import vgg_spec

SPEC = vgg_spec(vgg19_bn, imagenet=VGG19_BN_Weights.IMAGENET1K_V1)

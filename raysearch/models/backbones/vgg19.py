"""VGG-19, without BatchNorm: see `_vgg`."""

from torchvision.models import VGG19_Weights, vgg19

from raysearch.models.backbones._vgg import vgg_spec

SPEC = vgg_spec(vgg19, imagenet=VGG19_Weights.IMAGENET1K_V1)

"""DenseNet-201: see `_densenet`."""

from torchvision.models import DenseNet201_Weights, densenet201

from raysearch.models.backbones._densenet import densenet_spec

SPEC = densenet_spec(
    densenet201,
    channels=1920,
    imagenet=DenseNet201_Weights.IMAGENET1K_V1,
)

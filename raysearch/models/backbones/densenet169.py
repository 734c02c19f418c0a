"""DenseNet-169: see `_densenet`."""

from torchvision.models import DenseNet169_Weights, densenet169

from raysearch.models.backbones._densenet import densenet_spec

SPEC = densenet_spec(
    densenet169,
    channels=1664,
    imagenet=DenseNet169_Weights.IMAGENET1K_V1,
)

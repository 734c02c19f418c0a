"""DenseNet-121: see `_densenet`."""

from torchvision.models import DenseNet121_Weights, densenet121

from raysearch.models.backbones._densenet import densenet_spec

SPEC = densenet_spec(
    densenet121,
    channels=1024,
    imagenet=DenseNet121_Weights.IMAGENET1K_V1,
    bundled="densenet121_cifar100.safetensors",
)

"""What families of networks need to be divided into blocks: grouping of modules, and norms that stand behind a pool."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torchvision.ops import StochasticDepth
from torchvision.ops.misc import Permute

from raysearch.models.spec import Blocks


def whole_network(build: Callable[..., nn.Module]) -> nn.Module:
    """A network of torchvision's, with first weights, for one class, and without stochastic depth.

    Which blocks of a network a step skips at random would be regularisation that no recipe names.
    """
    network = build(weights=None, num_classes=1)
    for module in network.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0
    return network


def grouped(module: nn.Module, groups: Mapping[str, Sequence[str]]) -> Blocks:
    """Blocks of a module's children.

    Args:
        module: whose children run one after the other.
        groups: the names of each block's children, in order; a block of one Sequential has that one's children.
    """
    blocks: Blocks = {}
    for block, names in groups.items():
        parts = [(name, module.get_submodule(name)) for name in names]
        if len(parts) == 1 and isinstance(parts[0][1], nn.Sequential):
            parts = list(parts[0][1].named_children())
        blocks[block] = nn.Sequential()
        for name, part in parts:
            blocks[block].add_module(name, part)
    return blocks


class ChannelsLast(nn.Sequential):
    """Modules that work on (n, h, w, channels), between maps (n, channels, h, w)."""

    def forward(self, maps: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, channels, h, w), of other sizes; what is moved are axes, and no memory."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def with_channels_last_inside(blocks: Blocks) -> Blocks:
    """Blocks of modules that work on (n, h, w, channels), the first on an image, as blocks that hand on maps."""
    first, *others = blocks
    blocks[first].add_module("permute", Permute([0, 3, 1, 2]))
    return blocks | {name: ChannelsLast(OrderedDict(blocks[name].named_children())) for name in others}


class NormOfMean(nn.Module):
    """A LayerNorm that stands behind global average pooling in its network, put before it.

    Each place of the map is normalised by the statistics of the map's mean, so the average of what leaves is what the
    network's own norm makes of the average: the features that its classifier was trained on. Yet a map leaves, so that
    maximum pooling and Grad-CAM go on working.

    Args:
        norm: whose tensors these are.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, maps: Tensor) -> Tensor:
        """(n, channels, h, w), normalised over the channels."""
        mean = maps.mean(dim=(2, 3))
        variance, center = mean.var(dim=1, correction=0, keepdim=True), mean.mean(dim=1, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - center * scale
        return maps * scale[:, :, None, None] + shift[:, :, None, None]

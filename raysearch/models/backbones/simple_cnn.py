"""The small network trained from scratch that people compare with: four blocks of convolution, BatchNorm, pooling.

With its head for ten classes it has 0.28 (linear) to 0.32 (one hidden layer of 256) million parameters.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from raysearch.models.spec import BackboneSpec

_WIDTHS = (32, 64, 128, 160)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    block = nn.Sequential()
    block.add_module("conv", nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False))
    block.add_module("norm", nn.BatchNorm2d(outputs))
    block.add_module("relu", nn.ReLU())
    block.add_module("pool", nn.MaxPool2d(kernel_size=2))
    nn.init.kaiming_normal_(block.get_submodule("conv").weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
    return block


def _network() -> nn.Module:
    inputs = (3, *_WIDTHS[:-1])
    blocks = [_block(n_in, n_out) for n_in, n_out in zip(inputs, _WIDTHS, strict=True)]
    return nn.Sequential(OrderedDict((f"block{i}", block) for i, block in enumerate(blocks, start=1)))


SPEC = BackboneSpec(
    name="simple_cnn",
    block_names=tuple(f"block{i + 1}" for i in range(len(_WIDTHS))),
    channels=_WIDTHS[-1],
    min_image_size=2 ** len(_WIDTHS),
    network=_network,
)

"""What the rest of the program knows about a backbone: its blocks, its limits, and where its weights come from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from raysearch.models.normalization import IMAGENET, Normalization, Renormalize

Blocks = dict[str, nn.Sequential]


def children_as_blocks(network: nn.Module) -> Blocks:
    """The blocks of a network that is nothing but a row of named Sequentials."""
    blocks: Blocks = {}
    for name, block in network.named_children():
        assert isinstance(block, nn.Sequential), name
        blocks[name] = block
    return blocks


@dataclass(frozen=True)
class Tokens:
    """How a network that works on tokens (n, tokens, channels) has them arranged."""

    before: int
    """Tokens in front of those of the places: the class token, registers."""
    class_token: bool
    """Whether the network's own classifier reads the first token; else, the mean of the places' tokens."""


@dataclass(frozen=True)
class HubFile:
    """Weights on the Hugging Face Hub."""

    repository: str
    file: str
    license: str | None
    trained_on: str
    """What the repository says of it, in short."""

    @property
    def url(self) -> str:
        """Where it can be fetched by hand."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.file}"


@dataclass(frozen=True)
class Layout:
    """The tensors of a backbone by name."""

    tensors: Mapping[str, Tensor]
    """Of all blocks, on the meta device: names, shapes, dtypes."""
    own_names: Mapping[str, str]
    """The classifier's name of a tensor, by the name that it has in the whole network, as its authors publish it."""
    left_out: frozenset[str]
    """The authors' names of what is no part of the backbone: their classifier."""


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone of the registry.

    A block is a `Sequential` of the network's own modules wherever these allow it, so a tensor's name here is its
    block's name followed by the name that it has there (`features.28.weight` is `block5.28.weight`). What blocks hand
    on are maps (n, channels, height, width), or tokens (n, tokens, channels).
    """

    name: str
    block_names: tuple[str, ...]
    """The blocks' names, from input to output."""
    channels: int
    """Channels of the last feature map."""
    min_image_size: int
    """Smallest height and width, in pixels: what leaves one pixel (or one patch) in the last feature map."""
    network: Callable[[], nn.Module]
    """The whole network as its authors build it, initialised from torch's global CPU generator."""
    divide: Callable[[nn.Module], Blocks] = children_as_blocks
    """Its blocks; together they compute what its own classifier reads, pooling aside."""
    imagenet: WeightsEnum | None = None
    """torchvision's ImageNet weights, if it has any."""
    hub: HubFile | None = None
    """Where else its weights are published."""
    bundled: str | None = None
    """File in `raysearch/assets` with weights to use where ImageNet's cannot be had."""
    normalization: Normalization = IMAGENET
    """Of the pixels that the weights were trained on."""
    trained_size: int | None = None
    """Height and width, in pixels, of the images that the weights are at their best with."""
    size_step: int = 1
    """Heights and widths are multiples of this: of a patch, where the network cuts an image into patches."""
    other_sizes: bool = True
    """Whether images of other sizes than `trained_size` are taken; positions of patches are interpolated."""
    tokens: Tokens | None = None
    """For a network whose last block hands on tokens."""

    def build(self) -> Blocks:
        """The blocks, initialised from torch's global CPU generator; `build_blocks` is the seeded way to call it."""
        blocks = self.divide(self.network())
        if self.normalization != IMAGENET:
            first = next(iter(blocks))
            adapted = OrderedDict[str, nn.Module](renormalize=Renormalize(self.normalization))
            blocks[first] = nn.Sequential(adapted | OrderedDict(blocks[first].named_children()))
        return blocks

    def build_blocks(self, seed: int) -> Blocks:
        """The blocks from input to output, initialised from `seed` as their authors initialise them.

        Leaves the process's random state as it was.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the accelerators' states too
            return self.build()

    @cached_property
    def layout(self) -> Layout:
        """Names, shapes and dtypes of all tensors, found on the meta device: no memory, no arithmetic.

        Which of the authors' names is which of ours is told by the tensors themselves: dividing a network moves its
        modules, and copies none.
        """
        with torch.device("meta"):
            network = self.network()
            whole = network.state_dict(keep_vars=True)
            names = {id(tensor): name for name, tensor in whole.items()}
            tensors = nn.Sequential(OrderedDict(self.divide(network))).state_dict(keep_vars=True)
        own_names = {names[id(tensor)]: name for name, tensor in tensors.items()}
        return Layout(
            {name: tensor.detach().to("meta") for name, tensor in tensors.items()},
            own_names,
            frozenset(whole) - own_names.keys(),
        )

    def problems(self, *, image_size: int, depth: int) -> list[str]:
        """What of a recipe this backbone cannot do, a sentence each."""
        found = []
        if depth > len(self.block_names):
            found.append(
                f"depth {depth}: {self.name} has {len(self.block_names)} blocks ({', '.join(self.block_names)}); "
                f"give a depth from 0 to {len(self.block_names)}"
            )
        if not self.other_sizes and image_size != self.trained_size:
            found.append(
                f"image size {image_size}: {self.name} takes images of {self.trained_size} px alone; give --image-size "
                f"{self.trained_size}"
            )
        elif image_size < self.min_image_size:
            found.append(
                f"image size {image_size}: {self.name} needs at least {self.min_image_size} px; give --image-size "
                f"{self.min_image_size} or larger"
            )
        elif image_size % self.size_step:
            below = image_size - image_size % self.size_step
            found.append(
                f"image size {image_size}: {self.name} cuts images into patches of {self.size_step} px; give "
                f"--image-size {below} or {below + self.size_step}"
            )
        return found

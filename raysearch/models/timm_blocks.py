"""How a network of timm's is divided into blocks: by its own groups of parameters, in the order of its modules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from raysearch.errors import InputError
from raysearch.models.dividing import NormOfMean, with_channels_last_inside
from raysearch.models.spec import Blocks

MOST_BLOCKS = 8

_BEHIND = {"global_pool", "fc_norm", "head_drop", "pre_logits"}  # beside what a network calls its classifier


@dataclass(frozen=True)
class Plan:
    """How a network is divided, by the paths of its modules."""

    blocks: Mapping[str, Sequence[str]]
    """Modules of each block, in the order in which they run."""
    behind: Sequence[str]
    """What stands behind the last feature map."""
    wrapped: bool
    """Whether the first block is the network itself without the others' modules: it then does what only its own
    forward does, such as adding positions."""
    channels_last: bool
    """Whether its maps are (n, h, w, channels)."""
    norm: str | None = None
    """A norm of the pooled features."""


def plan_blocks(name: str, network: Any) -> Plan:
    """The blocks that the network's own groups of parameters make.

    Raises:
        InputError: it has no such groups, or fewer than two.
    """
    from timm.models import group_parameters

    if not hasattr(network, "group_matcher") or not hasattr(network, "forward_features"):
        raise InputError(f"backbone {name} cannot be divided: timm does not say which of its layers are of one depth")
    groups = group_parameters(network, network.group_matcher(coarse=True))
    depth_of = {parameter: depth for depth, names in groups.items() for parameter in names}
    children = [child for child, _ in network.named_children()]
    classifiers = network.pretrained_cfg.get("classifier") or ()
    roots = {one.split(".")[0] for one in ((classifiers,) if isinstance(classifiers, str) else classifiers)}
    end = next((at for at, child in enumerate(children) if child in roots | _BEHIND), len(children))
    units: dict[int, list[str]] = {}
    depth = 0
    for path in _units(network, children[:end], depth_of):
        depths = [depth_of[n] for n in _parameters(network, path)]
        # A norm or an activation at the end counts as of the classifier's depth; it is the last block's.
        depth = max(depth, min(max(depths, default=depth), len(groups) - 2))
        units.setdefault(depth, []).append(path)
    if len(units) < 2:
        raise InputError(f"backbone {name} cannot be divided: timm has all of its layers at one depth")
    stem, *deeper = units.values()
    size = math.ceil(len(deeper) / (MOST_BLOCKS - 1))
    blocks = {"stem": stem}
    for at in range(0, len(deeper), size):
        some = deeper[at : at + size]
        first, last = some[0][0], some[-1][0]
        label = _label(first) if len(some) == 1 else f"{_label(first)}_{last.rpartition('.')[2]}"
        blocks[label] = [path for group in some for path in group]
    own_parameters = any(True for _ in network.parameters(recurse=False))
    return Plan(blocks, children[end:], wrapped=own_parameters, channels_last=False)


def _units(network: nn.Module, paths: Sequence[str], depth_of: Mapping[str, int]) -> Iterator[str]:
    """The modules to be put into blocks: rows of modules are taken apart where they are of several depths."""
    for path in paths:
        module = network.get_submodule(path)
        depths = {depth_of[name] for name in _parameters(network, path)}
        if len(depths) > 1 and isinstance(module, nn.Sequential | nn.ModuleList):
            yield from _units(network, [f"{path}.{child}" for child, _ in module.named_children()], depth_of)
        else:
            yield path


def _parameters(network: nn.Module, path: str) -> list[str]:
    return [f"{path}.{name}" for name, _ in network.get_submodule(path).named_parameters()]


def _label(path: str) -> str:
    """stages.0 -> stages0, features.denseblock1 -> denseblock1."""
    *_, before, last = ["", *path.split(".")]
    return f"{before}{last}" if last.isdigit() else last


def divide(network: nn.Module, plan: Plan) -> Blocks:
    """The blocks; in a wrapped plan the network itself is in the first of them."""
    blocks: Blocks = {name: nn.Sequential() for name in plan.blocks}
    for name, paths in plan.blocks.items():
        for path in paths if name != "stem" or not plan.wrapped else ():
            leaf = path.rpartition(".")[2]
            label = path.replace(".", "_") if leaf in dict(blocks[name].named_children()) else leaf
            blocks[name].add_module(label, network.get_submodule(path))
    if plan.norm is not None:
        norm = network.get_submodule(plan.norm)
        assert isinstance(norm, nn.LayerNorm)
        list(blocks.values())[-1].add_module("pooled_norm", NormOfMean(norm))
    if plan.wrapped:
        moved = [path for name, paths in plan.blocks.items() if name != "stem" for path in paths]
        for path in (*moved, *plan.behind):
            parent, _, leaf = path.rpartition(".")
            setattr(network.get_submodule(parent), leaf, nn.Identity())
        blocks["stem"].add_module("network", _Features(network))
    return with_channels_last_inside(blocks) if plan.channels_last else blocks


class _Features(nn.Module):
    """What a network makes of an image before its classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.whole = network

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) to the network's features."""
        features: Tensor = self.whole.forward_features(images)  # type: ignore[operator]
        return features

"""The networks that a space chooses among."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysearch.errors import InputError
from raysearch.models.candidates import find_candidates
from raysearch.models.registry import backbone_spec
from raysearch.recipe import AT_HAND, named_network

_NAMED = ("auto", "imagenet", "bundled", "random")


def networks_at_hand(weights: str) -> list[str]:
    """Every network whose weights are on this machine, as NAME=WEIGHTS; nothing is loaded or downloaded.

    Args:
        weights: as a search takes them: auto, or a file or folder that is looked into too.

    Raises:
        InputError: there is none, or `weights` names some that every network would have to have.
    """
    if weights in _NAMED and weights != "auto":
        raise InputError(
            f"weights {weights}: backbone {AT_HAND} takes what is on this machine; name the networks, --backbone "
            f"NAME={weights},…"
        )
    place = None if weights == "auto" else Path(weights).expanduser()
    found, left_out = find_candidates((), place)
    if not found:
        reasons = [f"{one.name}: {one.reason}" for one in left_out]
        raise InputError([f"backbone {AT_HAND}: no weights are on this machine; see raysearch weights", *reasons])
    return [f"{one.backbone}={one.weights}" for one in found]


def twice(networks: Sequence[str]) -> list[str]:
    """Those that are named more than once."""
    return sorted({one for one in networks if list(networks).count(one) > 1})


def as_depths(backbone: str, choices: Sequence[Any]) -> list[Any]:
    """Depths, where some may be named by the block that is the last to be opened, e.g. "layer3".

    Raises:
        ValueError: the network has no such block.
    """
    names = backbone_spec(backbone).block_names
    if unknown := [one for one in choices if isinstance(one, str) and one not in names]:
        raise ValueError(f"{backbone} has no block {unknown[0]!r}; its blocks are {', '.join(names)}")
    return [len(names) - names.index(one) if isinstance(one, str) else one for one in choices]


def backbones_of(networks: Sequence[str]) -> list[str]:
    """Their backbones, each once, in order."""
    return list(dict.fromkeys(named_network(one)[0] for one in networks))


def in_sizes(networks: Sequence[str], sizes: Sequence[int | str]) -> list[str]:
    """Each network in each size, but those that say their own."""
    if not sizes:
        return list(networks)
    sized = (
        [one] if named_network(one).image_size is not None else [f"{one}@{px}" for px in sizes] for one in networks
    )
    return [name for names in sized for name in names]


def native_size(backbone: str) -> int | None:
    """The size that a network's weights were trained with, pixels; None: it is trained from scratch, at any.

    Raises:
        InputError: there is no such network.
    """
    return backbone_spec(backbone).trained_size


def unsized(network: str) -> str:
    """NAME[=WEIGHTS] of a network."""
    return network if named_network(network).image_size is None else network.rpartition("@")[0]

"""Any network of timm's that can be divided, as a backbone: `timm/NAME`.

timm's networks say which of their parameters are of one depth (`group_matcher`). Their modules, in the order in which
they are defined, are put into blocks by that. Whether the blocks compute what the network computes is not believed but
tried, on noise, before anything else is done with them.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from raysearch.errors import InputError
from raysearch.models.normalization import Normalization
from raysearch.models.spec import BackboneSpec, HubFile, Tokens
from raysearch.models.timm_blocks import Plan, divide, plan_blocks

PREFIX = "timm/"
TOLERANCE = 1e-5
"""The largest difference of a feature that is let pass, as a share of the largest feature."""

_MULTIPLE = 32  # pixels; what most networks reduce to one
_PATCH = 8  # pixels; smaller ones are the first step of several


@cache
def timm_spec(name: str) -> BackboneSpec:
    """The backbone of a network of timm's; building and trying it takes a second or more.

    Args:
        name: with or without the tag of its weights: timm/resnet18, timm/resnet18.a1_in1k.

    Raises:
        InputError: timm is not installed or has no such network, or it cannot be divided into blocks; says why.
    """
    network, extra = _created(name)
    settings, plan = network.pretrained_cfg, plan_blocks(name, network)
    trained_size = int(settings["input_size"][-1])
    smallest, step = _sizes(network, fixed=settings.get("fixed_input_size", False) and not extra)
    plan, features = _tried(name, network, plan, trained_size if smallest is None else max(smallest, 2 * step))
    channels, tokens = _arrangement(name, network, features)
    return BackboneSpec(
        name=name,
        block_names=tuple(plan.blocks),
        channels=channels,
        min_image_size=smallest or trained_size,
        network=partial(_network, name, extra),
        divide=partial(divide, plan=plan),
        hub=_hub(settings),
        normalization=Normalization(tuple(settings["mean"]), tuple(settings["std"])),
        trained_size=trained_size,
        size_step=step,
        other_sizes=smallest is not None,
        tokens=tokens,
    )


def timm_hub(name: str) -> HubFile | None:
    """Where the weights of a network of timm's are published; None if they are not, or timm is not installed."""
    try:
        from timm.models import get_pretrained_cfg
    except ImportError:
        return None
    settings = get_pretrained_cfg(name.removeprefix(PREFIX), allow_unregistered=True)
    return None if settings is None else _hub(settings.to_dict())


def _created(name: str) -> tuple[Any, dict[str, Any]]:
    """The network in eval mode, and what beside its name it is made by: positions for any size, if it has such."""
    try:
        import timm
    except ImportError as error:
        raise InputError(f"backbone {name} needs timm: pip install 'raysearch[timm]'") from error
    wanted = name.removeprefix(PREFIX)
    if not timm.is_model(wanted.partition(".")[0]):
        near = difflib.get_close_matches(wanted, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(PREFIX + one for one in near)}?" if near else ""
        raise InputError(f"unknown backbone {name!r}: timm has no network of that name{hint}")
    try:
        with torch.random.fork_rng(devices=[]):
            try:
                extra = {"dynamic_img_size": True}
                return _network(name, extra).eval(), extra
            except TypeError:  # it has no positions of patches
                return _network(name, {}).eval(), {}
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise InputError(f"backbone {name} cannot be built by timm: {error}") from error


def _network(name: str, extra: Mapping[str, Any]) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name.removeprefix(PREFIX), pretrained=False, num_classes=1, **extra)
    return network


def _sizes(network: Any, *, fixed: bool) -> tuple[int | None, int]:
    """The smallest image that the network takes, in pixels, and what sizes are multiples of; found by trying.

    Args:
        network: in eval mode.
        fixed: whether it takes images of one size alone: then the smallest is None.
    """
    if fixed:
        return None, 1
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    patch = int(patch[0] if isinstance(patch, Sequence) else patch)
    if patch >= _PATCH:
        return (patch, patch) if _takes(network, 2 * patch) else (None, 1)
    for smallest in (_MULTIPLE, 2 * _MULTIPLE, 4 * _MULTIPLE):
        if _takes(network, smallest):
            return smallest, 1 if _takes(network, smallest + 3) else _MULTIPLE
    return None, 1


def _takes(network: Any, size: int) -> bool:
    try:
        with torch.no_grad():
            network.forward_features(torch.zeros(2, 3, size, size))
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


def _tried(name: str, network: Any, plan: Plan, size: int) -> tuple[Plan, Tensor]:
    """The plan whose blocks compute what the network does, and the features that it has of two images of noise.

    Raises:
        InputError: no plan's blocks do.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, size, size, generator=generator)
    with torch.no_grad():
        # First weights have zeros, ones and scales of 1e-6, behind which whole layers would not be seen.
        for tensor in network.state_dict().values():
            if tensor.is_floating_point() and tensor.numel() and (tensor == tensor.flatten()[0]).all():
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
        features = network.forward_features(images)
        if not isinstance(features, Tensor):
            raise InputError(f"backbone {name} cannot be divided: it hands on {type(features).__name__}, no tensor")
        channels_last = features.ndim == 4 and getattr(network, "output_fmt", "NCHW") == "NHWC"
        if channels_last:
            features = features.permute(0, 3, 1, 2)
        reasons = []
        for wrapped in (True,) if plan.wrapped else (False, True):
            one = Plan(plan.blocks, plan.behind, wrapped, channels_last)
            reason = _difference(copy.deepcopy(network), one, images, features)
            if reason is None:
                return Plan(one.blocks, one.behind, wrapped, channels_last, _pooled_norm(network, features)), features
            reasons.append(reason)
    raise InputError(f"backbone {name} cannot be divided: its blocks, one after the other, {reasons[-1]}")


def _difference(network: nn.Module, plan: Plan, images: Tensor, features: Tensor) -> str | None:
    """In what the blocks differ from the network; None if in nothing."""
    computed = images
    try:
        for block in nn.Sequential(*divide(network, plan).values()).eval():
            computed = block(computed)
            if not isinstance(computed, Tensor) or computed.ndim not in (3, 4) or len(computed) != len(images):
                return "do not hand on one tensor with a row an image"
    except Exception as error:  # noqa: BLE001 (modules of others, called as they may not be meant to)
        return f"fail: {error}"
    if computed.shape != features.shape:
        return f"give {tuple(computed.shape)} where it has {tuple(features.shape)}"
    worst = ((computed - features).abs().max() / features.abs().max().clamp(min=1e-30)).item()
    return None if worst <= TOLERANCE else f"differ from it by {worst:.1e} of its largest feature"


def _pooled_norm(network: nn.Module, features: Tensor) -> str | None:
    """The path of a norm of the pooled map, where the network has one of the map's channels."""
    norm = dict(network.named_modules()).get("head.norm")
    fits = isinstance(norm, nn.LayerNorm) and features.ndim == 4 and norm.weight.shape == features.shape[1:2]
    return "head.norm" if fits else None


def _arrangement(name: str, network: Any, features: Tensor) -> tuple[int, Tokens | None]:
    """Channels of the features, and how tokens are arranged.

    Raises:
        InputError: they are neither maps nor tokens of a square image.
    """
    if features.ndim == 4:
        return features.shape[1], None
    before = int(getattr(network, "num_prefix_tokens", 0))
    if features.ndim != 3 or features.shape[2] != network.num_features:
        raise InputError(f"backbone {name} cannot be used: its features are of shape (n, {tuple(features.shape[1:])})")
    if math.isqrt(places := features.shape[1] - before) ** 2 != places:
        raise InputError(f"backbone {name} cannot be used: its {places} tokens are not those of a square image")
    return features.shape[2], Tokens(before, class_token=getattr(network, "global_pool", "") == "token")


def _hub(settings: Mapping[str, Any]) -> HubFile | None:
    repository = settings.get("hf_hub_id")
    if not repository:
        return None
    file = settings.get("hf_hub_filename") or "model.safetensors"
    return HubFile(repository, file, settings.get("license"), settings.get("tag") or "")

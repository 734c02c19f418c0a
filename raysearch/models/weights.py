"""Chooses and loads a backbone's weights: ImageNet's, the bundled ones, a file's, or random first ones."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from raysearch.errors import InputError
from raysearch.models.at_hand import fitting_file
from raysearch.models.fitting import fit_tensors
from raysearch.models.hub import cached_hub_file, hub_file
from raysearch.models.imagenet import DownloadError, cached_file, imagenet_tensors
from raysearch.models.registry import backbone_spec
from raysearch.models.spec import BackboneSpec
from raysearch.models.weight_file import read_tensors


@dataclass(frozen=True)
class Weights:
    """A backbone's tensors, and where they are from."""

    state: Mapping[str, Tensor]
    """fp32 on the CPU, under the classifier's names; every tensor of every block, none of the head."""
    digest: str
    """SHA-256 (hex) of names, shapes and values: equal for equal weights, whatever file they came in."""
    origin: str
    """What was loaded."""
    reason: str
    """Why this and not something else."""
    metadata: Mapping[str, str]
    """What the file says about itself."""
    again: str
    """What makes `load_weights` load the same again, whatever the connection is by then."""


def load_weights(backbone: str, weights: str, seed: int) -> Weights:
    """The weights that `--weights` names: auto, imagenet, bundled, random, or the path of a file or a folder.

    auto takes the published ones (torchvision's of ImageNet; of a network of timm's, those of the hub) if they are in
    the cache or can be downloaded (known within 5 s), else the bundled ones; random ones (drawn from `seed`) only where
    none could exist, for a network meant for training from scratch. What auto finds depends on the connection: ask
    once, in the process that starts the search. Where torchvision has several of ImageNet, any goes by its name
    (IMAGENET1K_V1). Of a folder, the file that fits the backbone is taken.

    Raises:
        InputError: unknown backbone, weights that it does not have or that cannot be had, a file that is not a
            weights file or that is another architecture's, a folder of which none or several files fit.
    """
    spec = backbone_spec(backbone)
    match weights:
        case "auto":
            return _auto(spec, seed)
        case "imagenet":
            return _asked_for(spec, spec.imagenet, weights)
        case "bundled":
            if spec.bundled is None:
                raise InputError(f"weights bundled: there are none for {spec.name}; {_remedies(spec)}")
            return _bundled(spec, spec.bundled, "asked for")
        case "random":
            return _random(spec, seed, "asked for")
        case _ if spec.imagenet is not None and weights in type(spec.imagenet).__members__:
            return _asked_for(spec, type(spec.imagenet)[weights], weights)
        case _:
            path = Path(weights).expanduser()
            if path.is_dir():
                return _from_file(spec, fitting_file(spec, path), f"the file of {weights} that fits")
            return _from_file(spec, path, "asked for", weights)


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of the tensors' names, types, shapes and values, independent of their order and layout."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _auto(spec: BackboneSpec, seed: int) -> Weights:
    if spec.imagenet is None and spec.hub is None:
        return _random(spec, seed, f"{spec.name} has no pretrained weights: it is trained from scratch")
    try:
        if spec.imagenet is None:
            return _hub(spec)
        there = cached_file(spec.imagenet).is_file()
        reason = "found in torchvision's cache" if there else "downloaded into torchvision's cache"
        return _imagenet(spec, spec.imagenet, reason)
    except DownloadError as error:
        if spec.bundled is None:
            raise InputError(
                f"weights auto: {error}; none are bundled for {spec.name}: {_by_hand(spec, spec.imagenet)}"
                f"{_remedies(spec)}"
            ) from error
        reason = f"ImageNet's are not in torchvision's cache, and {error}"
    return _bundled(spec, spec.bundled, reason)


def _asked_for(spec: BackboneSpec, published: WeightsEnum | None, weights: str) -> Weights:
    """torchvision's weights, or why they cannot be had."""
    if published is None:
        raise InputError(f"weights {weights}: {spec.name} has none; {_remedies(spec)}")
    try:
        return _imagenet(spec, published, "asked for")
    except DownloadError as error:
        raise InputError(f"weights {weights}: {error}; {_by_hand(spec, published)}{_remedies(spec)}") from error


def _imagenet(spec: BackboneSpec, published: WeightsEnum, reason: str) -> Weights:
    tensors = imagenet_tensors(published)
    state = fit_tensors(spec, tensors, f"torchvision's file {str(cached_file(published))!r}")
    again = "imagenet" if published == spec.imagenet else published.name
    about = {"url": published.url} | ({"license": published.meta["license"]} if "license" in published.meta else {})
    return Weights(state, digest(state), f"ImageNet ({published})", reason, about, again)


def _hub(spec: BackboneSpec) -> Weights:
    assert spec.hub is not None
    there = cached_hub_file(spec.hub) is not None
    path = hub_file(spec.hub)
    loaded = _from_file(spec, path, "found in the hub's cache" if there else "downloaded into the hub's cache")
    about = {"url": spec.hub.url, "trained_on": spec.hub.trained_on, "license": spec.hub.license or "not stated"}
    origin = f"{spec.hub.repository} (Hugging Face Hub)"
    # Each machine has a cache of its own, in which the file lies elsewhere, or not yet.
    return replace(loaded, origin=origin, metadata={**loaded.metadata, **about}, again="auto")


def _from_file(spec: BackboneSpec, path: Path, reason: str, called: str | None = None) -> Weights:
    """The weights of a file, which messages call as it was typed."""
    tensors, metadata = read_tensors(path)
    name = called or str(path)
    state = fit_tensors(spec, tensors, f"weights {name!r}")
    return Weights(state, digest(state), name, reason, metadata, str(path.resolve()))


def _bundled(spec: BackboneSpec, name: str, reason: str) -> Weights:
    with resources.as_file(resources.files("raysearch") / "assets" / name) as path:
        tensors, metadata = read_tensors(path)
    state = fit_tensors(spec, tensors, f"the bundled {name}")
    return Weights(state, digest(state), f"bundled {name}", reason, metadata, "bundled")


def _random(spec: BackboneSpec, seed: int, reason: str) -> Weights:
    state = nn.Sequential(OrderedDict(spec.build_blocks(seed))).state_dict()
    return Weights(state, digest(state), f"random (seed {seed})", reason, {}, "random")


def _by_hand(spec: BackboneSpec, published: WeightsEnum | None) -> str:
    """What to fetch from where, and where to put it, on a machine without a connection."""
    if published is not None:
        return f"fetch {published.url} elsewhere and put it at {cached_file(published)}, or "
    assert spec.hub is not None
    return f"fetch {spec.hub.url} elsewhere and give it as --weights PATH, or "


def _remedies(spec: BackboneSpec) -> str:
    auto = "--weights auto, " if spec.bundled else ""
    return f"give {auto}--weights PATH (a safetensors or torch file, or a folder of such) or --weights random"

"""Chooses and loads a backbone's weights: ImageNet's, the bundled ones, a file's, or random first ones."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from raysearch.errors import InputError
from raysearch.models.fitting import fit_tensors
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
    """The weights that `--weights` names: auto, imagenet, bundled, random, or a path.

    auto takes ImageNet's if they are in torchvision's cache or can be downloaded (known within 5 s), else the bundled
    ones; random ones (drawn from `seed`) only where none could exist, for a network meant for training from scratch.
    What auto finds depends on the connection: ask once, in the process that starts the search.

    Raises:
        InputError: unknown backbone, weights that it does not have or that cannot be had, a file that is not a
            weights file or that is another architecture's.
    """
    spec = backbone_spec(backbone)
    match weights:
        case "auto":
            return _auto(spec, seed)
        case "imagenet":
            try:
                return _imagenet(spec, "asked for")
            except DownloadError as error:
                raise InputError(f"weights imagenet: {error}; {_remedies(spec)}") from error
        case "bundled":
            if spec.bundled is None:
                raise InputError(f"weights bundled: there are none for {spec.name}; {_remedies(spec)}")
            return _bundled(spec, spec.bundled, "asked for")
        case "random":
            return _random(spec, seed, "asked for")
        case _:
            tensors, metadata = read_tensors(Path(weights).expanduser())
            state = fit_tensors(spec, tensors, f"weights {weights!r}")
            path = str(Path(weights).expanduser().resolve())
            return Weights(state, digest(state), weights, "asked for", metadata, path)


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of the tensors' names, types, shapes and values, independent of their order and layout."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _auto(spec: BackboneSpec, seed: int) -> Weights:
    if spec.imagenet is None:
        return _random(spec, seed, f"{spec.name} has no pretrained weights: it is trained from scratch")
    there = cached_file(spec.imagenet).is_file()
    try:
        return _imagenet(spec, "found in torchvision's cache" if there else "downloaded into torchvision's cache")
    except DownloadError as error:
        if spec.bundled is None:
            raise InputError(f"weights auto: {error}; none are bundled for {spec.name}: {_remedies(spec)}") from error
        reason = f"ImageNet's are not in torchvision's cache, and {error}"
    return _bundled(spec, spec.bundled, reason)


def _imagenet(spec: BackboneSpec, reason: str) -> Weights:
    if spec.imagenet is None:
        raise InputError(f"weights imagenet: {spec.name} has none; {_remedies(spec)}")
    tensors = imagenet_tensors(spec.imagenet)
    state = fit_tensors(spec, tensors, f"torchvision's file {str(cached_file(spec.imagenet))!r}")
    return Weights(state, digest(state), f"ImageNet ({spec.imagenet})", reason, {"url": spec.imagenet.url}, "imagenet")


def _bundled(spec: BackboneSpec, name: str, reason: str) -> Weights:
    with resources.as_file(resources.files("raysearch") / "assets" / name) as path:
        tensors, metadata = read_tensors(path)
    state = fit_tensors(spec, tensors, f"the bundled {name}")
    return Weights(state, digest(state), f"bundled {name}", reason, metadata, "bundled")


def _random(spec: BackboneSpec, seed: int, reason: str) -> Weights:
    state = nn.Sequential(OrderedDict(spec.build_blocks(seed))).state_dict()
    return Weights(state, digest(state), f"random (seed {seed})", reason, {}, "random")


def _remedies(spec: BackboneSpec) -> str:
    auto = "--weights auto, " if spec.bundled else ""
    return f"give {auto}--weights PATH (a safetensors or torch file) or --weights random"

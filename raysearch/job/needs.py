"""What one trial needs of a machine: memory while it trains, and disk for its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from raysearch.models.boundary import cut, pin
from raysearch.recipe import Recipe
from raysearch.training.counters import EVALUATION_BATCH

_PASSED_IMAGES = 2


@dataclass(frozen=True)
class Needs:
    """What one trial needs, in bytes; estimates, but for the disk."""

    depth: int
    trained_parameters: int
    training_bytes: int
    """Weights, gradients, optimizer state, and the activations of a batch; on the GPU where there is one."""
    checkpoint_bytes: int
    """Disk for the suffix at its last epoch with its two moments, and at its best epoch, twice."""


def trial_needs(classifier: nn.Sequential, recipe: Recipe, depth: int) -> Needs:
    """Estimates one trial's needs at `depth`, from a pass of two images; the classifier is left as it was.

    Counted are the weights, gradients and AdamW's moments, what autograd keeps for the backward pass of the suffix,
    and the largest input and output of one layer; or the latter for a batch of evaluation, where that is more. The
    peak that the system reports was 10 to 30 % above it (DenseNet-121, fp32, CPU). Autocast needs less.
    """
    prefix, suffix = cut(classifier, depth)
    with _modes_put_back(classifier):
        pin(prefix)
        suffix.eval().requires_grad_(True)
        kept, largest = _passed(classifier, prefix, suffix, recipe.image_size)
    images = math.ceil(recipe.schedule[-1].batch_size / _PASSED_IMAGES)
    trained = sum(p.numel() for p in suffix.parameters())
    whole = sum(t.numel() * t.element_size() for t in classifier.state_dict().values())
    activations = max((kept + largest) * images, largest * EVALUATION_BATCH // _PASSED_IMAGES)
    return Needs(depth, trained, whole + 3 * 4 * trained + activations, 5 * 4 * trained)


@contextmanager
def _modes_put_back(classifier: nn.Sequential) -> Iterator[None]:
    """Puts back, at the end, which modules are in training mode and which parameters want gradients."""
    modes = {
        module: (module.training, [p.requires_grad for p in module.parameters(recurse=False)])
        for module in classifier.modules()
    }
    try:
        yield
    finally:
        for module, (training, wanted) in modes.items():
            module.training = training
            for parameter, requires in zip(module.parameters(recurse=False), wanted, strict=True):
                parameter.requires_grad_(requires)


def _passed(classifier: nn.Sequential, prefix: nn.Module, suffix: nn.Module, image_size: int) -> tuple[int, int]:
    """What a pass of `_PASSED_IMAGES` images holds, in bytes.

    Returns: what autograd keeps for the backward pass of the suffix, and the largest input and output of one layer.
    """
    kept: dict[int, torch.UntypedStorage] = {}
    parameters = {p.untyped_storage().data_ptr() for p in classifier.parameters()}
    largest = 0

    def keep(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage  # held, so that no later tensor gets the same address

    def passing(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        nonlocal largest
        tensors = [t for t in (*inputs, output) if isinstance(t, torch.Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    hooks = [module.register_forward_hook(passing) for module in classifier.modules() if not list(module.children())]
    try:
        with torch.no_grad():
            boundary = prefix(torch.zeros(_PASSED_IMAGES, 3, image_size, image_size))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
            suffix(boundary)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(storage.nbytes() for storage in kept.values()), largest

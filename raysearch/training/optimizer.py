"""The optimizer of a stage: AdamW, each block at its share of the learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raysearch.recipe import Stage


def make_optimizer(suffix: nn.Sequential, stage: Stage, device: torch.device) -> torch.optim.AdamW:
    """AdamW over what of the suffix has gradients; a group's "share" is of the head's learning rate."""
    # Fused: one kernel for all tensors, 4 times as fast on a CPU too; and fp16's scaler then never waits for CUDA.
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(_groups(suffix, stage), lr=stage.learning_rate, fused=fused)


def _groups(suffix: nn.Sequential, stage: Stage) -> list[dict[str, Any]]:
    """What the optimizer trains, by its share of the learning rate and by its decay: biases and norms have none."""
    layers = [layer for layer in suffix.children() if any(p.requires_grad for p in layer.parameters())]
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for above, layer in enumerate(reversed(layers)):  # the head has none above it
        for parameter in layer.parameters():
            if parameter.requires_grad:
                decay = stage.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((stage.layer_decay**above, decay), []).append(parameter)
    return [
        {"params": parameters, "share": share, "weight_decay": decay} for (share, decay), parameters in groups.items()
    ]

"""The parameter groups of a stage's optimizer."""

from __future__ import annotations

from typing import Any

from torch import nn

from raysearch.recipe import Stage


def parameter_groups(suffix: nn.Sequential, stage: Stage) -> list[dict[str, Any]]:
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

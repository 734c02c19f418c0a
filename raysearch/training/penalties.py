"""Terms of a stage's loss that are of its weights alone: how large they are, and how far from the pretrained ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysearch.recipe import Stage
from raysearch.training.optimizer import is_weight


@dataclass(frozen=True, eq=False)
class Penalties:
    """Those of one stage; on weights of layers, not on biases and norms."""

    stage: Stage
    weights: Sequence[Tensor]
    """All that are trained, the head's too."""
    pulled: Sequence[tuple[Tensor, Tensor]]
    """Those of pretrained blocks that are trained, each with its pretrained value."""

    @classmethod
    def of(cls, stage: Stage, suffix: nn.Sequential, pretrained: Mapping[str, Tensor]) -> Penalties:
        """Those of a suffix, which is on its device already; `pretrained` has tensors by their names in it."""
        named = [(name, p) for name, p in suffix.named_parameters() if p.requires_grad and is_weight(name, p)]
        pulled = [(p, pretrained[name].detach().to(p.device)) for name, p in named if name in pretrained]
        return cls(stage, [p for _, p in named], pulled if stage.l2_sp else [])

    def total(self) -> Tensor | None:
        """Their sum, with gradients; None where there are none."""
        stage, terms = self.stage, []
        if stage.l1 or stage.l2:
            terms += [stage.l1 * p.abs().sum() + stage.l2 / 2 * p.square().sum() for p in self.weights]
        terms += [stage.l2_sp / 2 * (p - start).square().sum() for p, start in self.pulled]
        return torch.stack(terms).sum() if terms else None


def pretrained_weights(stage: Stage, suffix: nn.Sequential) -> dict[str, Tensor]:
    """What a stage's weights are pulled to: those of its blocks as they are, before anything is loaded into them."""
    if not stage.l2_sp:
        return {}
    named = suffix.named_parameters()
    return {name: p.detach().clone() for name, p in named if is_weight(name, p) and not name.startswith("head.")}

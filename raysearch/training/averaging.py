"""The mean of several trainings' tensors: one network at the cost of one (Izmailov et al. 2018; Wortsman et al. 2022).

It pays for trainings of one recipe that started from one head: they end in one basin. The mean over different recipes
does not pay, as published for networks with supervised weights, and as was measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raysearch.models.memory import slices

State = Mapping[str, Tensor]


def mean_state(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of each floating-point tensor, summed in float64; other tensors (counters) are the first's.

    Raises:
        ValueError: no states, or they differ in names or shapes.
    """
    if not states:
        raise ValueError("there are no tensors to average")
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if wrong := next((other for other in shapes if other != shapes[0]), None):
        differ = sorted(name for name in {*shapes[0], *wrong} if shapes[0].get(name) != wrong.get(name))
        raise ValueError(f"tensors of different networks cannot be averaged: {', '.join(differ[:3])} differ")
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(first.dtype)
        if first.is_floating_point()
        else first.clone()
        for name, first in states[0].items()
    }


@torch.no_grad()
def estimate_statistics(network: nn.Module, inputs: Sequence[Tensor] | Tensor, batch_size: int = 64) -> None:
    """Set the running statistics of every BatchNorm of `network` to those of `inputs`, and leave it in eval mode.

    The mean of several networks' statistics is not the statistics of the mean network; where they were trained, they
    are estimated anew, as the mean over batches.

    Args:
        network: changed in place.
        inputs: what it takes, shape (n, ...); at least two rows.
        batch_size: rows a pass.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    for batch in slices(len(inputs), batch_size):
        if batch.stop - batch.start > 1:  # a lone row has no variance
            network(inputs[batch])
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum

"""The mean of several networks' tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raysearch.training.averaging import estimate_statistics, mean_state


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_every_tensor_is_the_mean_and_counters_are_the_first_ones():
    states = [network(seed).state_dict() for seed in range(3)]
    states[0]["1.num_batches_tracked"] = torch.tensor(7)
    mean = mean_state(states)
    assert mean["1.num_batches_tracked"] == 7
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.stack([state[name] for state in states]).mean(dim=0))
            assert tensor.dtype == states[0][name].dtype


def test_the_mean_of_linear_heads_is_the_mean_of_their_logits():
    heads, inputs = [nn.Linear(5, 3) for _ in range(3)], torch.randn(4, 5)
    mean = nn.Linear(5, 3)
    mean.load_state_dict(mean_state([head.state_dict() for head in heads]))
    torch.testing.assert_close(mean(inputs), torch.stack([head(inputs) for head in heads]).mean(dim=0))


@pytest.mark.parametrize("other", [nn.Linear(2, 2).state_dict(), {"weight": torch.zeros(1)}])
def test_tensors_of_different_networks_are_refused(other):
    with pytest.raises(ValueError, match="different networks"):
        mean_state([nn.Linear(3, 2).state_dict(), other])


def test_statistics_are_those_of_the_inputs():
    one, inputs = network(0), torch.randn(64, 3) * 3 + 1
    estimate_statistics(one, inputs, batch_size=64)
    features = one[0](inputs)
    torch.testing.assert_close(one[1].running_mean, features.mean(dim=0))
    torch.testing.assert_close(one[1].running_var, features.var(dim=0))
    assert not one.training
    assert one[1].momentum == 0.1

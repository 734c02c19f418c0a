"""What goes to the device arrives as it was, and CUDA is not waited for; tensors are fake, so no GPU is needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysearch.models.transfer import laid_out, to_device
from tests.copies import copies_to_cuda

CPU = torch.device("cpu")


@pytest.mark.parametrize("places", [np.arange(4), np.arange(4)[::-1], np.arange(8)[::2]])
def test_an_array_arrives_as_it_was_and_torch_has_nothing_to_say(places):
    places.flags.writeable = False
    assert to_device(places, CPU).tolist() == places.tolist()


def test_to_cuda_from_pinned_memory_without_waiting():
    with copies_to_cuda() as copies:
        there = to_device(torch.arange(3), torch.device("cuda"))
    assert there.device.type == "cuda"
    assert copies == ["pinned, not waited for"]


@pytest.mark.parametrize(("device", "contiguous"), [("cpu", False), ("cuda", False), ("mps", True)])
def test_maps_lie_channels_last_but_on_mps(device, contiguous):
    maps = torch.rand(2, 5, 5, 3).movedim(-1, 1)
    found = laid_out(maps, torch.device(device))
    assert torch.equal(found, maps)
    assert found.is_contiguous() == contiguous
    assert found.is_contiguous(memory_format=torch.channels_last) != contiguous

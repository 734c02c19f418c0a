"""How what an image or a step needs goes from this process's memory to the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """An array, or a tensor on the CPU, as a tensor on the device; to CUDA without waiting.

    From memory that is not pinned, CUDA copies only once all that it was given to do before is done, and a training
    step would wait for the last. MPS, not waited for, would read memory that is free again by then (pytorch #83015).
    """
    if isinstance(values, np.ndarray):
        # torch takes no reversed arrays, and warns about those that it may not write to (a memory map's).
        values = torch.from_numpy(np.require(values, requirements=("C", "W")))
    on_cuda = device.type == "cuda"
    if on_cuda and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=on_cuda)


def laid_out(maps: Tensor, device: torch.device) -> Tensor:
    """Feature maps (n, c, h, w) that lie channels_last, as the convolutions of this device want them.

    MPS has them contiguous: of others its backward of BatchNorm fails or is wrong (pytorch #175189, till 2.13), and
    that of average pooling (#175190).
    """
    return maps.contiguous() if device.type == "mps" else maps

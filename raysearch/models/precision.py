"""The precisions that a network runs in, and how it is run in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The type that each computes in, under autocast, where that is safe."""


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to a precision of `PRECISIONS`; for fp32, an autocast that is off."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No TF32: CUDA's convolutions round to it even in fp32, by more than the hand-over gate lets pass."""
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before

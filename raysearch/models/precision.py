"""The precisions that a network runs in, and how it is run in one."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The type that each computes in, under autocast, where that is safe."""


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to a precision of `PRECISIONS`; for fp32, an autocast that is off."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32")

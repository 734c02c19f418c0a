"""Which device and precision to train in, and how to make an evaluation exact and an epoch repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from raysearch.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """The device that `--device` names; auto takes CUDA, else MPS, else the CPU.

    Raises:
        InputError: an unknown name, or a device that this machine does not have.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if name not in there:
        raise InputError(f"device {name!r} is unknown; give one of {', '.join(DEVICES)}")
    if not there[name]:
        raise InputError(f"device {name!r} is not there; this machine has {', '.join(k for k in there if there[k])}")
    return torch.device(name)


def choose_precision(device: torch.device) -> str:
    """What training runs in under autocast: the fastest that the device computes natively.

    CUDA: bf16 from compute capability 8 on, else fp16. CPU: bf16 if the processor multiplies it natively (AMX or
    AVX512-BF16), else fp32. MPS: fp32.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return "bf16"
    return "fp32"


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """As many threads for each operation on the CPU; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(device: torch.device, *entropy: int) -> Iterator[None]:
    """Draws random numbers (dropout) from `entropy`; the process's own random state is put back afterwards."""
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
        yield

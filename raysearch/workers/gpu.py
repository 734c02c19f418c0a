"""A worker's process and the GPU that it trains on."""

from __future__ import annotations

import logging
import os

import ray
import torch

logger = logging.getLogger(__name__)


def keep_to_share_of_gpu() -> None:
    """Let a process to which Ray gave a part of a GPU take no more than this part of its memory.

    PyTorch keeps what it once had, so that a process alone would grow into the whole, and its neighbour's memory would
    run out for no fault of its own.
    """
    if not (torch.cuda.is_available() and ray.is_initialized()):
        return
    share = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
    if 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(share)


def end_if_cuda_is_lost(error: Exception) -> None:
    """End the process if CUDA works no more in it, as after a fault of the GPU or a laptop's sleep.

    Whatever it did next would fail, and at once: it would take task after task, and fail them all. As a lost process it
    counts as the run's `--max-failures` say, and what it had in hand begins again in another one.

    Args:
        error: what was raised.
    """
    if not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        logger.error("CUDA is lost to this process, which ends: %s", error)
        os._exit(1)  # nothing of CUDA can be closed any more

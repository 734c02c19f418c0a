"""What to do when memory runs out: the same work in smaller pieces."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# The allocators of the CPU and of MPS, cuBLAS and cuDNN raise plain RuntimeErrors; only their text tells.
_TEXTS = (
    *("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory", "out of memory"),
    "Invalid buffer size",  # of MPS: one tensor that is larger than a buffer may be
    *("STATUS_ALLOC_FAILED", "ALLOCATION_FAILED"),  # of CUDA's libraries, which need room for themselves
    # torch tries all ways to convolve, and says so where none has room for what it needs (pytorch #108645).
    "unable to find an engine to execute this computation",
)


def slices(n: int, size: int) -> list[slice]:
    """Covers range(n) in the fewest slices of at most `size`, as equal as can be.

    So none is left with a lone image, of which BatchNorm can make no statistics; at size 2 one slice of 3 sees to that.

    >>> slices(10, 4)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    count = math.ceil(n / size)
    if size == 2 and n > 1:
        count = n // 2
    return [slice(i * n // count, (i + 1) * n // count) for i in range(count)]


def within_memory(work: Callable[[int], _Result], size: int, *, at_least: int = 1) -> tuple[_Result, int]:
    """work(size); each time memory runs out, again from the beginning with half the size.

    Args:
        work: does everything in pieces of so many images; may be broken off and begun again.
        size: to try first.
        at_least: at this size an error is final.

    Returns: the result, and the size that was small enough.
    """
    while True:
        try:
            return work(size), size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or size <= at_least:
                raise
            halved = max(at_least, math.ceil(size / 2))
            logger.warning("out of memory: going from %d to %d images at a time (%s)", size, halved, error)
            size = halved
        # Outside of the except clause, where the error no longer holds on to the tensors that were too many.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory, of whatever device, ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in _TEXTS)

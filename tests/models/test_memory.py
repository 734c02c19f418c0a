"""Running out of memory: pieces cover everything, and only that error makes them smaller."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysearch.models.memory import is_out_of_memory, slices, within_memory


@given(st.integers(0, 300), st.integers(1, 70))
def test_slices_cover_everything_once_and_leave_no_image_alone(n, size):
    parts = slices(n, size)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
    lengths = [part.stop - part.start for part in parts]
    assert all(length <= (3 if size == 2 else size) for length in lengths)
    if size > 1 and n > 1:
        assert min(lengths) > 1
        assert max(lengths) - min(lengths) <= 1


@given(st.integers(1, 100), st.integers(1, 100))
def test_halves_until_it_fits(size, fits):
    def work(images: int) -> int:
        if images > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images

    done, used = within_memory(work, size)
    assert done == used <= fits
    assert used == size or 2 * used + 1 > fits


def test_says_so(caplog):
    def work(images: int) -> None:
        if images > 4:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    with caplog.at_level(logging.WARNING):
        within_memory(work, 8)
    assert "from 8 to 4 images" in caplog.text


def test_the_cpus_own_allocator_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "GET was unable to find an engine to execute this computation",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "MPS backend out of memory (MPS allocated: 8.85 GB)",
        "Invalid buffer size: 15.00 GB",
    ],
)
def test_so_are_cudas_libraries_and_mps(text):
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("shapes do not match")])
def test_at_the_smallest_size_or_of_another_kind_it_is_final(error):
    def work(images: int) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        within_memory(work, 2, at_least=2)
    assert caught.value is error

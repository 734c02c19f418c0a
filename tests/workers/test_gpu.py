"""What a worker's process does about its GPU. CUDA's own part is made up: what is ours is what follows from it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from raysearch.workers.gpu import end_if_cuda_is_lost, keep_to_share_of_gpu


@pytest.mark.parametrize(("share", "bound"), [(0.5, [0.5]), (1.0, []), (0.0, [])])
def test_a_part_of_a_gpu_is_a_part_of_its_memory(monkeypatch, share, bound):
    given, taken = {"CPU": 1.0} | ({"GPU": share} if share else {}), list[float]()
    monkeypatch.setattr(
        "ray.get_runtime_context", lambda: type("Context", (), {"get_assigned_resources": lambda _: given})()
    )
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", taken.append)
    keep_to_share_of_gpu()
    assert taken == bound


def test_a_process_without_cuda_or_with_one_that_works_goes_on(monkeypatch):
    end_if_cuda_is_lost(RuntimeError("a shape does not match"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    end_if_cuda_is_lost(RuntimeError("a shape does not match"))


def test_a_process_that_lost_cuda_ends():
    code = """
import torch
from raysearch.workers.gpu import end_if_cuda_is_lost
def lost(): raise RuntimeError("CUDA error: unspecified launch failure")
torch.cuda.is_initialized, torch.cuda.synchronize = (lambda: True), lost
end_if_cuda_is_lost(RuntimeError("device-side assert"))
print("goes on")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "CUDA is lost to this process, which ends: device-side assert" in ended.stderr

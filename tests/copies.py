"""How tensors are copied to CUDA, on machines without it: they are fake, and have all but their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary


class _Copies(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.pinned, self.seen = WeakTensorKeyDictionary(), []

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        copied = tensor.clone()
        self.pinned[copied] = True
        return copied

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        device, source = (kwargs or {}).get("device"), args[0] if args else None
        if func is torch.ops.aten._to_copy.default and device.type == "cuda" and source.device.type == "cpu":
            memory = "pinned" if source in self.pinned else "pageable"
            self.seen.append(f"{memory}, {'not ' if kwargs.get('non_blocking') else ''}waited for")
        return func(*args, **(kwargs or {}))


@contextmanager
def copies_to_cuda() -> Iterator[list[str]]:
    """Of what is done meanwhile to fake tensors: how each came from the CPU to CUDA."""
    copies = _Copies()
    with FakeTensorMode(), pytest.MonkeyPatch.context() as patch, copies:
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: copies.pin(tensor))
        yield copies.seen

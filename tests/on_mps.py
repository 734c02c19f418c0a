"""Tensors as they are on MPS, on machines without it: there is no float64 until they are on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class OnMps(torch.Tensor):
    """Raises what MPS raises."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        if isinstance(result, OnMps) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return result


class ToMps(nn.Module):
    """Puts what a network makes there."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.as_subclass(OnMps)

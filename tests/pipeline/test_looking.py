"""Looks at models where trials run: they do not collect on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raysearch.pipeline.looking import Look, Where, look
from tests.training.bench import decoded


class Moved(nn.Module):
    """Answers by the mean of each channel, and tells where it was put."""

    def __init__(self, places: list[str]) -> None:
        super().__init__()
        self.places = places

    def to(self, device: Any) -> Moved:
        self.places.append(str(device))
        return super().to(device)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.mean(dim=(2, 3))


def test_each_model_leaves_the_device_before_the_next_comes(tmp_path):
    """The device is called cpu:0 here, so that it is told from where models wait."""
    places: list[str] = []
    models = {"one": Look(Moved(places), "val"), "other": Look(Moved(places), "val")}
    found = look(Where(str(decoded(tmp_path).place), None, 0, "cpu:0"), models)
    assert list(found) == ["one", "other"]
    assert places == ["cpu:0", "cpu", "cpu:0", "cpu"]

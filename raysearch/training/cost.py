"""What a prediction of a network costs: measured, on noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raysearch.activations.measure import seconds_of
from raysearch.models.boundary import pin, prepare
from raysearch.models.precision import full_precision

BATCH = 32
"""Images at once, where they are not alone."""


@dataclass(frozen=True)
class Cost:
    """What a prediction costs on the device that it was measured on, in fp32.

    Attributes:
        milliseconds: of one image alone.
        milliseconds_in_batch: an image, of `BATCH` at once.
        parameters: of the blocks.
        megabytes: of all their tensors in a file.
    """

    milliseconds: float
    milliseconds_in_batch: float
    parameters: int
    megabytes: float


def cost_of(network: nn.Sequential, image_size: int, device: torch.device) -> Cost:
    """Measure a prediction: from bytes to features, which is all of it but for a head.

    Args:
        network: pinned here, and moved to the device.
        image_size: height and width, pixels.
        device: where it runs, on as many threads as this process has now.
    """
    pin(network).to(device)
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, image_size, image_size, 3), np.uint8)

    def seconds(images: NDArray[np.uint8]) -> float:
        return seconds_of(lambda: network(prepare(images, device)), device)

    with torch.inference_mode(), full_precision(device):
        alone, together = seconds(noise[:1]), seconds(noise) / BATCH
    return Cost(
        1000 * alone,
        1000 * together,
        sum(tensor.numel() for tensor in network.parameters()),
        sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()) / 1e6,
    )

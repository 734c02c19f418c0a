"""What a network has learned: its first filters, images that excite its channels most, and what it must see to answer.

- The filters of the first convolution, as they lie over the pixels (Zeiler and Fergus 2014).
- Activation maxima: an image is changed, step by step, so that one channel of a block answers more (Erhan et al. 2009;
  kept smooth by a penalty and by small shifts, as Olah et al. 2017 do).
- Occlusion maps: how much of a class's log-odds is lost when a grey square hides a place (Zeiler and Fergus 2014; of a
  probability near 1 nothing is seen to be lost). Unlike Grad-CAM they need answers alone, and no gradient.

All of it is bounded: a few images, channels and steps. Nothing is left in the network.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from raysearch.models.boundary import NOT_BLOCKS, prepare
from raysearch.models.head import Pool
from raysearch.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from raysearch.models.precision import full_precision
from raysearch.models.spec import Tokens
from raysearch.training.numerics import seeded

CHANNELS = 4
"""Of a block, whose maxima are sought: those that differ most from image to image."""
GRID = 7
"""Cells along each side of an image, around each of which a square is hidden in turn, two cells wide."""
MOST_FILTERS = 64
_BLOCKS = 5
_STEPS, _FEWEST = 32, 12
_RATE, _ROUGHNESS = 0.08, 0.5
_GREY = 124
"""About ImageNet's mean, which a network sees as nothing."""


def first_filters(classifier: nn.Sequential) -> NDArray[np.uint8] | None:
    """The filters of the first convolution, uint8 (n, side, side, 3), grey where a weight is 0; at most `MOST_FILTERS`.

    Those with the largest weights come first, all on one scale each. None where nothing convolves the pixels.
    """
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1:
            weights = module.weight.detach().float().cpu().permute(0, 2, 3, 1)
            largest = weights.abs().amax(dim=(1, 2, 3))
            chosen = largest.argsort(descending=True, stable=True)[:MOST_FILTERS]
            scaled = weights[chosen] / largest[chosen].clamp(min=1e-12)[:, None, None, None]
            return ((0.5 + scaled / 2) * 255).round().to(torch.uint8).numpy()
    return None


def activation_maxima(
    classifier: nn.Sequential,
    images: NDArray[np.uint8],
    *,
    side: int,
    device: torch.device | str = "cpu",
    seconds: float = 12.0,
) -> dict[str, NDArray[np.uint8]]:
    """Images that excite channels of the blocks, by block: uint8 (`CHANNELS`, side, side, 3), at most five blocks.

    Args:
        classifier: in eval mode; it is moved to the device.
        images: uint8 (n, h, w, 3), some; by them the channels are chosen.
        side: pixels, height and width of what is made; a size that the network takes.
        device: where to compute.
        seconds: about how long all of it may take: there are fewer steps of a large network, though never fewer than a
            dozen.
    """
    device = torch.device(device)
    classifier.to(device)
    pool = classifier.get_submodule("pool")
    tokens = pool.tokens if isinstance(pool, Pool) else None
    names = [name for name, _ in classifier.named_children() if name not in NOT_BLOCKS]
    chosen = [
        names[place]
        for place in np.unique(np.linspace(0, len(names) - 1, min(_BLOCKS, len(names))).round().astype(int))
    ]
    found: dict[str, NDArray[np.uint8]] = {}
    wanted = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        for number, name in enumerate(chosen):
            to_here = nn.Sequential(*(classifier.get_submodule(one) for one in names[: names.index(name) + 1]))
            with full_precision(device), torch.no_grad():
                answers = _answers(to_here(prepare(images, device)), tokens)
            channels = answers.std(dim=0).argsort(descending=True, stable=True)[:CHANNELS]
            with full_precision(device), seeded(device, number):
                found[name] = _excited(to_here, channels, tokens, side, seconds / len(chosen))
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
    return found


def occlusion(
    classifier: nn.Sequential,
    images: NDArray[np.uint8],
    classes: NDArray[np.integer],
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Where in each image something lies without which a class is less likely.

    Args:
        classifier: in eval mode; it is moved to the device.
        images: uint8, shape (n, h, w, 3), of the recipe's size.
        classes: shape (n,); the class that each image is asked about.
        device: where to compute.

    Returns:
        float32, shape (n, h, w), each in [0, 1] with its largest value 1; all 0 where no square costs anything.
    """
    device = torch.device(device)
    classifier.to(device)
    maps = np.zeros(images.shape[:3], np.float32)
    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        hidden = np.repeat(image[None], GRID * GRID + 1, axis=0)
        cell = len(image) / GRID
        starts, ends = ([round(max(0.0, min(GRID, at + shift)) * cell) for at in range(GRID)] for shift in (-0.5, 1.5))
        for place in range(GRID * GRID):
            rows, columns = (slice(starts[at], ends[at]) for at in divmod(place, GRID))
            hidden[place, rows, columns] = _GREY
        with full_precision(device), torch.inference_mode():
            odds = _log_odds(classifier(prepare(hidden, device)).cpu().double(), int(label))
        lost = (odds[-1] - odds[:-1]).clamp(min=0).float().view(1, 1, GRID, GRID)
        heat = functional.interpolate(lost, images.shape[1:3], mode="bilinear", align_corners=False)[0, 0]
        maps[number] = (heat / heat.max().clamp(min=1e-12)).numpy()
    return maps


def _log_odds(logits: torch.Tensor, label: int) -> torch.Tensor:
    """Of a class against all others, (n,)."""
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(dim=1)


def _answers(activations: torch.Tensor, tokens: Tokens | None) -> torch.Tensor:
    """The mean of each channel over the places, (n, channels)."""
    if activations.ndim == 3:
        return activations[:, 0 if tokens is None else tokens.before :].mean(dim=1)
    return activations.mean(dim=(2, 3))


def _excited(
    to_here: nn.Sequential, channels: torch.Tensor, tokens: Tokens | None, side: int, seconds: float
) -> NDArray[np.uint8]:
    """An image for each channel, uint8 (n, side, side, 3)."""
    device = channels.device
    mean, std = (torch.tensor(one, device=device).view(3, 1, 1) for one in (IMAGENET_MEAN, IMAGENET_STD))
    drawn = (0.3 * torch.randn(len(channels), 3, side, side)).to(device).requires_grad_()
    optimizer = torch.optim.Adam([drawn], lr=_RATE)
    ends = time.monotonic() + seconds
    shifts = torch.randint(-max(1, side // 16), max(1, side // 16) + 1, (_STEPS, 2)).tolist()
    for step, shift in enumerate(shifts):
        if step >= _FEWEST and time.monotonic() > ends:
            break
        image = torch.sigmoid(drawn)
        rough = (image.diff(dim=2).square().mean(dim=(1, 2, 3)) + image.diff(dim=3).square().mean(dim=(1, 2, 3))).sum()
        after = to_here((image.roll(shift, dims=(2, 3)) - mean) / std)
        asked = _answers(after, tokens).gather(1, channels[:, None])
        # Each channel on its own scale, so that one penalty serves all.
        loss = -(asked / asked.detach().abs().clamp(min=1e-3)).sum() + _ROUGHNESS * side * rough
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pixels = torch.sigmoid(drawn.detach()).permute(0, 2, 3, 1)
    return (pixels * 255).round().to(torch.uint8).cpu().numpy()

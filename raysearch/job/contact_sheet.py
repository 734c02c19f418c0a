"""The first training batch of a search as a picture, asked of those who draw it for the training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Dataset, Split
from raysearch.models.boundary import IMAGENET_MEAN, IMAGENET_STD, prepare
from raysearch.recipe import Recipe
from raysearch.training.order import epoch_order, quick_look, view_offset

_SHEET_IMAGES = 64
_TILE_PIXELS = 112


def contact_sheet(dataset: Dataset, recipe: Recipe, max_batches: int | None = None) -> Image.Image:
    """The first batch of the last stage, augmented, prepared as for the network, and turned back into pixels.

    Args:
        dataset: of the search.
        recipe: whose batch it is.
        max_batches: of an epoch, for a quick look; None: all.
    """
    stage = recipe.schedule[-1]
    train = quick_look(dataset.train, max_batches, stage.batch_size)
    indices, view = first_batch(recipe, train)
    indices = indices[:_SHEET_IMAGES]
    augment = Augmenter(recipe.augmentation, stage.strength, recipe.seed)
    seen = augment(np.asarray(train.pixels[indices]), indices, view)
    # Through `prepare` and back, so that a wrong normalisation or channel order would be seen here.
    tensor = prepare(seen, torch.device("cpu")).permute(0, 2, 3, 1)
    pixels = (tensor * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)).mul(255).round().clamp(0, 255)
    return _grid(pixels.to(torch.uint8).numpy(), [dataset.classes[label] for label in train.labels[indices]])


def first_batch(recipe: Recipe, train: Split) -> tuple[np.ndarray, int]:
    """Which training images the last stage's first step takes, as indices, and in which view."""
    last = len(recipe.schedule) - 1
    offset = view_offset(recipe, last)
    order = epoch_order(recipe.schedule[last], train.labels, recipe.seed, epoch=1, view_offset=offset)
    return order.images[order.batches[0]], order.view


def _grid(pixels: np.ndarray, names: Sequence[str]) -> Image.Image:
    """uint8 images (n, h, w, 3) in rows, each with its name below; small ones enlarged by whole pixels."""
    n, height, width, _ = pixels.shape
    factor = max(1, _TILE_PIXELS // max(height, width))
    tile_height, tile_width = height * factor, width * factor
    columns = math.ceil(math.sqrt(n))
    gap, text = 6, 18
    sheet = Image.new(
        "RGB",
        (columns * (tile_width + gap) + gap, math.ceil(n / columns) * (tile_height + text + gap) + gap),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", 12)
    for i, (image, name) in enumerate(zip(pixels, names, strict=True)):
        x, y = gap + i % columns * (tile_width + gap), gap + i // columns * (tile_height + text + gap)
        sheet.paste(Image.fromarray(image).resize((tile_width, tile_height), Image.Resampling.NEAREST), (x, y))
        while len(name) > 1 and draw.textlength(name, font) > tile_width:
            name = name.rstrip("…")[:-1] + "…" if len(name) > 2 else name[:1]
        draw.text((x, y + tile_height + 2), name, fill="black", font=font)
    return sheet

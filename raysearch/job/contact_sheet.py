"""The first training batch of a search as a picture, asked of those who draw it for the training loop."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Dataset, Split
from raysearch.data.sheet import sheet
from raysearch.models.boundary import prepare
from raysearch.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from raysearch.recipe import Recipe
from raysearch.training.order import epoch_order, quick_look, view_offset

_SHEET_IMAGES = 64


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
    return sheet(pixels.to(torch.uint8).numpy(), [dataset.classes[label] for label in train.labels[indices]])


def first_batch(recipe: Recipe, train: Split) -> tuple[np.ndarray, int]:
    """Which training images the last stage's first step takes, as indices, and in which view."""
    last = len(recipe.schedule) - 1
    offset = view_offset(recipe, last)
    order = epoch_order(recipe.schedule[last], train.labels, recipe.seed, epoch=1, view_offset=offset)
    return order.images[order.batches[0]], order.view

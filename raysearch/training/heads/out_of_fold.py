"""What heads say of images that they were not trained on: every image is held out once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.activations.kept import TensorActivations
from raysearch.data.split import parts
from raysearch.models.head import make_head
from raysearch.recipe import Head, Recipe, Stage
from raysearch.record.goal import Goal
from raysearch.training.heads.pack import HeadPack
from raysearch.training.images import Images, Labelled

FOLDS = 5
EPOCHS = 15
_LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
_L2, _DROPOUT = 3e-2, 0.5
"""Heads that are held back follow wrong labels less: of 5 % planted ones in `cifar10-mini`, 2 in 100 more are found."""
_STEPS = 60
"""Of an epoch, about: small data trains in small batches, large data in large ones."""


def out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    *,
    copies: NDArray[np.int64] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda epochs: None,
) -> NDArray[np.float64]:
    """The probability of every class for every image, by linear heads that were trained without it.

    In each fold a pack of heads trains that differ in their learning rate, and the rate is taken whose heads have the
    lowest mean loss on what they did not see. A class with a single image is never known where that one is held out.

    Args:
        features: shape (n, width).
        labels: shape (n,).
        classes: how many.
        copies: a number that images have in common which show the same, shape (n,): they are held out together.
        folds: at least 2.
        seed: of the folds, the first weights and the order of the images.
        progress: told of each epoch that is done, of `folds * EPOCHS`.

    Returns:
        shape (n, classes); rows sum to 1.
    """
    # Features of one scale, so that one range of learning rates serves every backbone.
    scaled = (features - features.mean(0)) / (features.std() + 1e-12)
    home = parts(labels, folds, seed, copies)
    held_out = [(fold, np.flatnonzero(home == fold)) for fold in range(folds)]
    logits = torch.empty(len(_LEARNING_RATES), len(labels), classes)
    names = tuple(map(str, range(classes)))
    for fold, places in held_out:
        rest = np.flatnonzero(home != fold)
        if not len(places) or not len(rest):
            logits[:, places] = 0.0
            continue
        train, val = (
            Labelled(TensorActivations(torch.from_numpy(scaled[chosen])), labels[chosen]) for chosen in (rest, places)
        )
        recipes = [_recipe(rate, len(rest), seed) for rate in _LEARNING_RATES]
        pack = HeadPack(recipes, Images(names, train, val), goal=Goal("loss"), device=torch.device("cpu"))
        while not pack.finished:
            pack.run_epoch()
            progress(1)
        for number, recipe in enumerate(recipes):
            logits[number, places] = _logits(pack, number, recipe, scaled[places], classes)
    finite = torch.nan_to_num(logits.double(), nan=0.0).log_softmax(-1)
    losses = -finite[:, torch.arange(len(labels)), torch.from_numpy(labels)].mean(1)
    found: NDArray[np.float64] = finite[int(losses.argmin())].exp().numpy()
    return found


def doubts(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """How sure it is that each label is wrong: what its own probability leaves to 1, in [0, 1], shape (n,).

    Args:
        labels: shape (n,).
        probabilities: out of fold, shape (n, classes).
    """
    own: NDArray[np.float64] = probabilities[np.arange(len(labels)), labels]
    return 1 - own


def _recipe(rate: float, images: int, seed: int) -> Recipe:
    batch = 2 ** max(4, min(9, round(math.log2(images / _STEPS)))) if images > _STEPS else 16
    stage = Stage(depth=0, epochs=EPOCHS, learning_rate=rate, l2=_L2, dropout=_DROPOUT, keep="last", batch_size=batch)
    # A pack is given features: what the recipe says of images is read by nobody.
    return Recipe(backbone="features", image_size=8, schedule=(stage,), seed=seed)


def _logits(pack: HeadPack, number: int, recipe: Recipe, features: NDArray[np.float32], classes: int) -> torch.Tensor:
    """The answers of one head, shape (n, classes); zeros if it diverged."""
    if number in pack.failed:
        return torch.zeros(len(features), classes)
    head = make_head(features.shape[1], Head(), classes, recipe.seed).eval()
    head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in pack.best_state(number).items()})
    with torch.inference_mode():
        return head(torch.from_numpy(features))

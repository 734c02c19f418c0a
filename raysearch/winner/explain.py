"""Why a classifier said what it said: Grad-CAM (Selvaraju et al. 2017), and pictures of it.

A map says which places of the last feature map spoke for a class. No hooks are used and nothing is left in the model:
the network is run to that map, and from there on again with the map as the only thing that gradients are asked for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from raysearch.errors import InputError
from raysearch.models.boundary import NOT_BLOCKS, prepare
from raysearch.models.head import Pool
from raysearch.models.precision import full_precision
from raysearch.models.spec import Tokens
from raysearch.storage.files import replace_with
from raysearch.winner.answers import ImageLike
from raysearch.winner.best import Best

MIN_SIDE = 4
"""Pixels. A map of fewer says next to nothing about places."""

_STRENGTH = 0.75  # how much of the picture the strongest colour covers
_PLACES = 3  # of a network of tokens: behind its last norm, its last layer and the one before
_SHOWN_SIDE = 224  # pixels, about: small images are enlarged to it


def grad_cam(
    classifier: nn.Sequential,
    images: NDArray[np.uint8],
    classes: NDArray[np.integer],
    device: torch.device | str = "cpu",
    *,
    batch_size: int = 32,
) -> NDArray[np.float32]:
    """Where in each image the evidence for a class lies.

    The map is the output of the last block, or, where small images leave fewer than `MIN_SIDE` pixels there, that of
    the last layer within the blocks that has so many: DenseNet-121 leaves one pixel of an image of 32. The tokens of a
    network that has them are taken as the map of the places that they stand for; where it answers by its class token,
    those that the last layer reads.

    Args:
        classifier: as `build_classifier` makes it, in eval mode; it is moved to the device.
        images: uint8, shape (n, h, w, 3), of the recipe's size.
        classes: shape (n,); the class that each image is asked about, an index into the logits.
        device: where to compute.
        batch_size: images at a time.

    Returns:
        float32, shape (n, h, w), each in [0, 1] with its largest value 1; all 0 where nothing speaks for the class.

    Raises:
        ValueError: the classifier is in training mode, or images and classes differ in number.
    """
    if any(module.training for module in classifier.modules()):
        raise ValueError("Grad-CAM needs a classifier in eval mode; call eval() first")
    if len(images) != len(classes):
        raise ValueError(f"one class per image is needed, got {len(images)} images and {len(classes)} classes")
    device = torch.device(device)
    classifier.to(device)
    maps = np.zeros(images.shape[:3], np.float32)
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        with full_precision(device):
            maps[batch] = _maps(classifier, prepare(images[batch], device), torch.as_tensor(classes[batch])).numpy()
    return maps


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """An image with its map over it, the warmer the more a place speaks for the class.

    Args:
        image: uint8, shape (h, w, 3).
        heat: in [0, 1], shape (h, w).
        side: height and width of the result, pixels.

    Returns: uint8, shape (side, side, 3).
    """
    base = resized(image, side).astype(np.float32)
    smooth = np.asarray(Image.fromarray(heat).resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
    colours = mpl.colormaps["inferno"](smooth)[..., :3] * 255
    share = _STRENGTH * smooth[..., None]
    return np.rint(base * (1 - share) + colours * share).astype(np.uint8)


def resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """An image as `side` pixels high and wide: small ones by whole pixels, so that they look as they are."""
    how = Image.Resampling.NEAREST if side > len(image) else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((side, side), how))


class Explainer:
    """Writes a PNG for each prediction: the image as the network sees it, and beside it the map of the class.

    Explanations of an earlier time are replaced. No image is: in a folder that images come from, nothing is.

    Args:
        best: the classifier.
        folder: where to write; it is made.
        device: where the classifier runs.
        images: all that will be explained.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(
        self, best: Best, folder: Path, device: torch.device | str = "cpu", images: Sequence[ImageLike] = ()
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--explain {folder}: the folder cannot be made: {error.strerror}") from error
        self._best, self._folder, self._device = best, folder, torch.device(device)
        self._model = best.network()
        self._written: set[str] = set()
        named = [Path(image) for image in images if isinstance(image, str | Path)]
        self._images = {image.resolve() for image in named}
        places = {parent.resolve() for parent in {path.parent for path in (*named, *self._images)}}
        self._among_images = folder.resolve() in places

    def __call__(self, image: ImageLike, label: str) -> Path:
        """Explain why `image`, which can be read, was given `label`.

        Returns: the PNG, named after the image; where the name is taken, it is numbered.
        """
        pixels = self._best.pixels(image)
        heat = grad_cam(self._model, pixels[None], np.array([self._best.labels.index(label)]), self._device)[0]
        side = len(pixels) * max(1, round(_SHOWN_SIDE / len(pixels)))
        pair = Image.fromarray(np.concatenate([resized(pixels, side), overlay(pixels, heat, side)], axis=1))
        path = self._folder / f"{self._name(image)}.png"
        replace_with(path, lambda temporary: pair.save(temporary))
        return path

    def _name(self, image: ImageLike) -> str:
        stem = Path(image).stem if isinstance(image, str | Path) else "image"
        name, number = stem, 1
        while name in self._written or self._is_kept(self._folder / f"{name}.png"):
            number += 1
            name = f"{stem}-{number}"
        self._written.add(name)
        return name

    def _is_kept(self, path: Path) -> bool:
        """Whether what lies there must not be replaced."""
        return path.exists() and (self._among_images or path.resolve() in self._images)


def _maps(classifier: nn.Sequential, inputs: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """float32 (n, h, w) on the CPU, of prepared images (n, 3, h, w)."""
    pool = classifier.get_submodule("pool")
    tokens = pool.tokens if isinstance(pool, Pool) else None
    layers = _layers(classifier)
    # The latest places at which evidence may be sought, by the number of layers that are done there. Of tokens there
    # are several: behind the last layer that mixes them, only the class token has a say, and no place has a gradient.
    found = deque([(0, inputs)], maxlen=1 if tokens is None else _PLACES)
    with torch.no_grad():
        after = inputs
        for number, layer in enumerate(layers, start=1):
            after = layer(after)
            if not isinstance(after, torch.Tensor):  # within a block, a network may hand on several
                continue
            if min(_as_maps(after, tokens).shape[-2:]) >= (MIN_SIDE if after.ndim == 4 else 1):
                found.append((number, after.clone()))  # a copy: the next layer may write into its input
    for done, activations in reversed(found):
        rest = nn.Sequential(*layers[done:], *(classifier.get_submodule(name) for name in NOT_BLOCKS))
        maps, gradients = _gradients(rest, activations, classes, tokens)
        if gradients.any():
            break
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    heat = functional.relu((weights * maps).sum(dim=1, keepdim=True))
    heat = functional.interpolate(heat, inputs.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return (heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)).cpu()


def _layers(classifier: nn.Sequential) -> list[nn.Module]:
    """The layers of all blocks, one after the other; a block that does more than run its children is one layer."""
    blocks = [block for name, block in classifier.named_children() if name not in NOT_BLOCKS]
    return [layer for block in blocks for layer in (block.children() if type(block) is nn.Sequential else [block])]


def _gradients(
    rest: nn.Module, activations: torch.Tensor, classes: torch.Tensor, tokens: Tokens | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The activations as maps (n, c, h, w), and the gradients of the classes' logits by them."""
    asked = activations.requires_grad_()
    with torch.enable_grad():
        chosen = rest(asked.clone()).gather(1, classes.long().to(asked.device)[:, None])
        (gradients,) = torch.autograd.grad(chosen.sum(), asked)
    return _as_maps(activations.detach(), tokens), _as_maps(gradients, tokens)


def _as_maps(activations: torch.Tensor, tokens: Tokens | None) -> torch.Tensor:
    """Maps as they are, and tokens (n, tokens, channels) of the places of a square image as a map (n, c, h, w)."""
    if activations.ndim != 3:
        return activations
    places = activations[:, 0 if tokens is None else tokens.before :].transpose(1, 2)
    return places.unflatten(2, (math.isqrt(places.shape[2]), -1))

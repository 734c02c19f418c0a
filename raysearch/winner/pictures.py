"""The pictures that a search leaves: augmented images, the surest mistakes with why, classes, what was learned.

They need the images and the model, which the report page does not: so they are made once, at the end of a search, and
the page shows what lies in the run folder. The mistakes are on validation images, not on test images: who looks at
mistakes will act on them, by new labels, other images, another space, and the test figure would be no longer unseen.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.augment import Augmenter
from raysearch.data.dataset import Dataset, Split
from raysearch.data.selection import evenly_spaced
from raysearch.models.registry import backbone_spec
from raysearch.recipe import Augmentation
from raysearch.record.decision import decided
from raysearch.reporting.gallery import FOLDER, INDEX, Augmented, Examples, File, Index, Learned, Mistake
from raysearch.space.space import Space
from raysearch.storage.files import replace_json, replace_with
from raysearch.winner.best import Best, load_best
from raysearch.winner.explain import grad_cam, overlay, resized
from raysearch.winner.learned import activation_maxima, first_filters, occlusion

MISTAKES = 12
_STRIP_IMAGES = 8
_CLASSES = 20
_STRENGTHS = 6
_SIDE = 96  # pixels of an image in a strip
_LARGE_SIDE = 160  # pixels of a mistake
_WEBP_QUALITY = 80
_LOOKED_AT = 48  # training images by which channels are chosen
_OCCLUDED = 3  # images with an occlusion map
_MAXIMUM_SIDE = 64  # pixels of an image that excites a channel
_FILTER_SIDE = 28  # pixels, about
_A_ROW = 16  # filters

logger = logging.getLogger(__name__)


def write_pictures(
    run: Path, dataset: Dataset, strengths: Sequence[float], *, seed: int, device: torch.device, trained_on_val: bool
) -> None:
    """Write `pictures/` of a run that has its `best/` and `predictions.parquet`.

    Args:
        run: the run folder.
        dataset: the images of the search, all of them.
        strengths: of the augmentation, to show.
        seed: of the augmentation.
        device: where the classifier runs.
        trained_on_val: whether the winner was trained on the validation images too.
    """
    folder = run / FOLDER
    best = load_best(run)
    predictions = pd.read_parquet(run / "predictions.parquet", columns=["split", "winner"])
    probabilities = np.stack(list(predictions["winner"][predictions["split"] == "val"]))
    answers = decided(probabilities, best.confidence.threshold)
    wrong = surest_mistakes(probabilities, dataset.val.labels, answers)
    learned = _learned(folder, best, dataset, wrong, answers, device)
    index: Index = {
        "augmented": _augmented(folder, best.recipe.augmentation, dataset, strengths, seed),
        "mistakes": _mistakes(folder, best, dataset.val, probabilities, answers, wrong[:MISTAKES], device),
        "mistaken": len(wrong),
        "of": len(dataset.val),
        "trained_on": trained_on_val,
        "classes": _examples(folder, dataset),
        "learned": learned,
    }
    replace_json(folder / INDEX, index)
    kinds = (index["augmented"], index["mistakes"], index["classes"], learned)
    named = {one["file"] for kind in kinds for one in kind}
    for path in folder.glob("*.webp"):
        if path.name not in named:  # an earlier end of the same search left it
            path.unlink()


def surest_mistakes(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], answers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The images that are taken for another class, those with the largest loss first.

    Args:
        probabilities: shape (n, classes).
        labels: shape (n,).
        answers: the class that each is taken for, shape (n,); of two classes the threshold may say another than the
            likeliest.
    """
    loss = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny))
    order = np.argsort(-loss, kind="stable")
    return order[answers[order] != labels[order]]


def shown_strengths(space: Space) -> list[float]:
    """The strengths of augmentation that a space may choose, and 0; at most six, evenly taken; quarters if any."""
    found = {0.0}
    for level in range(len(space.tree["schedule"])):
        values = space.every_value(f"schedule.{level}.strength")
        found |= {float(value) for value in values} if values else {0.25, 0.5, 0.75, 1.0}
    ordered = sorted(found)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(_STRENGTHS, len(ordered))).round().astype(int))
    return [ordered[place] for place in places]


def _augmented(
    folder: Path, ranges: Augmentation, dataset: Dataset, strengths: Sequence[float], seed: int
) -> list[Augmented]:
    """Write a strip a strength: the same images, the same draws."""
    indices = evenly_spaced(len(dataset.train), _STRIP_IMAGES)
    images = np.asarray(dataset.train.pixels[indices])
    return [
        {
            **_save(folder, f"augmented-{number}", _strip(Augmenter(ranges, strength, seed)(images, indices, 1))),
            "strength": strength,
        }
        for number, strength in enumerate(strengths)
    ]


def _mistakes(
    folder: Path,
    best: Best,
    split: Split,
    probabilities: NDArray[np.floating],
    answers: NDArray[np.int64],
    which: NDArray[np.int64],
    device: torch.device,
) -> list[Mistake]:
    """Write each of these images, beside the map of the class that it was taken for."""
    if not len(which):
        return []
    images, taken = np.asarray(split.pixels[which]), answers[which]
    maps = grad_cam(best.network(), images, taken, device)
    found: list[Mistake] = []
    for number, (place, image, heat, label) in enumerate(zip(which, images, maps, taken, strict=True)):
        side = _side(len(image), _LARGE_SIDE)
        pair = np.concatenate([resized(image, side), overlay(image, heat, side)], axis=1)
        found.append(
            {
                **_save(folder, f"mistake-{number:02d}", pair),
                "path": split.paths[place],
                "true": best.labels[split.labels[place]],
                "predicted": best.labels[label],
                "probability": float(probabilities[place, label]),
            }
        )
    return found


def _examples(folder: Path, dataset: Dataset) -> list[Examples]:
    """Write a strip of training images a class."""
    found: list[Examples] = []
    for label, name in list(enumerate(dataset.classes))[:_CLASSES]:
        places = np.flatnonzero(dataset.train.labels == label)
        chosen = places[evenly_spaced(len(places), _STRIP_IMAGES)]
        strip = _strip(np.asarray(dataset.train.pixels[chosen]))
        found.append({**_save(folder, f"class-{label:02d}", strip), "class": name, "images": len(places)})
    return found


def _learned(
    folder: Path,
    best: Best,
    dataset: Dataset,
    wrong: NDArray[np.int64],
    answers: NDArray[np.int64],
    device: torch.device,
) -> list[Learned]:
    """Write the first filters, maxima a block, and the first mistakes with what must be seen; without, some others.

    A network that some of it cannot be drawn of, such as one of another library, is no reason to leave out the rest.
    """
    model, split, found = best.network(), dataset.val, list[Learned]()
    spread = evenly_spaced(len(dataset.train), _LOOKED_AT)
    which = np.concatenate([wrong, np.setdiff1d(np.arange(len(split)), wrong)])[:_OCCLUDED]
    try:
        if (filters := first_filters(model)) is not None:
            sheet = _sheet(filters, max(1, _FILTER_SIDE // filters.shape[1]))
            found.append({**_save(folder, "learned-filters", sheet), "what": f"the {len(filters)} first filters"})
        maxima = activation_maxima(
            model, np.asarray(dataset.train.pixels[spread]), side=_maxima_side(best), device=device
        )
        for number, (block, images) in enumerate(maxima.items()):
            what = f"what excites {len(images)} channels of {block}"
            found.append({**_save(folder, f"learned-maxima-{number}", _strip(images)), "what": what})
        if len(which):
            images, taken = np.asarray(split.pixels[which]), answers[which]
            rows = zip(
                images, grad_cam(model, images, taken, device), occlusion(model, images, taken, device), strict=True
            )
            for number, (image, cam, hidden) in enumerate(rows):
                side, label = _side(len(image), _LARGE_SIDE), best.labels[taken[number]]
                three = [resized(image, side), overlay(image, cam, side), overlay(image, hidden, side)]
                what = f"taken for {label}: the image, Grad-CAM, occlusion"
                found.append(
                    {**_save(folder, f"learned-occlusion-{number}", np.concatenate(three, axis=1)), "what": what}
                )
    except (RuntimeError, ValueError, AssertionError) as error:
        logger.warning("not all pictures of what was learned were made (%s: %s)", type(error).__name__, error)
    return found


def _maxima_side(best: Best) -> int:
    """Pixels of an image that excites channels: small where a network takes any size, which is cheap."""
    recipe = best.recipe
    spec = backbone_spec(recipe.backbone)
    fixed = spec.tokens is not None or recipe.backbone.startswith("timm/")
    small = min(recipe.image_size, _MAXIMUM_SIDE)
    return recipe.image_size if fixed or spec.problems(image_size=small, depth=0) else small


def _sheet(tiles: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Small squares in rows of sixteen, each pixel `factor` pixels wide, with white lines between them."""
    large = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    padded = np.pad(large, ((0, -len(large) % _A_ROW), (1, 1), (1, 1), (0, 0)), constant_values=255)
    rows = padded.reshape(-1, min(_A_ROW, len(padded)), *padded.shape[1:])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


def _strip(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = _side(images.shape[1], _SIDE)
    return np.concatenate([resized(image, side) for image in images], axis=1)


def _side(size: int, about: int) -> int:
    """Height and width, in pixels, to show an image of `size` at: small ones enlarged by whole pixels."""
    return size * max(1, about // size) if size <= about else about


def _save(folder: Path, name: str, picture: NDArray[np.uint8]) -> File:
    """Write one picture, (h, w, 3)."""
    path = folder / f"{name}.webp"
    replace_with(path, lambda temporary: Image.fromarray(picture).save(temporary, quality=_WEBP_QUALITY))
    return {"file": path.name, "width": picture.shape[1]}

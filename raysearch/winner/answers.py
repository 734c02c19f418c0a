"""What a classifier is asked, and what it answers: images however they come, and a prediction for each."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from raysearch.data.decode import EXTENSIONS
from raysearch.data.names import readable
from raysearch.data.walk import walk_folder
from raysearch.errors import InputError
from raysearch.models.boundary import prepare
from raysearch.storage.files import replace_with
from raysearch.training.numerics import full_precision

logger = logging.getLogger(__name__)

ImageLike = str | Path | bytes | Image.Image | np.ndarray
Images = ImageLike | Sequence[ImageLike]


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image."""

    image: str
    """The path, or "image 3" for one that has none."""
    probabilities: dict[str, float]
    """The probability of every class, in the order of the classes; empty if the image could not be read."""
    error: str | None = None
    """Why the image could not be read."""

    def top(self, k: int) -> list[tuple[str, float]]:
        """The `k` likeliest classes with their probabilities, likeliest first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:k]


def find_images(images: Images) -> list[ImageLike]:
    """One or many images, paths or folders as a flat list: folders are searched to the bottom, sorted by path.

    What a folder holds of images is what training would take of it.

    Raises:
        InputError: paths that do not exist, or nothing to predict at all; all problems together.
    """
    given = [images] if isinstance(images, str | Path | bytes | Image.Image | np.ndarray) else list(images)
    found: list[ImageLike] = []
    problems = []
    for image in given:
        if isinstance(image, np.ndarray) and image.ndim == 4:
            found += list(image)
        elif not isinstance(image, str | Path):
            found.append(image)
        elif Path(image).is_dir():
            walked = walk_folder(Path(image))
            inside = sorted(Path(image) / name for name in walked.images)
            for tally in walked.passed.result():
                if tally.remedy:
                    logger.warning("%s: passed over are %s", image, tally.line())
            if not inside:
                problems.append(f"the folder {str(image)!r} has no images ({', '.join(EXTENSIONS)})")
            found += inside
        elif Path(image).exists():
            found.append(image)
        else:
            problems.append(f"no such file or folder: {str(image)!r}")
    if problems:
        raise InputError(problems)
    if not found:
        raise InputError("no images given: name image files or folders of them")
    return found


def name_of(image: ImageLike, i: int) -> str:
    """What a person calls an image: its path, or "image 3" for one that has none."""
    return readable(str(image)) if isinstance(image, str | Path) else f"image {i}"


def probabilities(model: nn.Module, images: np.ndarray, device: torch.device, mirrored: bool = False) -> np.ndarray:
    """Softmax of the logits, float64 (n, classes), of uint8 images (n, h, w, 3) already of the recipe's size.

    Args:
        model: on `device`.
        images: of the recipe's size.
        device: where the model is.
        mirrored: the mean with those of the images mirrored left to right.
    """
    with full_precision(device), torch.inference_mode():
        inputs = prepare(images, device)
        views = [model(inputs), model(inputs.flip(3))] if mirrored else [model(inputs)]
    return np.mean([torch.softmax(view.cpu().double(), dim=1).numpy() for view in views], axis=0)  # MPS has no float64


def write_csv(file: Path, labels: Sequence[str], answers: Iterable[Prediction]) -> None:
    """Writes answers as they come, a line an image that could be read: path, label, confidence, then "p_" and a class.

    `file` is replaced when all are written. `confidence` is the probability of `label`.
    """

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(["path", "label", "confidence", *(f"p_{label}" for label in labels)])
            for answer in answers:
                if answer.error is None:
                    numbers = [f"{answer.probabilities[name]:.6g}" for name in labels]
                    label, confidence = answer.top(1)[0]
                    table.writerow([answer.image, label, f"{confidence:.6g}", *numbers])

    replace_with(file, write)

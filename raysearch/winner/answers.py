"""What a classifier is asked, and what it answers: images however they come, and a prediction for each."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from raysearch.data.decode import EXTENSIONS
from raysearch.data.names import readable
from raysearch.data.walk import walk_folder
from raysearch.errors import InputError
from raysearch.models.boundary import prepare
from raysearch.models.precision import full_precision
from raysearch.record.decision import decided
from raysearch.storage.files import replace_with

logger = logging.getLogger(__name__)

ImageLike = str | Path | bytes | Image.Image | np.ndarray
Images = ImageLike | Sequence[ImageLike]

UNKNOWN = "unknown"
"""The answer for an image that is like none of the training images."""


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image."""

    image: str
    """The path, or "image 3" for one that has none."""
    probabilities: dict[str, float]
    """The probability of every class, in the order of the classes; empty if the image could not be read."""
    error: str | None = None
    """Why the image could not be read."""
    label: str | None = None
    """The answer: the likeliest class, or of two what the threshold says. None: the image could not be read, or the
    classifier is not sure enough to answer."""
    unknown: bool | None = None
    """Whether the image is like none that the classifier was trained on; then it has no label. None: nobody asked."""

    @property
    def answer(self) -> str | None:
        """The label, or "unknown"; None where the answer is withheld."""
        return UNKNOWN if self.unknown else self.label

    @property
    def unsure(self) -> bool:
        """Whether the image was read, is like those of training, and the answer is withheld."""
        return self.error is None and self.label is None and not self.unknown

    @property
    def confidence(self) -> float | None:
        """The probability of the answer; None where there is none."""
        return None if self.label is None else self.probabilities[self.label]

    def top(self, k: int) -> list[tuple[str, float]]:
        """`k` classes with their probabilities: the answer, then the others, likeliest first."""
        return sorted(self.probabilities.items(), key=lambda item: (item[0] != self.label, -item[1]))[:k]


@dataclass(frozen=True)
class Decision:
    """How an answer follows from probabilities.

    Args:
        labels: the classes, in their order.
        threshold: as of `raysearch.record.decision.decided`.
        least: the smallest probability of an answer that is given; None: every answer is.
    """

    labels: Sequence[str]
    threshold: float | None = None
    least: float | None = None

    def __call__(self, image: str, shares: NDArray[np.float64], unknown: bool | None = None) -> Prediction:
        """What is said of an image.

        Args:
            image: its name.
            shares: the probability of every class, shape (classes,).
            unknown: whether it is like none of training; None: nobody asked.
        """
        said = int(decided(shares[None], self.threshold)[0])
        label = self.labels[said] if self.least is None or shares[said] >= self.least else None
        shown = dict(zip(self.labels, shares.tolist(), strict=True))
        return Prediction(image, shown, label=None if unknown else label, unknown=unknown)


def predictions(
    images: Sequence[ImageLike],
    read: Callable[[ImageLike], NDArray[np.uint8] | str],
    ask: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    decide: Decision,
    batch_size: int,
    strange: Callable[[NDArray[np.uint8]], NDArray[np.bool_]] | None = None,
) -> Iterator[Prediction]:
    """What is said of each image, in order, as the batches are done.

    One batch is decoded, by a thread a core, while the one before is in the network.

    Args:
        images: as `find_images` lists them.
        read: gives an image's pixels, or says why there are none.
        ask: gives the probabilities (n, classes) of such images, (n, h, w, 3).
        decide: makes the answers of them.
        batch_size: images at a time; twice as many are in memory.
        strange: says of each of such images whether it is like none of training; None: nobody asks.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        ahead = pool.map(read, images[:batch_size])
        for start in range(0, len(images), batch_size):
            batch = list(ahead)
            ahead = pool.map(read, images[start + batch_size : start + 2 * batch_size])
            readable = [image for image in batch if not isinstance(image, str)]
            rows = iter(ask(np.stack(readable)) if readable else ())
            unknown = iter(strange(np.stack(readable)).tolist() if readable and strange is not None else ())
            for i, image in enumerate(batch, start):
                name = name_of(images[i], i)
                if isinstance(image, str):
                    yield Prediction(name, {}, image)
                else:
                    yield decide(name, next(rows), next(unknown, None))


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
            found += sorted(Path(image) / name for name in walked.images)
            if walked.images:
                for line in walked.odd():
                    logger.warning("%s: %s", image, line)
            else:
                told = [f"the folder {str(image)!r} has no images ({', '.join(EXTENSIONS)})", *walked.odd()]
                problems.append(": ".join(told))
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


def write_csv(file: Path, labels: Sequence[str], answers: Iterable[Prediction], *, unknown: bool = False) -> None:
    """Writes answers as they come, a line an image that could be read: path, label, confidence, then "p_" and a class.

    `file` is replaced when all are written. `confidence` is the probability of `label`; where the classifier is not
    sure enough to answer, both are empty.

    Args:
        file: where.
        labels: the classes, in their order.
        answers: to the images.
        unknown: whether it was asked which images are unknown: then a column of that name says true or false, and of
            those that are the label is "unknown".
    """

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            told = ["path", "label", "confidence", *(["unknown"] if unknown else [])]
            table.writerow([*told, *(f"p_{label}" for label in labels)])
            for answer in answers:
                if answer.error is None:
                    numbers = [f"{answer.probabilities[name]:.6g}" for name in labels]
                    confidence = "" if answer.confidence is None else f"{answer.confidence:.6g}"
                    strange = [str(bool(answer.unknown)).lower()] if unknown else []
                    table.writerow([answer.image, answer.answer or "", confidence, *strange, *numbers])

    replace_with(file, write)

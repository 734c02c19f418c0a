"""The winner on its own: writes and reads `best/`, and predicts with it. Needs neither training data nor weights.

`best/` holds the whole classifier (model.safetensors, fp32), its recipe, its class names, and a page for people.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from raysearch.data.decode import EXTENSIONS, decode
from raysearch.errors import InputError
from raysearch.files import replace_json, replace_text, replace_with
from raysearch.models.boundary import IMAGENET_MEAN, IMAGENET_STD, build_classifier, prepare
from raysearch.recipe import Recipe
from raysearch.training.numerics import full_precision

logger = logging.getLogger(__name__)

ImageLike = str | Path | bytes | Image.Image | np.ndarray
Images = ImageLike | Sequence[ImageLike]

_FILES = ("model.safetensors", "recipe.json", "labels.json")


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image."""

    image: str
    """The path, or "image 3" for one that has none."""
    probabilities: dict[str, float]
    """Of every class, in the order of the classes; empty if the image could not be read."""
    error: str | None = None
    """Why the image could not be read."""

    def top(self, k: int) -> list[tuple[str, float]]:
        """The `k` likeliest classes with their probabilities, likeliest first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:k]


@dataclass(frozen=True)
class Best:
    """A trained classifier as `best/` holds it."""

    folder: Path
    recipe: Recipe
    labels: tuple[str, ...]
    """Class names, in the order of the logits."""
    info: dict[str, Any] = field(repr=False)
    """labels.json: classes, preprocessing, digest of the weights that training started from."""

    def model(self) -> nn.Sequential:
        """The classifier as a plain module of torch, on the CPU, fp32, in eval mode; a new one at every call.

        It takes float32 (n, 3, image_size, image_size), RGB scaled to [0, 1] and normalised as ImageNet is
        (`raysearch.models.boundary.prepare` makes it from uint8), and returns logits (n, classes).

        Raises:
            InputError: model.safetensors does not fit the recipe.
        """
        model = build_classifier(self.recipe, len(self.labels))
        path = self.folder / "model.safetensors"
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        wrong = [
            f"{name}: found {tuple(found[name].shape) if name in found else 'none'}, expected {expected.get(name)}"
            for name in sorted({*expected, *found})
            if name not in found or expected.get(name) != tuple(found[name].shape)
        ]
        if wrong:
            raise InputError(f"{str(path)!r} does not fit {self.recipe.backbone}: {'; '.join(wrong[:3])}")
        model.load_state_dict(found)
        return model.eval().requires_grad_(False)

    def predict(self, images: Images, *, device: str | torch.device = "cpu", batch_size: int = 64) -> pd.DataFrame:
        """The answers as a table, a row an image, in the order given (folders: sorted by path).

        Args:
            images: one or many of: path of an image or a folder, an encoded image's bytes, a PIL image, or a uint8
                array (h, w, 3) or (h, w).

        Returns: columns image, label, probability, error (None unless the image could not be read), then the
            probability of each class, in a column named "p_" and the class.

        Raises:
            InputError: a path that does not exist.
        """
        rows = []
        for answer in self.answers(find_images(images), device=device, batch_size=batch_size):
            label, probability = answer.top(1)[0] if answer.error is None else (None, None)
            row = {"image": answer.image, "label": label, "probability": probability, "error": answer.error}
            rows.append([*row.values(), *(answer.probabilities.get(name) for name in self.labels)])
        return pd.DataFrame(
            rows, columns=["image", "label", "probability", "error", *(f"p_{name}" for name in self.labels)]
        )

    def answers(
        self, images: Sequence[ImageLike], *, device: str | torch.device = "cpu", batch_size: int = 64
    ) -> Iterator[Prediction]:
        """A prediction for each image, in order, as the batches are done. Holds `batch_size` images at a time."""
        device = torch.device(device)
        model = self._ready_model.to(device)
        for start in range(0, len(images), batch_size):
            names: list[str] = []
            pixels: dict[int, np.ndarray] = {}
            errors: dict[int, str] = {}
            for i, image in enumerate(images[start : start + batch_size]):
                names.append(str(image) if isinstance(image, str | Path) else f"image {start + i}")
                try:
                    pixels[i] = _pixels(image, self.recipe)
                except Exception as error:  # noqa: BLE001 (decoders raise anything; the other images are still fine)
                    errors[i] = f"{type(error).__name__}: {error}"
            rows = (
                dict(zip(pixels, probabilities(model, np.stack(list(pixels.values())), device), strict=True))
                if pixels
                else {}
            )
            for i, name in enumerate(names):
                known = dict(zip(self.labels, rows[i].tolist(), strict=True)) if i in rows else {}
                yield Prediction(name, known, errors.get(i))

    @functools.cached_property
    def _ready_model(self) -> nn.Sequential:
        return self.model()


def probabilities(model: nn.Module, images: np.ndarray, device: torch.device) -> np.ndarray:
    """Softmax of the logits, float64 (n, classes), of uint8 images (n, h, w, 3) already of the recipe's size."""
    with full_precision(device), torch.inference_mode():
        logits = model(prepare(images, device))
    return torch.softmax(logits.cpu().double(), dim=1).numpy()  # MPS has no float64


def write_best(
    folder: Path, classifier: nn.Module, recipe: Recipe, classes: Sequence[str], weights_digest: str, card: str
) -> None:
    """Writes `best/`: each file atomically, the model last. A reader that meets files of two writes is told so.

    Args:
        folder: `best/` itself; made if it is not there.
        classifier: the whole trained classifier; it is stored in fp32.
        classes: class names, in the order of the logits.
        weights_digest: of the base weights that training started from.
        card: README.md, in Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels = {
        "classes": list(classes),
        "preprocessing": {
            "color": "RGB",
            "image_size": recipe.image_size,
            "fit": recipe.fit,
            "scale": "byte / 255",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        },
        "weights_digest": weights_digest,
    }
    tree = recipe.model_dump(mode="json")
    replace_text(folder / "README.md", card.rstrip() + "\n")
    replace_json(folder / "recipe.json", tree)
    replace_json(folder / "labels.json", labels)
    tensors = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().contiguous().clone()
        for name, tensor in classifier.state_dict().items()
    }
    metadata = {"format": "pt", "recipe_digest": _digest(tree, classes), "weights": weights_digest}
    replace_with(folder / "model.safetensors", lambda path: save_file(tensors, path, metadata=metadata))


def load_best(folder: Path) -> Best:
    """Reads `best/` (given itself, or the run folder it is in); its tensors are read when `model()` is asked for.

    Raises:
        InputError: files are missing, unreadable, or of two different writes.
    """
    folder = folder / "best" if (folder / "best").is_dir() else folder
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"no trained classifier in {str(folder)!r} ({', '.join(missing)} missing): "
            f"it is written when the search has chosen its winner; an interrupted one goes on by --resume"
        )
    try:
        tree = json.loads((folder / "recipe.json").read_bytes())
        recipe = Recipe.model_validate(tree)
        info = json.loads((folder / "labels.json").read_bytes())
        labels = tuple(str(name) for name in info["classes"])
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            written_with = (file.metadata() or {}).get("recipe_digest")
    except (ValidationError, ValueError, KeyError, TypeError, SafetensorError, OSError) as error:
        raise InputError(f"{str(folder)!r} cannot be read: {type(error).__name__}: {error}") from error
    if written_with != _digest(tree, labels):
        raise InputError(
            f"model.safetensors in {str(folder)!r} was written with another recipe.json or labels.json: "
            f"the files are of two different writes; --resume the run to write them again"
        )
    return Best(folder, recipe, labels, info)


def find_images(images: Images) -> list[ImageLike]:
    """One or many images, paths or folders as a flat list: folders are searched to the bottom, sorted by path.

    Raises:
        InputError: paths that do not exist, or nothing to predict at all; all problems together.
    """
    given = [images] if isinstance(images, str | Path | bytes | Image.Image | np.ndarray) else list(images)
    found: list[ImageLike] = []
    problems = []
    for image in given:
        if not isinstance(image, str | Path):
            found.append(image)
        elif Path(image).is_dir():
            inside = sorted(p for p in Path(image).rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
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


def _pixels(image: ImageLike, recipe: Recipe) -> np.ndarray:
    """The image as uint8 (image_size, image_size, 3), through the one decoder that training used."""
    data = Path(image).read_bytes() if isinstance(image, str | Path) else image
    return decode(data, recipe.image_size, recipe.fit)


def _digest(recipe: dict[str, Any], classes: Sequence[str]) -> str:
    # Of the files' own content, not of the parsed recipe: a later version may know more fields, with defaults.
    return hashlib.sha256(json.dumps([recipe, list(classes)], sort_keys=True).encode()).hexdigest()

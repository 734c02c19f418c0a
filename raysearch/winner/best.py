"""The winner on its own: writes and reads `best/`, and predicts with it. Needs neither training data nor weights.

`best/` holds the whole classifier (model.safetensors, fp32), its recipe, its class names, and a page for people.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from raysearch.data.decode import decode
from raysearch.errors import InputError
from raysearch.models.boundary import IMAGENET_MEAN, IMAGENET_STD, build_classifier, prepare
from raysearch.recipe import Fit, Recipe
from raysearch.storage.files import replace_json, replace_text, replace_with
from raysearch.winner.answers import ImageLike, Images, Prediction, find_images, name_of, probabilities
from raysearch.winner.shipment import Confidence, Network, Shipment, ShippedInfo

_FILES = ("model.safetensors", "recipe.json", "labels.json")


class Preprocessing(TypedDict):
    """What is done to an image before the network."""

    color: str
    image_size: int
    fit: Fit
    scale: str
    mean: list[float]
    std: list[float]


class Labels(TypedDict):
    """labels.json: what the numbers that go in and come out mean."""

    classes: list[str]
    preprocessing: Preprocessing
    weights_digest: str
    """The base weights that training started from."""
    shipped: NotRequired[ShippedInfo]
    """How the networks answer together, and how sure. Where it is missing there is one network, as it is."""


@dataclass(frozen=True)
class Best:
    """A trained classifier as `best/` holds it."""

    folder: Path
    recipe: Recipe
    labels: tuple[str, ...]
    """Class names, in the order of the logits."""
    info: Labels = field(repr=False)
    """labels.json."""

    @property
    def confidence(self) -> Confidence:
        """How sure the classifier may be."""
        return Confidence.read(self.info.get("shipped"))

    def model(self) -> nn.Module:
        """The classifier as a plain module of torch, on the CPU, fp32, in eval mode; a new one at every call.

        It takes float32 (n, 3, image_size, image_size), RGB scaled to [0, 1] and normalised as ImageNet is, as `inputs`
        makes it, and returns logits (n, classes) in the order of `labels`, whose softmax is as sure as it is right.

        Raises:
            InputError: model.safetensors does not fit the recipe.
        """
        return self.shipment().module()

    def network(self) -> nn.Sequential:
        """The network, or the first of several, without temperature and mirror image; otherwise as `model`."""
        classifier = self.shipment().networks[0].classifier
        assert isinstance(classifier, nn.Sequential)
        return classifier

    def shipment(self) -> Shipment:
        """Every network, and how they answer together.

        Raises:
            InputError: model.safetensors does not fit the recipe.
        """
        path, info = self.folder / "model.safetensors", self.info.get("shipped")
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        if info is None:
            return Shipment.of(self._built(self.recipe, found, path), self.recipe)
        alone = len(info["members"]) == 1
        networks = [
            Network(recipe, self._built(recipe, found if alone else _below(found, number), path), one["weight"])
            for number, one in enumerate(info["members"])
            for recipe in [Recipe.model_validate(one["recipe"])]
        ]
        return Shipment(info["kind"], tuple(networks), info["mirrored"], self.confidence)

    def _built(self, recipe: Recipe, found: Mapping[str, torch.Tensor], path: Path) -> nn.Sequential:
        model = build_classifier(recipe, len(self.labels))
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        wrong = [
            f"{name}: found {tuple(found[name].shape) if name in found else 'none'}, expected {expected.get(name)}"
            for name in sorted({*expected, *found})
            if name not in found or expected.get(name) != tuple(found[name].shape)
        ]
        if wrong:
            raise InputError(f"{str(path)!r} does not fit {recipe.backbone}: {'; '.join(wrong[:3])}")
        model.load_state_dict(dict(found))
        return model.eval().requires_grad_(False)

    def pixels(self, image: ImageLike) -> np.ndarray:
        """The image as uint8 (image_size, image_size, 3), through the one decoder that training used.

        Raises whatever the file or its decoder comes to.
        """
        data = Path(image).read_bytes() if isinstance(image, str | Path) else image
        return decode(data, self.recipe.image_size, self.recipe.fit)

    def inputs(self, images: Images) -> torch.Tensor:
        """What `model()` takes: images decoded, resized and normalised, float32 (n, 3, image_size, image_size).

        Args:
            images: as of `predict`.

        Raises:
            InputError: a path that does not exist, or an image that cannot be read.
        """
        found = find_images(images)
        pixels = [self._read(image) for image in found]
        if unreadable := [i for i, one in enumerate(pixels) if isinstance(one, str)]:
            raise InputError(f"{name_of(found[i], i)} cannot be read: {pixels[i]}" for i in unreadable)
        return prepare(np.stack([one for one in pixels if not isinstance(one, str)]), torch.device("cpu"))

    def predict(
        self, images: Images, *, device: str | torch.device = "cpu", batch_size: int = 64, tta: bool = False
    ) -> pd.DataFrame:
        """The answers as a table, a row an image, in the order given (folders: sorted by path).

        Args:
            images: one or many of: path of an image or a folder, an encoded image's bytes, a PIL image, or an array
                as `raysearch.data.decode.decode` takes it, e.g. uint8 (h, w, 3); or an array (n, h, w, 3) of several.
            device: where the network runs.
            batch_size: images at a time.
            tta: see `answers`.

        Returns: columns image, label, probability, error (None unless the image could not be read), then the
            probability of each class, in a column named "p_" and the class.

        Raises:
            InputError: a path that does not exist.
        """
        rows = []
        for answer in self.answers(find_images(images), device=device, batch_size=batch_size, tta=tta):
            label, probability = answer.top(1)[0] if answer.error is None else (None, None)
            row = {"image": answer.image, "label": label, "probability": probability, "error": answer.error}
            rows.append([*row.values(), *(answer.probabilities.get(name) for name in self.labels)])
        return pd.DataFrame(
            rows, columns=["image", "label", "probability", "error", *(f"p_{name}" for name in self.labels)]
        )

    def answers(
        self,
        images: Sequence[ImageLike],
        *,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        tta: bool = False,
    ) -> Iterator[Prediction]:
        """A prediction for each image, in order, as the batches are done.

        One batch is decoded, by a thread a core, while the one before is in the network: of any number of images,
        `2 * batch_size` are in memory.

        Args:
            images: as `find_images` lists them.
            device: where the network runs.
            batch_size: images at a time.
            tta: the probabilities are the mean of those of the image and of its mirror image (test-time augmentation).

        Raises:
            InputError: tta of a recipe whose augmentation never mirrors: there, a mirrored image may be another class.
        """
        if tta and not self.recipe.augmentation.flip:
            raise InputError(
                "test-time augmentation asks for the mirror image too, and this recipe says by augmentation.flip = 0 "
                "that a mirrored image may be another class: predict without it"
            )
        return self._answers(images, torch.device(device), batch_size, tta)

    def _answers(
        self, images: Sequence[ImageLike], device: torch.device, batch_size: int, tta: bool
    ) -> Iterator[Prediction]:
        model = self._ready_model.to(device)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            ahead = pool.map(self._read, images[:batch_size])
            for start in range(0, len(images), batch_size):
                batch = list(ahead)
                ahead = pool.map(self._read, images[start + batch_size : start + 2 * batch_size])
                readable = [image for image in batch if not isinstance(image, str)]
                rows = iter(probabilities(model, np.stack(readable), device, tta) if readable else ())
                for i, image in enumerate(batch, start):
                    name = name_of(images[i], i)
                    if isinstance(image, str):
                        yield Prediction(name, {}, image)
                    else:
                        yield Prediction(name, dict(zip(self.labels, next(rows).tolist(), strict=True)))

    def _read(self, image: ImageLike) -> np.ndarray | str:
        """What `pixels` gives, or why the image cannot be read."""
        try:
            return self.pixels(image)
        except Exception as error:  # noqa: BLE001 (decoders raise anything; the other images are still fine)
            return f"{type(error).__name__}: {error}"

    @functools.cached_property
    def _ready_model(self) -> nn.Module:
        return self.model()


def write_best(folder: Path, shipment: Shipment, classes: Sequence[str], weights_digest: str, card: str) -> None:
    """Writes `best/`: each file atomically, the model last. A reader that meets files of two writes is told so.

    Args:
        folder: `best/` itself; made if it is not there.
        shipment: the trained networks, which are stored in fp32, and how they answer together.
        classes: class names, in the order of the logits.
        weights_digest: of the base weights that training started from.
        card: README.md, in Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe = shipment.networks[0].recipe
    labels: Labels = {
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
        "shipped": shipment.info(),
    }
    tree = recipe.model_dump(mode="json")
    replace_text(folder / "README.md", card.rstrip() + "\n")
    replace_json(folder / "recipe.json", tree)
    replace_json(folder / "labels.json", labels)
    alone = len(shipment.networks) == 1
    prefixes = ["" if alone else _prefix(number) for number in range(len(shipment.networks))]
    tensors = {
        prefix + name: (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().contiguous().clone()
        for prefix, network in zip(prefixes, shipment.networks, strict=True)
        for name, tensor in network.classifier.state_dict().items()
    }
    metadata = {"format": "pt", "recipe_digest": _digest(tree, classes), "weights": weights_digest}
    replace_with(folder / "model.safetensors", lambda path: path.write_bytes(save(tensors, metadata)))


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


def _prefix(number: int) -> str:
    """What the names of one of several networks' tensors begin with."""
    return f"members.{number}."


def _below(tensors: Mapping[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """The tensors of one of several networks, under their own names."""
    prefix = _prefix(number)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _digest(recipe: Mapping[str, object], classes: Sequence[str]) -> str:
    # Of the files' own content, not of the parsed recipe: a later version may know more fields, with defaults.
    return hashlib.sha256(json.dumps([recipe, list(classes)], sort_keys=True).encode()).hexdigest()

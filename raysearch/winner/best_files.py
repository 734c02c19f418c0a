"""The files of `best/`: how they are written, each whole, and read once they belong together.

model.safetensors holds all tensors in fp32, recipe.json how they were trained, labels.json what the numbers mean that
go in and come out, README.md a page for people. known.safetensors has the features of training images, by which images
are told that are like none of them, where that is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from torch import Tensor

from raysearch.data.value_range import PixelRange
from raysearch.errors import InputError
from raysearch.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from raysearch.recipe import Fit, Recipe
from raysearch.storage.files import replace_json, replace_text, replace_with
from raysearch.winner.shipment import Shipment, ShippedInfo
from raysearch.winner.unknown import Known, KnownInfo

MODEL = "model.safetensors"
KNOWN = "known.safetensors"
_FILES = (MODEL, "recipe.json", "labels.json")
_VECTORS = "vectors"


class Preprocessing(TypedDict):
    """What is done to an image before the network."""

    color: str
    image_size: int
    fit: Fit
    range: NotRequired[dict[str, float] | None]
    """The range of values of more than eight bits; see `PixelRange.as_json`."""
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
    known: NotRequired[KnownInfo]
    """How far new images are from the training images. Where it is missing, nobody knows."""


def write_best(
    folder: Path,
    shipment: Shipment,
    classes: Sequence[str],
    weights_digest: str,
    card: str,
    *,
    pixel_range: PixelRange | None = None,
    known: Known | None = None,
) -> None:
    """Writes `best/`: each file atomically, the model last. A reader that meets files of two writes is told so.

    Args:
        folder: `best/` itself; made if it is not there.
        shipment: the trained networks, which are stored in fp32, and how they answer together.
        classes: class names, in the order of the logits.
        weights_digest: of the base weights that training started from.
        card: README.md, in Markdown.
        pixel_range: of the training images' values, if some had more than eight bits.
        known: the training images in the features of the first network; None: nobody knows how far new ones are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe = shipment.networks[0].recipe
    labels: Labels = {
        "classes": list(classes),
        "preprocessing": {
            "color": "RGB",
            "image_size": recipe.image_size,
            "fit": recipe.fit,
            "range": None if pixel_range is None else pixel_range.as_json(),
            "scale": "byte / 255",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        },
        "weights_digest": weights_digest,
        "shipped": shipment.info(),
    }
    if known is not None:
        labels["known"] = known.info()
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
    if known is None:
        (folder / KNOWN).unlink(missing_ok=True)
    else:
        stored = save_arrays({_VECTORS: known.vectors}, {"recipe_digest": metadata["recipe_digest"]})
        replace_with(folder / KNOWN, lambda path: path.write_bytes(stored))
    replace_with(folder / MODEL, lambda path: path.write_bytes(save(tensors, metadata)))


def read_best(folder: Path) -> tuple[Recipe, Labels]:
    """What `best/` says of its classifier, once its files belong together.

    Raises:
        InputError: files are missing, unreadable, or of two different writes.
    """
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"no trained classifier in {str(folder)!r} ({', '.join(missing)} missing): "
            f"it is written when the search has chosen its winner; an interrupted one goes on by --resume"
        )
    try:
        tree = json.loads((folder / "recipe.json").read_bytes())
        recipe = Recipe.model_validate(tree)
        labels: Labels = json.loads((folder / "labels.json").read_bytes())
        classes = [str(name) for name in labels["classes"]]
        with safe_open(folder / MODEL, framework="pt") as file:
            written_with = (file.metadata() or {}).get("recipe_digest")
    except (ValidationError, ValueError, KeyError, TypeError, SafetensorError, OSError) as error:
        raise InputError(f"{str(folder)!r} cannot be read: {type(error).__name__}: {error}") from error
    if written_with != _digest(tree, classes):
        raise InputError(
            f"model.safetensors in {str(folder)!r} was written with another recipe.json or labels.json: "
            f"the files are of two different writes; --resume the run to write them again"
        )
    return recipe, labels


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of `best/`, by the names that `write_best` gave them."""
    with safe_open(folder / MODEL, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def read_vectors(folder: Path) -> NDArray[np.float16]:
    """The features of the training images, float16 (n, width).

    Raises:
        InputError: the file is missing or broken.
    """
    try:
        with safe_open(folder / KNOWN, framework="np") as file:
            found: NDArray[np.float16] = file.get_tensor(_VECTORS)
            return found
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{str(folder / KNOWN)!r}, by which unknown images are told, cannot be read: {type(error).__name__}: "
            f"{error}; copy best/ again, whole, or --resume the run to write it again"
        ) from error


def _prefix(number: int) -> str:
    """What the names of one of several networks' tensors begin with."""
    return f"members.{number}."


def tensors_of(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The tensors of one of several networks, under their own names."""
    prefix = _prefix(number)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _digest(recipe: Mapping[str, object], classes: Sequence[str]) -> str:
    # The files' own content is taken, not the parsed recipe: a later version may know more fields, with defaults.
    return hashlib.sha256(json.dumps([recipe, list(classes)], sort_keys=True).encode()).hexdigest()

"""Sources that are names: the bundled images, and torchvision's data sets (downloaded once, into the cache)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raysearch.data.folders import find_in_zip
from raysearch.data.listing import Found
from raysearch.errors import InputError
from raysearch.storage.cache import cache_root

BUNDLED = ("cifar10-mini",)

_TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
_TRAIN_TEST = {"train": {"split": "train"}, "test": {"split": "test"}}
_TRAIN_VAL_TEST = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
TORCHVISION: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "mnist": ("MNIST", _TRAIN_FLAG),
    "fashion-mnist": ("FashionMNIST", _TRAIN_FLAG),
    "kmnist": ("KMNIST", _TRAIN_FLAG),
    "cifar10": ("CIFAR10", _TRAIN_FLAG),
    "cifar100": ("CIFAR100", _TRAIN_FLAG),
    "svhn": ("SVHN", _TRAIN_TEST),
    "stl10": ("STL10", _TRAIN_TEST),
    "gtsrb": ("GTSRB", _TRAIN_TEST),
    "food101": ("Food101", _TRAIN_TEST),
    "flowers102": ("Flowers102", _TRAIN_VAL_TEST),
    "dtd": ("DTD", _TRAIN_VAL_TEST),
    "fgvc-aircraft": ("FGVCAircraft", _TRAIN_VAL_TEST),
    "oxford-iiit-pet": ("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "eurosat": ("EuroSAT", {"train": {}}),
}
"""Name to torchvision's class and the arguments that select each of its splits."""


class TorchvisionReader:
    """Images of torchvision data sets, one set a split."""

    def __init__(self, name: str, parts: list[Any], labels: list[str]) -> None:
        self._name = name
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self._labels = labels
        self._lock = threading.Lock()

    def read(self, position: int) -> Image.Image:
        """One image."""
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        with self._lock:  # nothing says that a data set may be read from several threads
            image: Image.Image = self._parts[part][position - int(self._starts[part])][0]
            image.load()
        return image

    def fingerprint(self) -> str:
        """Digest of the name and the labels; torchvision itself checks the files' digests."""
        return hashlib.sha256("\0".join([self._name, *self._labels]).encode()).hexdigest()


def canonical_name(name: str) -> str | None:
    """The known name that was meant (CIFAR-10, FashionMNIST and fashion_mnist included), or None."""
    squeezed = _squeeze(name)
    return next((known for known in (*BUNDLED, *TORCHVISION) if _squeeze(known) == squeezed), None)


def find_named(name: str) -> Found:
    """The images of a bundled or torchvision data set, by its canonical name.

    Raises:
        InputError: it is not in the cache and cannot be downloaded.
    """
    if name in BUNDLED:
        with resources.as_file(resources.files("raysearch") / "assets" / f"{name}.zip") as archive:
            return find_in_zip(archive)
    class_name, arguments = TORCHVISION[name]
    root = cache_root() / "torchvision"
    parts, labels, splits, paths = [], [], [], []
    for split, given in arguments.items():
        part = _open(class_name, root, given)
        numbers = _labels(part)
        names = _class_names(part, max(numbers) + 1)
        parts.append(part)
        labels += [names[number] for number in numbers]
        splits += [split if len(arguments) > 1 else ""] * len(numbers)
        paths += [f"{split}/{position}" for position in range(len(numbers))]
    classes = _class_names(parts[0], len(set(labels)))
    return Found(paths, labels, splits, TorchvisionReader(name, parts, labels), classes)


def _open(class_name: str, root: Path, arguments: dict[str, Any]) -> Any:
    import torchvision.datasets  # here: torch takes seconds to import, and other sources do not need it

    build: Callable[..., Any] = getattr(torchvision.datasets, class_name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):  # torchvision prints its progress
            return build(root, **arguments, download=True)
    except (OSError, RuntimeError, ImportError) as error:  # network, disk, digests that differ, scipy missing
        reason = str(error).strip().splitlines()
        raise InputError(
            f"torchvision's {class_name} is not in {root} and could not be downloaded "
            f"({reason[-1] if reason else type(error).__name__}). Check the network, copy its files there, or give "
            "the images as a folder, .zip, .csv or .npz."
        ) from error


def _labels(part: Any) -> list[int]:
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(part, attribute):
            return [int(label) for label in getattr(part, attribute)]
    return [int(label) for _, label in part._samples]  # GTSRB


def _class_names(part: Any, count: int) -> list[str]:
    names = getattr(part, "classes", None)
    return [str(name) for name in names] if names else [str(number) for number in range(count)]


def _squeeze(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")

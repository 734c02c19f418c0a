"""What a trained suffix fits: what must be the same where its tensors are used again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import nn

from raysearch.models import boundary


class Signature(TypedDict, total=False):
    """What a suffix was made for; `signature` has all of it, a file of an earlier version perhaps not."""

    base: str
    """Digest of the backbone's pretrained weights."""
    pooling: str
    normalization: list[list[float]]
    """What becomes of a black and a white pixel, by channel."""
    image_size: int
    """In pixels."""
    fit: str
    images: str
    """Fingerprint."""
    classes: list[str]
    """In the order of the logits."""
    val_labels: str
    """Digest of the labels of the validation images."""
    tensors: dict[str, list[int]]
    """The shape of each tensor of the suffix."""


_NAMES = {
    "base": "base weights (digest)",
    "pooling": "pooling",
    "normalization": "preprocessing: normalization of the pixels (what black and white become, by channel)",
    "image_size": "preprocessing: image size",
    "fit": "preprocessing: fit",
    "images": "images (fingerprint)",
    "classes": "label order: classes",
    "val_labels": "label order: digest of the validation labels",
}


def signature(
    classifier: nn.Sequential,
    suffix: nn.Sequential,
    *,
    base: str,
    images: str,
    image_size: int,
    fit: str,
    classes: Sequence[str],
    val_labels: np.ndarray,
) -> Signature:
    """What a suffix fits, as plain JSON: two that agree compute the same losses from the same tensors.

    Taken from the things themselves where that is possible: the pooling from the module, the normalization from what
    becomes of a black and a white pixel.

    Args:
        classifier: the whole network, of which `suffix` is the trained part.
        base: digest of the backbone's pretrained weights.
        images: fingerprint of the images.
        image_size: in pixels.
        fit: how an image became square.
        classes: names, in the order of the logits.
        val_labels: integer (n,).
    """
    extremes = np.stack([np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)])
    return {
        "base": base,
        "pooling": str(getattr(classifier.get_submodule("pool"), "kind", "unknown")),
        "normalization": boundary.prepare(extremes, torch.device("cpu")).flatten(1).tolist(),
        "image_size": image_size,
        "fit": fit,
        "images": images,
        "classes": list(classes),
        "val_labels": hashlib.sha256(np.asarray(val_labels, dtype="<i8").tobytes()).hexdigest(),
        "tensors": {name: list(tensor.shape) for name, tensor in suffix.state_dict().items()},
    }


def differences(saved: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What two signatures disagree in, a sentence each; tensors aside, for the next stage opens more of them."""
    return [
        f"{label}: was {json.dumps(saved[key])}, is {json.dumps(now[key])}"
        for key, label in _NAMES.items()
        if key in saved and key in now and saved[key] != now[key]
    ]


def same_validation(saved: Signature, now: Signature) -> bool:
    """Whether losses of both are of the same validation images."""
    return saved.get("images") == now.get("images") and saved.get("val_labels") == now.get("val_labels")

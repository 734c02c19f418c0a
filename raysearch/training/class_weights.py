"""How much each class counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raysearch.errors import InputError
from raysearch.recipe import EFFECTIVE


def class_weights(setting: str | float | Mapping[str, float], labels: Tensor, classes: Sequence[str]) -> Tensor:
    """The weight of each class, float32, shape (c,), in the order of `classes`.

    Args:
        setting: "none": all 1; "balanced": n / (c * count of the class), as scikit-learn's; a power p: balanced ** p
            (0 is none, 1 is balanced); "effective:b": (1 - b) / (1 - b ** count), scaled so that they add up to c (Cui
            et al. 2019, the effective number of images at b); or a weight by class name, 1 for the names left out.
        labels: the training images' classes, integer, shape (n,). A class without any counts as having one.
        classes: the c names.

    Raises:
        InputError: a weight is given for a class that is not there.
    """
    if isinstance(setting, Mapping):
        if unknown := sorted(set(setting) - set(classes)):
            raise InputError(
                f"class_weights name classes that the data lacks: {', '.join(unknown)}; there are {', '.join(classes)}"
            )
        return torch.tensor([float(setting.get(name, 1.0)) for name in classes])
    if setting == "none":
        return torch.ones(len(classes))
    counts = torch.bincount(labels.cpu(), minlength=len(classes)).clamp(min=1)
    if isinstance(setting, str) and setting.startswith(EFFECTIVE):
        beta = float(setting.removeprefix(EFFECTIVE))
        rare = (1 - beta) / (1 - beta ** counts.double())
        return (len(classes) * rare / rare.sum()).float()
    balanced = len(labels) / (len(classes) * counts.double())
    return (balanced ** (1.0 if setting == "balanced" else float(setting))).float()

"""A suffix and boundary activations so small that an epoch takes milliseconds, with a BatchNorm and a dropout."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.activations.base import Activations
from raysearch.models.head import Pool, make_head
from raysearch.recipe import Head, Stage
from raysearch.record.goal import Goal
from raysearch.training.images import Images, Labelled
from raysearch.training.loop import Trainer

CLASSES = ("cat", "dog", "owl")
CPU = torch.device("cpu")


class InMemory:
    """Activations from an array; `wobble` makes each view differ, as augmentation would."""

    at_once = 256

    def __init__(self, values: np.ndarray, wobble: float = 0.0) -> None:
        self.values, self.wobble = values.astype(np.float32), wobble
        self.views: list[int] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]

    @property
    def varies(self) -> bool:
        return self.wobble > 0

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, indices: np.ndarray, view: int) -> Tensor:
        self.views.append(view)
        return torch.from_numpy(self.values[indices] + np.float32(self.wobble * np.sin(view)))


def suffix(seed: int = 0, dropout: float = 0.0, channels: int = 3) -> nn.Sequential:
    """A block (convolution, BatchNorm with statistics of its own, ReLU), pooling, head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        block = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(channels, 4, 3, padding=1), norm=nn.BatchNorm2d(4), relu=nn.ReLU())
        )
        block.norm.running_mean.normal_()
        block.norm.running_var.uniform_(0.5, 2.0)
    head = make_head(4, Head(), len(CLASSES), seed)
    head.dropout.p = dropout
    return nn.Sequential(OrderedDict(block2=block, pool=Pool("avg"), head=head))


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations (n, 3, 4, 4) whose mean tells the class, noisily; and the classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % len(CLASSES)
    return random.normal(size=(n, 3, 4, 4)) + 1.5 * np.eye(3)[labels][:, :, None, None], labels


def labelled(activations: Activations) -> Labelled:
    """Those of `images`, with their labels."""
    return Labelled(activations, np.arange(len(activations)) % len(CLASSES))


def trainer(
    stage: Stage | None = None,
    *,
    wobble: float = 0.1,
    classes: tuple[str, ...] = CLASSES,
    train: Activations | None = None,
    val: Activations | None = None,
    held_out: Activations | None = None,
    **changes: Any,
) -> Trainer:
    """One stage on 26 images, in batches of 8 unless the stage says otherwise; validated on 15."""
    stage = stage or Stage(depth=1, epochs=4, batch_size=8)
    seen = Images(
        classes,
        train=labelled(train or InMemory(images(26, 1)[0], wobble)),
        val=labelled(val or InMemory(images(15, 2)[0])),
        held_out=labelled(held_out) if held_out is not None else None,
    )
    goal = Goal.of(changes.pop("metric", "accuracy"), changes.pop("require", ()))
    network = changes.pop("suffix", None) or suffix(dropout=stage.dropout)
    return Trainer(network, stage, seen, **({"seed": 0, "goal": goal, "device": CPU} | changes))


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what differs from run to run."""
    return {key: value for key, value in row.items() if key != "seconds"}


def run(training: Trainer) -> list[dict[str, Any]]:
    """Every row until the stage is finished."""
    rows = []
    while not training.finished:
        rows.append(timeless(training.run_epoch()))
    return rows


class OutOfMemoryAbove(nn.Module):
    """Raises what CUDA raises when more than so many images come at once."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > self.images:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(inputs)} images")
        return inputs


def limited(images: int) -> nn.Sequential:
    """The suffix, which runs out of memory above so many images."""
    return nn.Sequential(OrderedDict(limit=OutOfMemoryAbove(images), **dict(suffix().named_children())))

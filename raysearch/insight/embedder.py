"""What a frozen network makes of images: one vector each, from the cache where a search or an earlier look left it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysearch.activations.cache import CachedActivations, provenance
from raysearch.activations.live import LiveActivations
from raysearch.activations.store import Store
from raysearch.data.dataset import Dataset, Split
from raysearch.errors import InputError
from raysearch.models.boundary import build_classifier, cut
from raysearch.models.head import Pool, projection
from raysearch.models.precision import full_precision
from raysearch.models.registry import backbone_spec
from raysearch.models.weights import Weights, digest
from raysearch.recipe import Recipe, Stage
from raysearch.training.heads.reading import read_view
from raysearch.training.numerics import choose_precision
from raysearch.winner.best import Best

Progress = Callable[[int], None]
"""Told how many more images are done."""


def silent(images: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, eq=False)
class Embedder:
    """A frozen network up to its pooling, and the projection of an embedding head.

    Attributes:
        network: the backbone's blocks and the pooling.
        recipe: names the backbone, the image size, the fit and the pooling.
        digest: of the backbone's tensors.
        device: where it runs.
        projection: what an embedding head makes of what is pooled; empty: that is the vector.
    """

    network: nn.Sequential
    recipe: Recipe
    digest: str
    device: torch.device
    projection: nn.Sequential = field(default_factory=nn.Sequential)

    @property
    def identity(self) -> str:
        """Of all tensors that make the vectors: two embedders with one identity make the same."""
        return f"{self.digest}+{digest(self.projection.state_dict())}" if len(self.projection) else self.digest

    @classmethod
    def of_backbone(
        cls, backbone: str, weights: Weights, image_size: int, fit: str, pooling: str, device: torch.device
    ) -> Embedder:
        """A pretrained backbone.

        Args:
            backbone: its name.
            weights: as `raysearch.models.weights.load_weights` gives them.
            image_size: height and width, pixels.
            fit: squash, crop or pad.
            pooling: avg, max or both.
            device: where it runs.

        Raises:
            InputError: the backbone needs larger images.
        """
        named = {"backbone": backbone, "weights": weights.again, "image_size": image_size, "fit": fit}
        recipe = Recipe.model_validate({**named, "pooling": pooling, "schedule": (Stage(depth=0, epochs=1),)})
        classifier = build_classifier(recipe, 1)
        classifier.load_state_dict(dict(weights.state), strict=False)
        return cls(cut(classifier, 0)[0], recipe, weights.digest, device)

    @classmethod
    def of_best(cls, best: Best, pooling: str | None, device: torch.device) -> Embedder:
        """The trained network of a run, up to the embedding if its head makes any; of several networks, the first.

        Args:
            best: the run's winner.
            pooling: avg, max or both; None: its own.
            device: where it runs.

        Raises:
            InputError: another pooling than that which the head makes its embeddings of.
        """
        network, head = cut(best.network(), 0)
        assert isinstance(head[-1], nn.Sequential)
        project = projection(head[-1])
        recipe = best.recipe
        if len(project) and pooling not in (None, recipe.pooling):
            raise InputError(
                f"--pooling {pooling}: the embeddings of this run are made of what is pooled by {recipe.pooling}; "
                "leave it out"
            )
        if pooling is not None:
            own = network[-1]
            assert isinstance(own, Pool)
            network[-1] = Pool(pooling, own.tokens)
            recipe = recipe.model_copy(update={"pooling": pooling})
        state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("pool.")}
        return cls(network, recipe, digest(state), device, project)

    def vectors(self, split: Split, name: str, fingerprint: str, progress: Progress = silent) -> NDArray[np.float32]:
        """The vectors of a split, shape (n, width); kept in the cache of activations, as a search's are.

        Args:
            split: images of the recipe's size.
            name: of the split: train, val or test.
            fingerprint: of the data set that it is from.
            progress: told of each image that is done.
        """
        # As a search computes and stores them, so that it finds these, and these are found if it was there first.
        training = name == "train"
        live = _Counted(split, self, progress, choose_precision(self.device) if training else "fp32")
        if not len(split):
            return self._projected(torch.empty(0, live.width))
        about = provenance(self.recipe, self.digest, fingerprint, name, split)
        cached = CachedActivations(live, about, Store(), dtype="fp16" if training else "fp32")
        with nullcontext() if training else full_precision(self.device):
            found = self._projected(read_view(cached, np.arange(len(split)), 0, torch.device("cpu")))
        progress(len(split) - live.counted)
        return found

    def of_dataset(self, dataset: Dataset, progress: Progress = silent) -> NDArray[np.float32]:
        """The vectors of training, validation and test images, split after split, shape (n, width)."""
        return np.concatenate(
            [self.vectors(split, name, dataset.fingerprint, progress) for name, split in dataset.splits.items()]
        )

    def of_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vectors of a few images, uint8 (n, size, size, 3), which are not kept; shape (n, width)."""
        split = Split(pixels, np.zeros(len(pixels), np.int64), tuple(map(str, range(len(pixels)))))
        with full_precision(self.device):
            return self._projected(_Counted(split, self, silent, "fp32").batch(np.arange(len(pixels)), 0).cpu())

    def _projected(self, pooled: Tensor) -> NDArray[np.float32]:
        """The vectors of what is pooled, (n, features)."""
        with torch.inference_mode():
            found: NDArray[np.float32] = self.projection.eval()(pooled.float()).numpy()
        return found


class _Counted(LiveActivations):
    """Activations that tell of each image that they take in for the first time, however they are asked."""

    def __init__(self, split: Split, embedder: Embedder, progress: Progress, precision: str) -> None:
        super().__init__(split.pixels, embedder.network, augmenter=None, device=embedder.device, precision=precision)
        self.counted = 0
        self._progress = progress
        self._recipe = embedder.recipe

    @property
    def width(self) -> int:
        """Numbers in what is pooled."""
        channels = backbone_spec(self._recipe.backbone).channels
        return Pool(self._recipe.pooling).features(channels)

    def images(self, indices: np.ndarray, view: int) -> np.ndarray:
        found = super().images(indices, view)
        new = max(0, int(indices[-1]) + 1 - self.counted)
        self.counted += new
        self._progress(new)
        return found

"""What is put on a backbone: pooling of the last feature map, and the classifier that is always trained."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysearch.models.spec import Tokens
from raysearch.recipe import Head

POOLINGS: tuple[str, ...] = ("avg", "max", "both")
LEAST_LENGTH = 1e-12
"""The shortest vector that is brought to length 1."""


class Pool(nn.Module):
    """Global pooling of a feature map, or of tokens: avg, max, or both concatenated in this order.

    Of tokens, max is over the places; avg is what the network's own classifier reads, which is their mean or the class
    token.

    Args:
        kind: avg, max or both.
        tokens: how they are arranged; None: what is pooled are maps.
    """

    def __init__(self, kind: str, tokens: Tokens | None = None) -> None:
        super().__init__()
        if kind not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {kind!r}")
        self.kind, self.tokens = kind, tokens

    def features(self, channels: int) -> int:
        """How many features leave for `channels` that enter."""
        return 2 * channels if self.kind == "both" else channels

    def forward(self, maps: Tensor) -> Tensor:
        """Pools (n, channels, h, w), or (n, tokens, channels), to (n, channels), or (n, 2 * channels) for both."""
        pooled = []
        if self.kind != "max":
            pooled.append(self._average(maps))
        if self.kind != "avg":
            # Unlike adaptive_max_pool2d's, amax's gradient is deterministic on CUDA.
            pooled.append(maps.amax(dim=(2, 3)) if self.tokens is None else maps[:, self.tokens.before :].amax(dim=1))
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)

    def _average(self, maps: Tensor) -> Tensor:
        if self.tokens is None:
            return functional.adaptive_avg_pool2d(maps, 1).flatten(1)
        return maps[:, 0] if self.tokens.class_token else maps[:, self.tokens.before :].mean(dim=1)

    def extra_repr(self) -> str:
        return self.kind


class Dropout(nn.Module):
    """Dropout whose mask is `uniform numbers >= p`: one draw of them serves any rate, as heads in a pack need it.

    `nn.Dropout` draws other numbers for each rate. Given the same random state, a unit that is dropped at one rate is
    dropped at every higher one.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, inputs: Tensor) -> Tensor:
        """Zeroes each number with probability p and scales the others by 1 / (1 - p), in training alone."""
        if not self.training or not self.p:
            return inputs
        uniform = torch.rand(inputs.shape, device=inputs.device)
        return inputs * (1 / (1 - self.p)) * (uniform >= self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Unit(nn.Module):
    """Vectors (n, width) with length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Divides each by its length; one that is nearly 0 stays near 0."""
        return functional.normalize(vectors, dim=1, eps=LEAST_LENGTH)


def make_head(in_features: int, head: Head, n_classes: int, seed: int) -> nn.Sequential:
    """The classifier on (n, in_features) pooled features; returns logits (n, n_classes).

    Its child `dropout`, before the last layer or before the projection of an embedding head, drops nothing until a
    stage sets its `p`. On embeddings the last layer is a prototype a class, with a length and a bias of its own. The
    first weights are torch's own initialisation of linear layers, drawn from `seed`; the process's random state stays
    as it was.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if head.kind == "hidden":
            layers["hidden"] = nn.Linear(in_features, head.hidden_units)
            layers["relu"] = nn.ReLU()
            in_features = head.hidden_units
        layers["dropout"] = Dropout()
        if head.kind == "embedding":
            layers["embedding"] = nn.Linear(in_features, head.dimensions)
            layers["unit"] = Unit()
            in_features = head.dimensions
        layers["linear"] = nn.Linear(in_features, n_classes)
    return nn.Sequential(layers)


def projection(head: nn.Sequential) -> nn.Sequential:
    """What of a head turns pooled features (n, in_features) into embeddings: nothing, but in an embedding head.

    It has the head's own layers. Embeddings are (n, dimensions), of length 1; elsewhere the features are the embedding.
    """
    return head[:-1] if hasattr(head, "embedding") else nn.Sequential()


def embeds(network: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether a network ends with an embedding head."""
    return isinstance(network, nn.Sequential) and hasattr(network[-1], "embedding")


def logits_and_embeddings(network: nn.Sequential, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, n_classes) and embeddings (n, width), in one pass through a network whose last child is the head."""
    head = network[-1]
    assert isinstance(head, nn.Sequential)
    project = projection(head)
    embeddings = project(network[:-1](inputs))
    return head[len(project) :](embeddings), embeddings


class WithEmbeddings(nn.Module):
    """A network whose last child is the head, asked for logits and embeddings at once, (n, n_classes + width)."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Both of (n, ...) inputs, the logits first."""
        return torch.cat(logits_and_embeddings(self.network, inputs), dim=1)

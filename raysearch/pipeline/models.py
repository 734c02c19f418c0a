"""The networks that the one look at the test images is at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from raysearch.recipe import Recipe

Seen = str | tuple[str, str | int]
"""What is looked at: a split of the images, and by which network, the number of one of `Models.singles` or a name; of
training images, their name alone."""


class Rival(NamedTuple):
    """A network of another recipe than the one that was chosen, or of another training of it."""

    trial: str
    """The trial whose recipe it was trained by."""
    recipe: Recipe
    network: nn.Sequential


@dataclass(frozen=True)
class Models:
    """The networks that are measured."""

    trial: str
    """The trial whose recipe the singles were trained by."""
    recipes: Sequence[Recipe]
    singles: Sequence[nn.Sequential]
    averaged: nn.Sequential | None
    """The mean of the singles' tensors."""
    members: Mapping[str, Rival]
    """Networks of other recipes that an ensemble has, by trial."""
    student: nn.Sequential | None
    """What learned from the singles' answers."""
    others: Mapping[str, Rival]
    """"default" and "head": as the search trained them."""

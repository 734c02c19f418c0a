"""The networks that the one look at the test images is at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from raysearch.recipe import Recipe


@dataclass(frozen=True)
class Models:
    """The networks that are measured."""

    trial: str
    """The trial whose recipe the singles were trained by."""
    recipes: Sequence[Recipe]
    singles: Sequence[nn.Sequential]
    averaged: nn.Sequential | None
    """The mean of the singles' tensors."""
    members: Mapping[str, tuple[Recipe, nn.Sequential]]
    """Networks of other recipes that an ensemble has."""
    student: nn.Sequential | None
    """What learned from the singles' answers."""
    others: Mapping[str, tuple[str, Recipe, nn.Sequential]]
    """"default" and "head": as the search trained them, with their trials and recipes."""

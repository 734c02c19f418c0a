"""A training as it is ordered: what the driver puts on the board, and a worker takes from it.

Nothing here imports torch: the board's own process would take seconds to start, and the refits with it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from raysearch.recipe import Recipe
from raysearch.record.final_events import On


@dataclass(frozen=True)
class Training:
    """One recipe to train whole."""

    name: str
    """The name of its folder under checkpoints/; what is there already, of the same digest, is not trained again."""
    trial: str
    """The trial whose recipe it is."""
    recipe: Recipe
    head_seed: int
    """Seeds the first stage of several: trainings that share it (and their images) share their head."""
    on: On
    fold: tuple[int, int] | None = None
    """The stratified part of the images that is held out, and how many parts there are; None: none is held out."""
    teachers: tuple[str, ...] = ()
    """Names of the trainings, of the same recipe but for their seeds, that a student learns from; none: it is none."""

    @property
    def digest(self) -> str:
        """Of all that its tensors follow from, the images aside; what it is called for has no part in it.

        Defaults have no part in it: a field that a later version adds leaves it as it was.
        """
        recipe = self.recipe.model_dump(mode="json", exclude_defaults=True)
        told = [recipe, self.head_seed, self.on, self.fold, self.teachers]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

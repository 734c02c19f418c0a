"""The base weights of a search's networks."""

from __future__ import annotations

from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import Recipe


class Shelf:
    """The weights of several networks, each loaded when it is first asked for, and kept from then on.

    Args:
        seed: draws random weights.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._loaded: dict[tuple[str, str], Weights] = {}

    def put(self, backbone: str, weights: Weights) -> None:
        """Keep weights that are loaded already, under the name that loads the same again."""
        self._loaded[backbone, weights.again] = weights

    def of(self, recipe: Recipe) -> Weights:
        """The weights that a recipe names.

        Raises:
            InputError: as `load_weights`.
        """
        named = recipe.backbone, recipe.weights
        if named not in self._loaded:
            self._loaded[named] = load_weights(*named, self._seed)
        return self._loaded[named]

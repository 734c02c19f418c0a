"""The base weights of a search's networks."""

from __future__ import annotations

from raysearch.models.weights import Weights, load_weights
from raysearch.recipe import Recipe, network_name


class Shelf:
    """The weights of several networks, each loaded when it is first asked for, and kept from then on.

    Args:
        seed: draws random weights.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._loaded: dict[str, Weights] = {}

    def put(self, backbone: str, weights: Weights) -> None:
        """Keep weights that are loaded already, under the name that loads the same again."""
        self._loaded[network_name(backbone, weights.again)] = weights

    def of(self, recipe: Recipe) -> Weights:
        """The weights that a recipe names.

        Raises:
            InputError: as `load_weights`.
        """
        if recipe.network not in self._loaded:
            self._loaded[recipe.network] = load_weights(recipe.backbone, recipe.weights, self._seed)
        return self._loaded[recipe.network]

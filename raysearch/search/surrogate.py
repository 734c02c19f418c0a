"""What a recipe would have been worth in a search that never tried it: an estimate from those that it tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.ensemble import RandomForestRegressor

from raysearch.recipe import Values

_TREES = 200


def estimated(
    tried: Sequence[Values],
    regrets: Sequence[float],
    wanted: Sequence[Values],
    distributions: Mapping[str, BaseDistribution],
) -> NDArray[np.float64]:
    """The regret of recipes in a search: as measured, or of those that it did not try a random forest's estimate.

    Forests of this size are how recorded searches are made into surrogates of themselves (Eggensperger et al. 2015);
    they need no tuning and cannot leave the range of what was measured. Several trials of one recipe are averaged.

    Args:
        tried: recipes of the search, each a value by dotted path, encoded.
        regrets: of each of them.
        wanted: the recipes that are asked about.
        distributions: of all paths, which say what lies near to what.

    Returns: shape (len(wanted),).
    """
    measured: dict[tuple[object, ...], list[float]] = {}
    for values, regret in zip(tried, regrets, strict=True):
        measured.setdefault(_key(values, distributions), []).append(regret)
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0)
    forest.fit(_features(tried, distributions), np.asarray(regrets, dtype=np.float64))
    found = np.asarray(forest.predict(_features(wanted, distributions)), dtype=np.float64)
    for place, values in enumerate(wanted):
        if (known := measured.get(_key(values, distributions))) is not None:
            found[place] = float(np.mean(known))
    return found


def _key(values: Values, distributions: Mapping[str, BaseDistribution]) -> tuple[object, ...]:
    return tuple(values[path] for path in distributions)


def _features(rows: Sequence[Values], distributions: Mapping[str, BaseDistribution]) -> NDArray[np.float64]:
    """A number a range, in logarithms where it is logarithmic, and one of 0 and 1 a choice: (rows, features)."""
    return np.array([[n for path, one in distributions.items() for n in _numbers(row[path], one)] for row in rows])


def _numbers(value: object, distribution: BaseDistribution) -> list[float]:
    if isinstance(distribution, CategoricalDistribution):
        return [float(value == choice) for choice in distribution.choices]
    assert isinstance(distribution, FloatDistribution | IntDistribution) and isinstance(value, int | float)
    return [math.log(value) if distribution.log else float(value)]

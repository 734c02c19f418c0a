"""What portfolio.py knows of recipes: what was recorded, and a guess at what others would score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from portfolio_table import STAGE
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import r2_score

from raysearch.search.portfolio import complementary

PORTFOLIO = 8
"""Recipes of a portfolio, the default among them."""
TREES = 300

Recipe = dict[str, Any]
"""Searched values by dotted path."""
Scores = NDArray[np.float64]
Space = Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class Table:
    """What was recorded; the first recipe is the default."""

    data_sets: list[str]
    recipes: list[Recipe]
    scores: Scores
    """Shape (data sets, recipes), after the last epoch; higher is better."""

    def portfolio(self, without: int | None = None) -> list[int]:
        """The default and the recipes that complement it, from all data sets but one."""
        scores = self.scores if without is None else np.delete(self.scores, without, axis=0)
        best, worst = scores.max(axis=1, keepdims=True), scores.min(axis=1, keepdims=True)
        regret = (best - scores) / np.maximum(best - worst, 1e-12)
        return [0, *complementary(regret, PORTFOLIO - 1, tried=[0])]


def read_table(file: Path, metric: str, space: Space) -> Table:
    """The table, with values as Optuna has them."""
    rows = pd.read_csv(file, keep_default_na=False)
    names = {path: path.removeprefix(STAGE) for path in space}
    first = rows[rows["data_set"] == rows["data_set"].iloc[0]]
    recipes = [{path: row[name] for path, name in names.items()} for row in first.to_dict("records")]
    last = [column for column in rows if column.startswith(f"{metric}_")][-1]
    by_set = rows.pivot_table(last, "data_set", "recipe").loc[rows["data_set"].unique()]
    sign = -1.0 if metric == "loss" else 100.0
    return Table([str(name) for name in by_set.index], recipes, sign * by_set.to_numpy(float))


def columns(recipes: Sequence[Recipe], space: Space) -> NDArray[np.float64]:
    """Recipes as numbers, shape (recipes, columns): logarithms where the range has them, a column for each word."""
    found: list[NDArray[np.float64]] = []
    for path, distribution in space.items():
        values = [recipe[path] for recipe in recipes]
        if isinstance(distribution, CategoricalDistribution) and isinstance(distribution.choices[0], str):
            found += [np.array(values) == choice for choice in distribution.choices]
        else:
            log = isinstance(distribution, FloatDistribution) and distribution.log
            found.append(np.log(values) if log else np.asarray(values, float))
    return np.column_stack(found).astype(np.float64)


class Surrogate:
    """Says what any recipe would score on one data set.

    Args:
        recipes: that were recorded.
        scores: of them, shape (recipes,).
        space: what is searched.
        remember: recorded recipes are judged by all trees, as any others are.
    """

    def __init__(self, recipes: Sequence[Recipe], scores: Scores, space: Space, *, remember: bool) -> None:
        self._space = space
        self._forest = RandomForestRegressor(TREES, oob_score=True, max_features=0.5, random_state=0)
        self._forest.fit(columns(recipes, self._space), scores)
        self.r2 = float(r2_score(scores, self._forest.oob_prediction_))
        self.recorded: Scores = self(recipes) if remember else self._forest.oob_prediction_
        """What recorded recipes would score, shape (recipes,)."""

    def __call__(self, recipes: Sequence[Recipe]) -> Scores:
        """Scores, shape (recipes,)."""
        found: Scores = self._forest.predict(columns(recipes, self._space))
        return found

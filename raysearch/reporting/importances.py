"""Which of the searched values made the difference, by functional ANOVA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from raysearch.reporting.charts import is_number, spans_decades

FEW = 5
"""Trials of a level; of fewer, importances say nothing."""
FOREST = 200
"""Trials of a level that importances are estimated from; their cost grows faster than the trials."""


def parameter_importances(compared: pd.DataFrame, searched: Mapping[int, Sequence[str]]) -> dict[int, dict[str, float]]:
    """How much of the variance of the score each searched value explains, by functional ANOVA (Hutter et al. 2014).

    The space is taken to be what was tried: values between the least and the largest of each. In a level of very many
    trials every second, third, … is taken: the best alone would hide what made the others worse.

    Args:
        compared, searched: as `comparable` gives them.

    Returns: level -> name -> share, the largest first; without levels of few trials, and those where all were alike.
    """
    found: dict[int, dict[str, float]] = {}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        for level, of_level in compared.groupby("level"):
            rows = of_level.iloc[:: -(-len(of_level) // FOREST)]
            names = [n for n in searched[level] if rows[n].notna().all() and rows[n].astype(str).nunique() > 1]
            if len(rows) < FEW or not names or rows["score"].nunique() < 2:
                continue
            distributions = {name: _distribution(rows[name]) for name in names}
            study = optuna.create_study()
            study.add_trials(
                [
                    create_trial(params={n: row[n] for n in names}, distributions=distributions, value=row["score"])
                    for row in rows.to_dict("records")
                ]
            )
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            try:
                shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
            except RuntimeError:  # the forest saw no variance at all
                continue
            found[level] = {name: float(share) for name, share in shares.items()}
    finally:
        optuna.logging.set_verbosity(before)
    return found


def _distribution(values: pd.Series) -> BaseDistribution:
    if not is_number(values):
        return CategoricalDistribution(sorted({*values}, key=str))
    return FloatDistribution(values.min(), values.max(), log=spans_decades(values))

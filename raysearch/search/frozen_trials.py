"""Trials as Optuna knows them, in a study that lives for one question."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from raysearch.record.trial import Trial
from raysearch.search.asha import Scores

Distributions = Mapping[str, BaseDistribution]

_WHEN = datetime(1970, 1, 1, tzinfo=UTC)  # Optuna wants to know, but the sampler does not look


class _Frozen(FrozenTrial):
    """A trial of a study that lives for one question, in which nothing changes it.

    Optuna's storage would copy it with all its distributions, which took longer than the proposal itself.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> _Frozen:
        return copy.copy(self)


def frozen_trial(
    trial: Trial, distributions: Distributions, scores: Mapping[str, Scores], short: float | None
) -> FrozenTrial:
    """A trial as Optuna knows it.

    Args:
        trial: of the search.
        distributions: of the values that are to be proposed.
        scores: of the trials that are compared, larger is better; who has none is running.
        short: by how much the trial misses what is required; None: nothing is.
    """
    values = {path: trial.params[path] for path in distributions}
    return frozen(values, distributions, scores.get(trial.name), short)


def frozen(
    values: Mapping[str, Any], distributions: Distributions, scores: Scores | None, short: float | None
) -> FrozenTrial:
    """What was drawn, and what came of it, as Optuna knows it; without scores it still runs.

    Args:
        values: of each of the distributions.
        distributions, short: as of `frozen_trial`.
        scores: by each metric, larger is better.
    """
    state = TrialState.RUNNING if scores is None else TrialState.COMPLETE
    made = _Frozen(
        number=-1,  # the study numbers it
        trial_id=-1,
        state=state,
        value=None,
        values=scores,
        datetime_start=_WHEN,
        datetime_complete=None if state is TrialState.RUNNING else _WHEN,
        params=dict(values),
        distributions=dict(distributions),
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )
    if short is not None:
        made.set_constraint("require", short)
    return made

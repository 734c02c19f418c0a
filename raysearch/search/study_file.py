"""Writes all trials of a study into an SQLite file at once.

Optuna itself adds one trial at a time, with a query for each of its values and a commit at its end: a search of 10,000
trials would wait for minutes before it says that it is over. The tables are Optuna's own, read from its models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState


def write_trials(storage: RDBStorage, study_name: str, trials: Iterable[FrozenTrial]) -> None:
    """Adds trials to a study of one objective that has none yet.

    Args:
        storage: in which the study is the only one.
        study_name: its name.
        trials: their values, parameters, user attributes and intermediate values are kept.
    """
    study, now = storage.get_study_id_from_name(study_name), datetime.now(UTC).replace(tzinfo=None)
    rows: dict[Any, list[dict[str, Any]]] = {
        models.TrialModel: [],
        models.TrialValueModel: [],
        models.TrialParamModel: [],
        models.TrialUserAttributeModel: [],
        models.TrialIntermediateValueModel: [],
    }
    for number, trial in enumerate(trials):
        over = None if trial.state is TrialState.RUNNING else now
        here = {"trial_id": number + 1}
        about = {"number": number, "study_id": study, "state": trial.state}
        rows[models.TrialModel].append(here | about | {"datetime_start": now, "datetime_complete": over})
        if trial.value is not None:
            value, kind = models.TrialValueModel.value_to_stored_repr(trial.value)
            rows[models.TrialValueModel].append(here | {"objective": 0, "value": value, "value_type": kind})
        for name, given in trial.params.items():
            distribution = trial.distributions[name]
            stored = {"param_value": distribution.to_internal_repr(given)}
            drawn = {"param_name": name, "distribution_json": distribution_to_json(distribution)}
            rows[models.TrialParamModel].append(here | stored | drawn)
        for key, attribute in trial.user_attrs.items():
            rows[models.TrialUserAttributeModel].append(here | {"key": key, "value_json": json.dumps(attribute)})
        for step, reported in trial.intermediate_values.items():
            at_step, its_kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(reported)
            told = {"step": step, "intermediate_value": at_step, "intermediate_value_type": its_kind}
            rows[models.TrialIntermediateValueModel].append(here | told)
    with storage.engine.begin() as connection:
        for model, values in rows.items():
            if values:
                connection.execute(model.__table__.insert(), values)

"""A search as a study file of Optuna's (SQLite), all of whose trials are written at once.

Optuna itself adds one trial at a time, with a query for each of its values and a commit at its end: a search of 10,000
trials would wait for minutes before it says that it is over. The tables are Optuna's own, read from its models.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from raysearch.record.metric import larger_is_better
from raysearch.record.trial import State, Trial
from raysearch.search.rules import Rules
from raysearch.search.sampler import parent_path
from raysearch.search.state import SearchState
from raysearch.space.space import Space
from raysearch.storage.files import replace_with

_STATES = {State.FAILED: TrialState.FAIL, State.DONE: TrialState.COMPLETE, State.STOPPED: TrialState.PRUNED}


def export_study(path: Path, state: SearchState, space: Space, name: str) -> None:
    """Write the whole study as an SQLite file that optuna-dashboard opens, replacing `path` at once.

    Where a space searches heads alone, they are the study's trials. Trials keep their names, states and intermediate
    values (the metric itself, not the score); of several metrics each is an objective, and their balance in between.
    """
    rules = state.rules
    upwards = [larger_is_better(one) for one in rules.several] or [rules.larger_is_better]
    directions = [StudyDirection.MAXIMIZE if larger else StudyDirection.MINIMIZE for larger in upwards]
    distributions = dict(space.distributions)
    for level in space.levels:
        if parents := list(
            {one.parent: None for one in state.tree.of_level(level) if parent_path(level) in one.params}
        ):
            distributions[parent_path(level)] = CategoricalDistribution(parents)

    def write(temporary: Path) -> None:
        storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
        optuna.create_study(study_name=name, storage=storage, directions=directions)
        shown = (trial for trial in state.trials.values() if trial.is_head == space.heads_only)
        write_trials(storage, name, [_exported(trial, distributions, rules) for trial in shown])
        storage.remove_session()
        storage.engine.dispose()

    # SQLite has errors of its own for a full disk: there, the file is only copied.
    with TemporaryDirectory(prefix="raysearch-study-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Path(scratch) / path.name
        write(made)
        replace_with(path, lambda temporary: shutil.copyfile(made, temporary))


def _exported(trial: Trial, distributions: Mapping[str, BaseDistribution], rules: Rules) -> FrozenTrial:
    state = _STATES.get(trial.state, TrialState.RUNNING)
    value = rules.figure(trial.best) if trial.best is not None else None
    each = [rules.figure_of(trial.best, one) for one in rules.several] if trial.best is not None else []
    values = (each or [value]) if value is not None and state in (TrialState.COMPLETE, TrialState.PRUNED) else None
    return create_trial(
        state=state,
        values=values,
        params=trial.params,
        distributions={path: distributions[path] for path in trial.params},
        user_attrs={"trial": trial.name, "parent": trial.parent, "epochs": trial.epochs},
        intermediate_values={trial.epochs: value} if value is not None else {},
    )


def write_trials(storage: RDBStorage, study_name: str, trials: Iterable[FrozenTrial]) -> None:
    """Adds trials to a study that has none yet.

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
        for objective, figure in enumerate(trial.values or ()):
            value, kind = models.TrialValueModel.value_to_stored_repr(figure)
            rows[models.TrialValueModel].append(here | {"objective": objective, "value": value, "value_type": kind})
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
